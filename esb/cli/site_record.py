"""The qualification record of a site: what was checked, on which files, with what result; as JSON, and as a page to file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from esb import __version__
from esb.cli.gateway import actor
from esb.cli.site_check import SiteCheck, Verdict
from esb.config.drafts import write_whole
from esb.config.site_items import site_item
from esb.formats.json import Json

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } td, th { border: 1px solid #b8bfc7; padding: .3rem .5rem; text-align: left }
th { background: #eef1f4 } td { overflow-wrap: anywhere; vertical-align: top } code { font-family: ui-monospace, monospace }
.passed { color: #14632f } .failed { color: #a01818 } .open { color: #7a4d00 } .sign td { height: 3rem }
@media print { body { margin: 0; max-width: none } h2 { break-after: avoid } }
"""


def record_of(check: SiteCheck, checks: Sequence[Any], verdict: Verdict) -> dict[str, Any]:
    """The record as plain data; secrets are not in it."""
    workspace, spec = check.loaded.workspace, check.spec
    known = workspace is not None and spec is not None
    files = {path for name in spec.routes for path in workspace.routes[name].files} if workspace and spec else set()
    settings = check.loaded.settings
    return {
        "site": check.site,
        "verdict": verdict,
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "by": actor(),
        "bus": settings.bus if settings is not None else "",
        "program": f"esb {__version__}",
        "configuration": site_item(spec, workspace) if known and spec is not None and workspace is not None else None,
        "files": {path: _sha256(check.root / path) for path in sorted({*files, *_samples(check)})},
        "checks": [
            {"check": one.name, "verdict": one.verdict, "words": one.words, "items": list(one.items)} for one in checks
        ],
    }


def _samples(check: SiteCheck) -> list[str]:
    """The sample files, from the workspace where they lie in it."""
    root = check.root
    return [str(path.relative_to(root) if path.is_relative_to(root) else path) for path in check.sampled]


def _sha256(path: Path) -> str:
    """Of the file as it lies there, so that anybody can compare it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_record(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``<SITE>.json`` and ``<SITE>.html``; both paths come back."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / f"{record['site']}.json", folder / f"{record['site']}.html"]
    text = msgspec.json.format(Json().encode({"kind": "SiteQualification", "items": [record]}), indent=2).decode()
    write_whole(places[0], text + "\n")
    write_whole(places[1], page_of(record))
    return places


def page_of(record: Mapping[str, Any]) -> str:
    """The record as one page without anything from elsewhere."""
    site, verdict = escape(str(record["site"])), record["verdict"]
    facts = [(name, record[name]) for name in ("bus", "program", "at", "by")]
    if made := record["configuration"]:
        facts += [(name, made[name]) for name in ("description", "timezone", "locale", "values", "tables")]
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>Qualification of site {site}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f'<h1>Qualification of site {site}: <span class="{verdict}">{verdict}</span></h1>',
        _table(("", ""), facts),
        "<h2>Checks</h2>",
        _table(("check", "verdict", "what was found"), [_row(one) for one in record["checks"]]),
    ]
    for one in record["checks"]:
        if one["items"]:
            parts += [f"<h2>{escape(one['check'].capitalize())}</h2>", _items(one["items"])]
    if record["configuration"]:
        routes = [
            (route["route"], route["template"], route["digest"][:12], ", ".join(o["field"] for o in route["overrides"]))
            for route in record["configuration"]["routes"]
        ]
        parts += ["<h2>Routes</h2>", _table(("route", "template", "version", "overrides"), routes)]
    parts += ["<h2>Files (SHA-256)</h2>", _table(("file", "fingerprint"), list(record["files"].items()))]
    parts += ['<h2>Released by</h2><table class="sign"><tr><th>name</th><th>date</th><th>signature</th></tr>']
    parts += ["<tr><td></td><td></td><td></td></tr></table></body></html>"]
    return "\n".join(parts) + "\n"


def _row(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return one["check"], one["verdict"], one["words"]


def _items(items: Sequence[Mapping[str, Any]]) -> str:
    columns = [
        key
        for key in dict.fromkeys(key for item in items for key in item)
        if any(item.get(key) not in ([], "") for item in items)
    ]
    return _table(tuple(columns), [tuple(item.get(column, "") for column in columns) for item in items])


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [f"<tr>{titles}</tr>"] if any(head) else []
    for row in rows:
        cells = "".join(f"<td{_tone(cell)}>{escape(_text(cell))}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return "<table>" + "".join(lines) + "</table>"


def _tone(cell: Any) -> str:
    return f' class="{cell}"' if cell in ("passed", "failed", "open") else ""


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items())
    return Json().encode(value).decode()
