"""``esb evidence``: everything about a lot as one archive that shows whether it was changed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from esb.cli import exits
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import emit_json


@click.group(invoke_without_command=True)
@click.option(
    "--track", multiple=True, metavar="NAME=VALUE", help="The tracked value, such as `lot=4711`; several must all fit."
)
@click.option("--since", help="Accepted since: `24h` ago or an RFC 3339 time.")
@click.option("--until", help="Accepted before.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The archive to write (.zip).")
@click.option("--reason", default="", help="Why it is made; kept in the audit and in the archive.")
@workspace_option
@json_option
@click.pass_context
def evidence(
    ctx: click.Context,
    track: tuple[str, ...],
    since: str | None,
    until: str | None,
    output: Path | None,
    reason: str,
    root: Path,
    as_json: bool,
) -> None:
    """Everything about a lot as one archive: messages, payloads, route versions, deliveries, actors and audit entries.

    `summary.html` inside is for the reader, `manifest.json` has the SHA-256 of every file. The archive is entered into the audit.
    """
    if ctx.invoked_subcommand is not None:
        return
    if not track or output is None or not reason:
        raise click.UsageError("give --track NAME=VALUE, -o FILE and --reason TEXT")
    from esb.cli.evidence_pack import Asked, pack

    done = pack(Gateway(root), Asked(track, since, until, reason), output)
    if as_json:
        emit_json({"kind": "Evidence", "items": [done]})
    else:
        click.echo(f"{output}: {done['messages']} messages, {done['files']} files, sha256 {done['manifest_sha256']}")


@evidence.command("verify")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-C",
    "--dir",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also ask the audit of this workspace's bus.",
)
@click.option("--key", default="", help="The public key that must have signed it, as `esb evidence key` prints it.")
@json_option
def evidence_verify(file: Path, root: Path | None, key: str, as_json: bool) -> None:
    """Check an archive, offline: every hash, the chain of the audit, the signature. Exit code 1 where something was changed.

    With --key it must be signed with that key. With -C the bus must hold that key, and its audit must know the archive.
    """
    from esb.admin.sealing import fingerprint
    from esb.cli.evidence_pack import verify

    if not file.is_file():
        raise exits.Exit(f"no file {file}", exits.MISSING)
    faults, facts = verify(file, Gateway(root) if root is not None else None, key.strip())
    if as_json:
        emit_json({"kind": "EvidenceFaults", "items": [{"fault": fault} for fault in faults], "facts": facts})
    else:
        for fault in faults:
            click.echo(f"✗ {fault}")
        if not faults:
            click.echo(
                f"unchanged: {facts['files']} files about {facts['subject']}, made {facts['made_at']} by {facts['made_by']}"
            )
            click.echo(f"signed with the key {facts['public_key']} ({fingerprint(facts['public_key'])})")
            if root is None and not key:
                click.echo(
                    "whose key that is the archive cannot tell: give --key, or compare with `esb evidence key` there"
                )
    sys.exit(exits.NO if faults else exits.DONE)


@evidence.command("key")
@workspace_option
@json_option
def evidence_key(root: Path, as_json: bool) -> None:
    """The public key that archives of this bus are signed with; made where there is none yet. Give it to whoever checks them."""
    from esb.admin.sealing import fingerprint

    found = Gateway(root).post("/evidence/key", {})
    if as_json:
        emit_json(found)
    else:
        click.echo(found["items"][0]["public_key"])
        click.echo(f"fingerprint {fingerprint(found['items'][0]['public_key'])}", err=True)
