"""``esb config``, ``esb graph`` and ``esb ping``: what a workspace holds, how its routes hang together, who answers."""

from __future__ import annotations

import dataclasses
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from esb.cli import exits, names
from esb.cli.places import read_or_fail

#: ports where an address names none
PORTS = {"http": 80, "https": 443, "amqp": 5672, "amqps": 5671, "mqtt": 1883, "mqtts": 8883, "redis": 6379, "rediss": 6379, "postgresql+psycopg": 5432, "mysql+pymysql": 3306, "mariadb+pymysql": 3306, "mssql+pyodbc": 1433, "oracle+oracledb": 1521}  # fmt: skip


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
def config(directory: Path, as_json: bool) -> None:
    """The settings that are in force: esb.yaml, environment and defaults. Secrets are never shown."""
    from esb.cli.output import emit_json

    items = settings_items(read_or_fail(directory, "config").settings)
    if as_json:
        emit_json({"kind": "Config", "items": items})
        return
    width = max(len(item["name"]) for item in items)
    for item in items:
        click.echo(f"{item['name']:<{width}}  {item['value']}")


def settings_items(settings: Any) -> list[dict[str, str]]:
    """Every setting that is in force, with its path; secrets show as ``***``."""
    return [{"name": name, "value": value} for name, value in _flat("", settings)]


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every setting with its path; a :class:`~esb.secret.Secret` shows as ``***`` by itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _flat(f"{name}.{field.name}".lstrip("."), getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif value is not None:
        yield name, _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "svg", "json"]),
    default="text",
    show_default=True,
    help="How it is written.",
)
def graph(directory: Path, form: str) -> None:
    """Which route takes messages from where and hands them to whom."""
    from esb.outline import graph as drawn

    edges = drawn.edges_of(read_or_fail(directory, "graph"))
    if form == "json":
        from esb.cli.output import emit_json

        items = [{"from": edge.start, "to": edge.end, "by": edge.by} for edge in edges]
        emit_json({"kind": "Graph", "items": items})
        return
    click.echo({"text": drawn.text, "mermaid": drawn.mermaid, "svg": drawn.svg}[form](edges))


@click.command()
@click.argument("connectors", nargs=-1, shell_complete=names.connectors)
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The workspace."
)
@click.option("--timeout", type=float, default=3.0, show_default=True, help="Seconds for each.")
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
def ping(connectors: tuple[str, ...], directory: Path, timeout: float, as_json: bool) -> None:
    """Whether the systems behind CONNECTORS (all without names) take a connection. Exit code 69 where one does not."""
    from esb.cli.output import emit_json

    known = read_or_fail(directory, "ping").connectors
    unknown = [name for name in connectors if name not in known]
    if unknown:
        raise exits.Exit(
            f"no connector {unknown[0]}", exits.MISSING, hint="known here: " + (", ".join(sorted(known)) or "none")
        )
    items = [ping_item(name, known[name].connection, timeout) for name in connectors or sorted(known)]
    if as_json:
        emit_json({"kind": "Ping", "items": items})
    else:
        if not items:
            click.echo("no connectors")
        for item in items:
            click.echo(f"{item['connector']:<24} {item['address']:<32} {item['said']}")
    sys.exit(exits.DONE if all(item["reached"] for item in items) else exits.UNREACHABLE)


def ping_all(root: Path, timeout: float = 3.0) -> list[dict[str, Any]]:
    """Every connector of a workspace, asked for a connection; none where the workspace has faults."""
    from esb.config.loader import load_workspace

    workspace, _ = load_workspace(root, need_secrets=False)
    known = workspace.connectors if workspace is not None else {}
    return [ping_item(name, known[name].connection, timeout) for name in sorted(known)]


def ping_item(name: str, options: Any, timeout: float) -> dict[str, Any]:
    """Whether the system behind a connector takes a connection."""
    host, port = _address(options)
    if not host:
        return {"connector": name, "address": "-", "reached": True, "said": "nothing to reach over the network"}
    began = time.monotonic()
    try:
        socket.create_connection((host, port), timeout=timeout).close()
    except OSError as error:
        said, reached = f"unreachable: {error.strerror or error}", False
    else:
        said, reached = f"reached in {(time.monotonic() - began) * 1000:.0f} ms", True
    return {"connector": name, "address": f"{host}:{port}", "reached": reached, "said": said}


def _address(options: Any) -> tuple[str, int]:
    host = getattr(options, "host", "")
    if host:
        return host, int(getattr(options, "port", 0))
    url = getattr(options, "base_url", "") or getattr(options, "url", "")
    parts = urlsplit(url.reveal() if hasattr(url, "reveal") else str(url))
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
