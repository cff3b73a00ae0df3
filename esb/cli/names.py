"""The names of a workspace for the completion of a shell: found in the texts of its files, which are not loaded for it.

A shell asks at every Tab, so that this takes milliseconds; a name that is not found is merely not offered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

#: Files that are looked at, at most.
MOST = 2000
_ENDS = re.compile(r"^---.*$", re.MULTILINE)
_HEAD = re.compile(r"""^(route|template|site|connector):[ ]*["']?([\w.-]+)""", re.MULTILINE)
#: a route in the list of a template
_INNER = re.compile(r"""^[ ]*-[ ]+\{?[ ]*route:[ ]*["']?([\w.-]+)""", re.MULTILINE)


def routes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Routes that begin so, those of the sites included."""
    found = _documents(_root(ctx), "routes")
    templates = {name: text for kind, name, text in found if kind == "template"}
    names = [name for kind, name, _ in found if kind == "route"]
    for kind, site, text in found:
        used = templates if kind == "site" else {}
        for template in (one for one in used if re.search(rf"(?<![\w-]){re.escape(one)}(?![\w-])", text)):
            # named as esb.config.sites.route_name says, which would cost its imports
            names += [f"{base}-{site.lower()}" for base in _INNER.findall(templates[template]) or [template]]
    return _that_begin(incomplete, names)


def routes_and_codes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Routes, and the codes of diagnostics once their first letters stand there."""
    if not incomplete.upper().startswith("ESB"):
        return routes(ctx, param, incomplete)
    from esb.config.codes import CODES

    return _that_begin(incomplete.upper(), CODES)


def connectors(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Systems that begin so."""
    return _that_begin(incomplete, _named(ctx, "connectors", "connector"))


def templates(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Templates of routes that begin so."""
    return _that_begin(incomplete, _named(ctx, "routes", "template"))


def sites(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Sites that begin so."""
    return _that_begin(incomplete, _named(ctx, "routes", "site"))


def _named(ctx: click.Context, folder: str, kind: str) -> list[str]:
    return [name for one, name, _ in _documents(_root(ctx), folder) if one == kind]


def _that_begin(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})


def _root(ctx: click.Context) -> Path:
    """The workspace that the command line names so far, else the current folder."""
    given = ctx.params.get("root") or ctx.params.get("directory")
    return Path(given) if given else Path()


def _documents(root: Path, folder: str) -> list[tuple[str, str, str]]:
    """Kind, name and text of every document that begins with a name."""
    return [
        (found[1], found[2], text)
        for path in _files(root / folder)
        for text in _ENDS.split(path)
        if (found := _HEAD.search(text)) is not None
    ]


def _files(folder: Path) -> Iterator[str]:
    places = (path for path in sorted(folder.rglob("*.y*ml")) if not path.name.endswith((".test.yaml", ".test.yml")))
    for _, path in zip(range(MOST), places, strict=False):
        try:
            yield path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
