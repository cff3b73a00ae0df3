"""File names and path templates that no message can bend.

Names and folders are built from templates of the workspace and values of messages. The template's author is trusted, the
values are not: a value may fill a part of a name, but never add a separator, a way up, an absolute start, a hidden name, a
character that some file system forbids, or more bytes than a name may have.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esb.errors import InternalFault, Rejected
from esb.language import SCOPE_NAMES, TextTemplate

#: Longest file name in bytes on every usual file system.
LONGEST = 255

#: Folders of the workspace that hold the bus itself: no message writes there, no route takes files there.
OWN_FOLDERS = (".esb", ".secrets", "connectors", "routes", "schemas", "transforms")

_FORBIDDEN = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f]')
_SEPARATORS = re.compile(r"[/\\\x00]")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_=+@,()\-]*(\.[A-Za-z0-9_=+@,()\-]+)*")
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
_HOLES = re.compile(r"\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
_FIRST_HOLE = re.compile(r"\{\{|\{%|\{#")
_SITE = re.compile(r"\{\{-?\s*site((?:\.\w+)+)\s*-?\}\}")
#: controls, invisible and direction marks, lone surrogates, line separators
_BAD_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_hostile(name: str) -> bool:
    """Whether a name found in a folder should not be handed on as it is: undecodable bytes, controls, marks, backslash."""
    return (not name.isascii() and any(unicodedata.category(ch) in _BAD_CATEGORIES for ch in name)) or bool(
        re.search(r"[\\\x00-\x1f\x7f]", name)
    )


def clean_name(name: str, *, hidden: bool = False) -> str:
    """``name`` as one safe part of a path on every system; ``_`` stands for what may not be there.

    ``hidden`` keeps a leading dot. Reserved device names (``CON``), trailing dots and spaces, a leading ``-`` or ``~``
    and names above 255 bytes are altered, too; a name that had to be cut ends in a digest of its whole text.
    """
    if len(name) <= 100 and _PLAIN.fullmatch(name) and not _DEVICE.match(name):
        return name
    text = _FORBIDDEN.sub("_", name)
    if not text.isascii():
        text = "".join("_" if unicodedata.category(ch) in _BAD_CATEGORIES else ch for ch in text)
    if text[:1] in ("-", "~", " ") or (text[:1] == "." and not (hidden and text.strip(". "))):
        text = "_" + text[1:]
    if text[-1:] in (".", " "):
        text = text[:-1] + "_"
    if not text or _DEVICE.match(text):
        text = "_" + text
    return _cut(text)


def _cut(text: str) -> str:
    if len(text.encode()) <= LONGEST:
        return text
    stem, suffix = split_suffix(text)
    if len(suffix.encode()) > 32:
        stem, suffix = text, ""
    tail = f"~{hashlib.sha256(text.encode()).hexdigest()[:12]}{suffix}"
    room = LONGEST - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore") + tail


def split_suffix(name: str) -> tuple[str, str]:
    """``orders.csv`` as ``("orders", ".csv")``; a leading dot begins no suffix."""
    at = name.rfind(".")
    return (name[:at], name[at:]) if at > 0 else (name, "")


def numbered(name: str, number: int) -> str:
    """The name to take where ``name`` is taken: ``orders.1.csv``; ``name`` itself for 0."""
    if number == 0:
        return name
    stem, suffix = split_suffix(name)
    return _cut(f"{stem}.{number}{suffix}")


def with_mark(name: str, mark: str) -> str:
    """The name with ``mark`` before its suffix: ``orders.1f3a.csv``."""
    stem, suffix = split_suffix(name)
    return _cut(f"{stem}.{mark}{suffix}")


# -- templates ----------------------------------------------------------------------------------------------------------


def fixed_folder(text: str) -> str:
    """The folder that a template's text begins with whatever the values are, with its slash; empty where there is none."""
    hole = _FIRST_HOLE.search(text)
    literal = text[: hole.start()] if hole else text
    return literal[: literal.rfind("/") + 1]


@dataclass(frozen=True, slots=True)
class SafePath:
    """A rendered path: ``base`` is the author's own folder, ``parts`` are the clean names below it."""

    base: str
    parts: tuple[str, ...]


def render_path(template: TextTemplate, scope: Mapping[str, Any], *, folder: bool = False) -> SafePath:
    """Render a path of the workspace over the values of a message.

    Separators in values become ``_``; those of the template, and those that its own text makes
    (``date_format('%Y/%m')``), stay. ``folder`` allows a slash at the end. Raises Rejected where a value leaves a part of
    the path empty, and InternalFault where the template fails.
    """
    text = _SITE.sub(lambda match: _site_value(match, scope), template.text)
    rendered = _render(template, text, scope)
    if folder:
        text, rendered = (t if t.endswith("/") else t + "/" for t in (text, rendered))
    base = fixed_folder(text)
    if not rendered.startswith(base):
        raise Rejected(f"path `{template.text[:200]}` gives {rendered[:200]!r}, outside of {base!r}")
    rest = rendered[len(base) :]
    if folder and rest.endswith("/"):
        rest = rest[:-1]
    names = rest.split("/") if rest or not folder else []
    if not all(name.strip(" ") for name in names):
        raise Rejected(
            f"path `{template.text[:200]}` gives {rendered[:200]!r}: a part of it is empty",
            hint="a value is missing; give it a default: {{ body.x | default('unknown') }}",
        )
    hidden = "/." in text or text.startswith(".")
    return SafePath(base, tuple(clean_name(name, hidden=hidden) for name in names))


def _site_value(match: re.Match[str], scope: Mapping[str, Any]) -> str:
    """``{{ site.x }}`` is the workspace's own text, so it may hold folders."""
    value: Any = scope.get("site", {})
    for name in match[1][1:].split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else match[0]


def _render(template: TextTemplate, text: str, scope: Mapping[str, Any]) -> str:
    rendered = template.render(scope)
    outside = _HOLES.sub("", text)
    if not _FIRST_HOLE.search(outside) and rendered.count("/") == outside.count("/"):
        return rendered  # every separator is the template's own
    needed = {name: scope[name] for name in SCOPE_NAMES if name in template.text and name in scope}
    tame = {name: value if name == "site" else _tame(value) for name, value in needed.items()}
    try:
        return template.render({**scope, **tame})
    except InternalFault as error:
        raise Rejected(
            f"path `{template.text[:200]}`: a value holds a path separator, and without it: {error.message}",
            hint="prepare the text in a `set` step (vars.name) and use that",
        ) from error


def _tame(value: Any) -> Any:
    """The same value without path separators in any of its texts."""
    if isinstance(value, str):
        return _SEPARATORS.sub("_", value)
    if isinstance(value, Mapping):
        return {_tame(name): _tame(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tame(item) for item in value]
    if isinstance(value, bytes):
        return _SEPARATORS.sub("_", value.decode("utf-8", "replace"))
    return value


__all__ = [
    "LONGEST",
    "OWN_FOLDERS",
    "SafePath",
    "clean_name",
    "fixed_folder",
    "is_hostile",
    "numbered",
    "render_path",
    "split_suffix",
    "with_mark",
]
