"""``esb audit``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from esb.cli import exits
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import clock, emit_json, table


@click.group()
def audit() -> None:
    """Who did what and why; verify the chain."""


@audit.command("ls")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@workspace_option
@json_option
def audit_ls(limit: int, root: Path, as_json: bool) -> None:
    """The newest entries."""
    found = Gateway(root).get("/audit", {"limit": limit})
    if as_json:
        emit_json(found)
        return
    rows = [{**item, "when": clock(item["at"]), "reason": _why(item)} for item in found["items"]]
    table(
        rows,
        [
            ("SEQ", "seq"),
            ("WHEN", "when"),
            ("WHO", "actor"),
            ("WHAT", "action"),
            ("OBJECT", "object"),
            ("WHY", "reason"),
        ],
        empty="no entries",
    )


def _why(item: dict[str, Any]) -> str:
    """The reason, with the signature and the second person where there are any."""
    words, signature = [item["reason"]], item["detail"].get("signature")
    if signature:
        words.append(f"[signed by {signature['name'] or signature['user']}: {signature['meaning']}]")
    if item["detail"].get("approved_by"):
        words.append(f"[approved by {item['detail']['approved_by']}]")
    return " ".join(filter(None, words))


@audit.command("export")
@workspace_option
@json_option
def audit_export(root: Path, as_json: bool) -> None:
    """Every entry as JSON lines on stdout, with its hash."""
    if as_json:
        emit_json({"kind": "AuditList", "items": list(_entries(Gateway(root)))})
        return
    for item in _entries(Gateway(root)):
        click.echo(json.dumps(item, ensure_ascii=False))


@audit.command("verify")
@click.option(
    "--anchor",
    "anchor",
    type=click.Path(path_type=Path),
    help="Compare with this anchor file, instead of the one in esb.yaml.",
)
@workspace_option
@json_option
def audit_verify(anchor: Path | None, root: Path, as_json: bool) -> None:
    """Recompute the hash chain; exit code 1 where an entry was edited, deleted, inserted or moved.

    A cut end and a rewrite of the whole chain need not leave a trace inside: those are found by comparing with the anchor,
    the file outside of the store that `audit: { anchor: PATH }` in esb.yaml names.
    """
    found = Gateway(root).get("/audit/verify")
    items = [{**item, "needs_anchor": False} for item in found["items"]]
    shown = _against_anchor(root, anchor)
    if not items:  # what the chain shows by itself needs no second witness
        items = [{"fault": fault, "needs_anchor": True} for fault in shown or []]
    found["items"] = items
    if as_json:
        emit_json(found)
    else:
        for item in items:
            click.echo(f"✗ {item['fault']}" + (" (only the anchor shows this)" if item["needs_anchor"] else ""))
        if not items:
            click.echo("the chain is whole" + ("" if shown is None else ", and the anchor confirms it"))
            if shown is None:
                click.echo(
                    "without an anchor a cut end or a rewrite of everything cannot be shown: audit.anchor in esb.yaml"
                )
    sys.exit(exits.NO if found["items"] else exits.DONE)


def _against_anchor(root: Path, named: Path | None) -> list[str] | None:
    """What the anchor shows; None where there is none."""
    from esb.config.loader import settings_at
    from esb.store.anchor import compare

    settings = settings_at(root.resolve())
    audit_settings = settings.audit if settings is not None else None
    if named is None and (audit_settings is None or not audit_settings.anchor):
        return None
    path = named or root / (audit_settings.anchor if audit_settings is not None else "")
    entries = list(_entries(Gateway(root)))
    if not path.is_file():
        if named is None and not entries:
            return []
        raise exits.Exit(
            f"no anchor file {path}", exits.MISSING, hint="bring the copy that was kept outside of the store"
        )
    key = audit_settings.key if audit_settings is not None else None
    return compare(entries, path.read_text("utf-8", "replace").splitlines(), key)


def _entries(gateway: Gateway) -> Iterator[dict[str, Any]]:
    after = 0
    while items := gateway.get("/audit", {"limit": 10_000, "after": str(after)})["items"]:
        yield from items
        after = items[-1]["seq"]
