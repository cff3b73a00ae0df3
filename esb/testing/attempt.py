"""One transformation tried on one payload, in a route made for it: the same reading, steps and errors as in the bus."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from esb.config.files import Files
from esb.config.loader import read_workspace
from esb.errors import Problem
from esb.formats.json import Json
from esb.message import Envelope, new_id
from esb.testing.capture import to_yaml
from esb.testing.clock import VirtualClock
from esb.testing.rehearse import Trial, rehearse

#: Where the route stands that is made for it, and what it is called.
PLACE, NAME, OUT = "routes/try-it.yaml", "try-it", "try-it-out"
#: A text that begins like JSON, not like Jinja.
_JSON = re.compile(r"\[|\{(?![{%])")
_UNSET = re.compile(r"`vars\.(\w+)` is never set in this route")
ENDINGS = (".jmes", ".j2")


@dataclass(frozen=True, slots=True)
class Tried:
    """``body`` is what came out; else ``error`` (what befell the message) or ``problems`` (what is wrong with the words)."""

    body: Any = None
    error: Mapping[str, Any] | None = None
    problems: tuple[Problem, ...] = ()
    lines: Mapping[str, list[str]] | None = None  #: of the files that problems speak of

    @property
    def good(self) -> bool:
        return self.error is None and not self.problems


def step_of(words: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The step that is meant: a file of `transforms/`, a mapping of fields in YAML, a Jinja text, else a JMESPath expression."""
    name = words.strip()
    for path in (name, f"transforms/{name}"):
        if path in files:
            return {"transform": path}
    if "{{" in name or "{%" in name:
        return {"transform": {"jinja": words, "format": "json" if _JSON.match(name) else "text"}}
    fields = _fields(words)
    return {"map": fields} if fields is not None else {"transform": {"jmespath": words}}


def _fields(words: str) -> Any:
    """A mapping of target fields to expressions: YAML with at least one `name: expression`, not a JMESPath object."""
    from esb.config.yaml import read_documents  # noqa: PLC0415 - only here
    from esb.spec import MapNode, to_plain  # noqa: PLC0415 - the same

    if words.lstrip().startswith("{") and "\n" not in words:
        return None  # `{ a: body.x }` is both; as JMESPath it means the same
    found, whole = read_documents(words, PLACE, lambda _: None)
    if not whole or len(found) != 1 or not isinstance(found[0].node, MapNode):
        return None
    return to_plain(found[0].node)


def attempt(
    root: Path,
    words: str,
    payload: bytes,
    *,
    name: str = "",
    form: str = "",
    headers: Mapping[str, str] | None = None,
    contract: str = "",
    variables: Mapping[str, Any] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Tried:
    """Try a transformation on a payload. ``name`` (of its file) or ``form`` (``csv``, ``{ csv: { delimiter: ";" } }``) say how the payload is read, ``variables`` are
    `vars` (those that it reads and that are not given are null), ``extra`` are files besides those of the workspace. Raises nothing for content."""
    clock = VirtualClock()
    texts = {**_texts(root), **(extra or {})}
    given = dict(variables or {})
    source: dict[str, Any] = {
        "path": "try-it/*",
        **({"format": _fields(f"{form}\n") or form} if form else {}),
        **({"contract": contract} if contract else {}),
    }
    while True:
        sets = (
            [{"set": {f"vars.{key}": f"`{Json().encode(value).decode()}`" for key, value in given.items()}}]
            if given
            else []
        )
        steps = [*sets, step_of(words, texts), {"publish": OUT}]
        texts[PLACE] = to_yaml({"route": NAME, "from": {"file": source}, "steps": steps})
        loaded = read_workspace(root, texts=texts, need_secrets=False, clock=clock)
        unset = {match[1] for problem in loaded.errors if (match := _UNSET.match(problem.message))} - set(given)
        if not unset:
            break
        given |= dict.fromkeys(unset)
    if loaded.workspace is None:
        return Tried(problems=tuple(loaded.errors), lines={path: text.splitlines() for path, text in texts.items()})
    now = datetime.now(UTC)
    id_ = new_id()
    meta = {"file_name": name, "source": {"type": "file"}} if name else {}
    envelope = Envelope(
        id_, NAME, payload, "source", now, origin=id_, correlation_id=id_, headers=dict(headers or {}), meta=meta
    )
    [found] = rehearse(loaded.workspace, NAME, [Trial(envelope, "queued", {})], clock)
    if found.published:
        return Tried(found.published[0]["body"])
    return Tried(error=found.error or {"class": found.state, "message": found.reason or "nothing came out", "step": ""})


def _texts(root: Path) -> dict[str, str]:
    """What a transformation can refer to: tables, includes, contracts and settings, but no route and no system."""
    loaded = read_workspace(root, need_secrets=False)
    texts = loaded.workspace.texts if loaded.workspace is not None else _on_disk(root)
    found = {path: text for path, text in texts.items() if path.startswith(("schemas/", "transforms/"))}
    if loaded.settings is not None:
        found["esb.yaml"] = to_yaml({"timezone": loaded.settings.timezone, "site": dict(loaded.settings.site)})
    return found


def _on_disk(root: Path) -> dict[str, str]:
    """The files of a workspace that has faults: what is tried may be the one that is being mended."""
    files = Files(root, lambda _: None)
    paths = [path for folder in ("schemas", "transforms") for path in files.find(folder, "")]
    return {path: text for path in paths if (text := files.text(path)) is not None}


def beside(path: Path) -> tuple[str, dict[str, str]]:
    """A transform file that is not of the workspace: its name there, and its text. Raises OSError, UnicodeDecodeError."""
    place = posixpath.join("transforms", PurePosixPath(path.name).name)
    return place, {place: path.read_text(encoding="utf-8")}
