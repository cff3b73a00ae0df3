"""``esb report``: a support bundle without secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from esb.cli import exits
from esb.cli.gateway import Gateway, json_option
from esb.cli.output import emit_json
from esb.cli.places import workspace_folder


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The zip; esb-report-TIME.zip without it.")
@click.option("--no-files", is_flag=True, help="Leave esb.yaml, routes and connectors out.")
@json_option
def report(directory: Path, out: Path | None, no_files: bool, as_json: bool) -> None:
    """Write a support bundle: versions, settings, status, recent errors, doctor, lint, and the files of the workspace.

    No payload, no text of an error, no key and no name of a person is in it. Secrets and what looks like credentials are taken out, and
    the bundle is searched for them before it is written. Works with the bus running, stopped or unable to start.
    """
    from esb.config.drafts import write_whole
    from esb.report import Redactor, bundle, parts

    root = workspace_folder(directory, "report")
    now = datetime.now(UTC)
    place = out or Path(f"esb-report-{now:%Y%m%dT%H%M%SZ}.zip")
    files = parts(_answers(root), _texts(root, with_files=not no_files))
    write_whole(place, bundle(files, Redactor.of(root), now))
    if as_json:
        emit_json({"kind": "Report", "items": [{"path": str(place), "files": sorted(files)}]})
    else:
        click.echo(f"{place}: {len(files)} files; look into it before you send it")


def _answers(root: Path) -> dict[str, Any]:
    """What the bus or its store says; a bus that cannot be asked says why."""
    from esb.errors import EsbError

    found: dict[str, Any] = {}
    gateway = Gateway(root)
    if not (root / ".esb").is_dir():
        return {"bus": "no bus ran here yet"}
    for name, path in (("bus", ""), ("status", "/status"), ("groups", "/dlq/groups"), ("audit", "/audit")):
        try:
            found[name] = gateway.get(path, {"limit": 100} if name == "audit" else None)["items"]
        except (exits.Exit, EsbError) as error:
            found["bus"] = f"it cannot be asked: {error}"
            break
    return found


def _texts(root: Path, *, with_files: bool) -> dict[str, str]:
    from esb.cli.author import line_reader
    from esb.cli.inspect import settings_items
    from esb.config.diagnostics import render_text
    from esb.config.loader import read_workspace
    from esb.doctor import examine
    from esb.outline import graph

    loaded = read_workspace(root, need_secrets=False)
    found = {
        "doctor.txt": "\n".join(
            f"{one.level:<8} {one.name:<16} {one.said}  {one.todo}".rstrip() for one in examine(root)
        ),
        "lint.txt": render_text(loaded.problems, line_reader(root)) or "no problems",
    }
    if loaded.settings is not None:
        found["settings.txt"] = "\n".join(
            f"{item['name']} = {item['value']}" for item in settings_items(loaded.settings)
        )
    if loaded.workspace is not None:
        found["graph.txt"] = graph.text(graph.edges_of(loaded.workspace))
    if with_files:
        places = [
            root / "esb.yaml",
            *sorted((root / "routes").rglob("*.yaml")),
            *sorted((root / "connectors").rglob("*.yaml")),
        ]
        for place in places:
            if not place.name.endswith(".test.yaml"):
                found |= _text_of(place, f"workspace/{place.relative_to(root).as_posix()}")
    return found


def _text_of(place: Path, name: str) -> dict[str, str]:
    """The text of a file, or why it cannot be read: that may be what the bundle is made for."""
    try:
        return {name: place.read_text(encoding="utf-8", errors="replace")} if place.is_file() else {}
    except OSError as error:
        return {name: f"cannot be read: {error.strerror}\n"}
