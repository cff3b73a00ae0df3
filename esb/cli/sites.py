"""``esb sites``: plants that come from templates: list, add, check, compare."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits, names
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import compact, emit_json, safe, table

if TYPE_CHECKING:
    from esb.config.model import Workspace
    from esb.config.sites import SiteSpec

_SIGNS = {"passed": "✓", "failed": "✗", "open": "!"}


@click.group()
def sites() -> None:
    """Plants that come from templates: list them, add one, prove that one can go live, compare."""


@sites.command("ls")
@workspace_option
@json_option
def ls(root: Path, as_json: bool) -> None:
    """Every site with its templates and routes; with their states where the bus runs."""
    found = Gateway(root).get("/sites")
    if as_json:
        emit_json(found)
        return
    rows = [
        {
            **site,
            "used": ", ".join(use["template"] for use in site["templates"]),
            "count": len(site["routes"]),
            "states": _states(site["routes"]),
            "own": sum(len(route["overrides"]) for route in site["routes"]),
        }
        for site in found["items"]
    ]
    columns = [("SITE", "site"), ("ROUTES", "count"), ("STATES", "states"), ("TIME ZONE", "timezone"),
               ("LOCALE", "locale"), ("OVERRIDES", "own"), ("TEMPLATES", "used")]  # fmt: skip
    table(rows, columns, empty="no sites; write one: esb sites add SITE --template NAME")


def _states(routes: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for route in routes:
        counts[route["state"]] = counts.get(route["state"], 0) + 1
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


# -- add ----------------------------------------------------------------------------------------------------------------


@sites.command("add")
@click.argument("site")
@click.option(
    "--template",
    "templates",
    multiple=True,
    required=True,
    help="A template that it uses; again for more.",
    shell_complete=names.templates,
)
@click.option(
    "--param", "params", multiple=True, metavar="K=V", help="A parameter; `erp.client=200` for a connector's."
)
@click.option(
    "--connector", "connectors", multiple=True, metavar="NAME=OTHER", help="Another connector under a template's name."
)
@click.option("--value", "values", multiple=True, metavar="K=V", help="What expressions see as `site.K`.")
@click.option(
    "--table", "tables", multiple=True, metavar="NAME=OWN", help="A table of its own under a template's name."
)
@click.option("--timezone", default="", help="Time zone; that of esb.yaml without it.")
@click.option("--locale", default="", help="How numbers are written there.")
@click.option("--description", default="", help="Which plant it is.")
@click.option("--stdout", "show", is_flag=True, help="Print it, also unfinished; write nothing.")
@workspace_option
@json_option
def add(site: str, templates: tuple[str, ...], show: bool, root: Path, as_json: bool, **words: Any) -> None:
    """Write routes/sites/SITE.yaml, with every parameter and what it means. Nothing is written that does not lint.

    A running bus that watches its files takes the site up at once. Exit code 1: it would not lint.
    """
    from esb.cli.site_file import SiteFile, Wanted
    from esb.config.drafts import write_whole

    workspace = _workspace(root)
    for name in templates:
        if name not in workspace.templates:
            known = ", ".join(workspace.templates) or "none"
            raise exits.Exit(f"no template {name}", exits.MISSING, hint=f"known here: {known}")
    path = f"routes/sites/{site}.yaml"
    if site.lower() in {name.lower() for name in workspace.sites} or (root / path).exists():
        raise exits.Exit(f"site {site} exists already", exits.NO, hint="edit its file, or choose another name")
    pairs = {name: _pairs(words[name], name.removesuffix("s")) for name in ("params", "values", "tables", "connectors")}
    params, values, tables, connectors = pairs.values()
    for other in connectors.values():
        if other not in workspace.connectors and other not in workspace.connector_params:
            raise exits.Exit(f"no connector {other}", exits.MISSING)
    more = words["timezone"], words["locale"], words["description"], connectors
    file = SiteFile(workspace, Wanted(site, templates, params, values, tables, *more))
    text = file.text()
    if file.unknown:
        raise exits.Exit(f"nothing has the parameter {file.unknown[0]}", exits.USAGE, hint=f"see {site}: --stdout")
    if show:
        click.echo(text, nl=False)
        return
    if file.missing:
        needed = "\n          ".join(
            f"--param {name.partition(' ')[0]}=…  {name.partition(' ')[2]}" for name in file.missing
        )
        raise exits.Exit(
            f"{len(file.missing)} parameters are missing", exits.USAGE, hint=f"give them:\n          {needed}"
        )
    _lint(root, workspace, path, text)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(root / path, text)
    if as_json:
        emit_json({"kind": "Site", "items": [{"site": site, "file": path, "text": text}]})
    else:
        click.echo(f"made {path}; prove it: esb sites check {site}")


def _pairs(given: Sequence[str], word: str) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equal, value = pair.partition("=")
        if not equal or not name:
            raise click.UsageError(f"--{word} {pair!r}: write it like name=value")
        found[name] = value
    return found


def _lint(root: Path, workspace: Workspace, path: str, text: str) -> None:
    """Refuse a site that the workspace could not be read with."""
    from esb.config.diagnostics import render_text
    from esb.config.loader import read_workspace

    loaded = read_workspace(root, need_secrets=False, texts={**workspace.texts, path: text})
    if loaded.workspace is None:
        click.echo(render_text(loaded.errors, loaded.read_lines), err=True)
        raise exits.Exit("nothing was written", exits.NO, hint="give other parameters; --stdout shows the file")


# -- check --------------------------------------------------------------------------------------------------------------


@sites.command("check")
@click.argument("site", shell_complete=names.sites)
@click.option("--ping", is_flag=True, help="Ask whether its systems take a connection, too.")
@click.option("--timeout", type=float, default=3.0, show_default=True, help="Seconds for each system.")
@click.option(
    "--samples", multiple=True, metavar="ROUTE=PATH", help="A file or folder of samples, beside samples/SITE/ROUTE/."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the record; qualification/ without it."
)
@click.option("--strict", is_flag=True, help="What could not be proved counts against it.")
@workspace_option
@json_option
def check(
    site: str,
    ping: bool,
    timeout: float,
    samples: tuple[str, ...],
    out: Path | None,
    strict: bool,
    root: Path,
    as_json: bool,
) -> None:
    """Prove that SITE can go live, and write the qualification record (HTML and JSON).

    Its parameters, the values of sample files that its tables lack, its route tests and, with --ping, its systems.
    Exit code 0: passed, 1: something failed.
    """
    from esb.cli.site_check import SiteCheck, verdict_of
    from esb.cli.site_record import record_of, write_record

    root = root.resolve()
    given: dict[str, list[Path]] = {}
    for pair in samples:
        route, equal, place = pair.partition("=")
        if not equal or not Path(place).exists():
            raise click.UsageError(
                f"--samples {pair!r}: write it like hold=samples/hold/, with a file or folder that exists"
            )
        given.setdefault(route, []).append(Path(place).resolve())
    work = SiteCheck(root, site, given, ping, timeout)
    if work.loaded.workspace is not None:
        _site(work.loaded.workspace, site)
    checks = work.run()
    verdict = verdict_of(checks, strict=strict)
    record = record_of(work, checks, verdict)
    places = write_record(record, out if out is not None else root / "qualification")
    if as_json:
        emit_json({"kind": "SiteCheck", "items": [{**record, "record": [str(place) for place in places]}]})
    else:
        for line in _told(checks):
            click.echo(safe(line))
        click.echo(f"{site}: {verdict}; record: {places[1]}")
    sys.exit(exits.DONE if verdict == "passed" else exits.NO)


def _told(checks: Sequence[Any]) -> Iterator[str]:
    for one in checks:
        yield f"{_SIGNS[one.verdict]} {one.name:<14} {one.words}"
        for item in one.items if one.verdict == "failed" or one.name == "configuration" else ():
            if "passed" in item:
                if not item["passed"]:
                    yield f"    {item['route']}: {item['name']}"
                    yield from (f"      {failure['at']}: {failure['message']}" for failure in item["failures"])
            elif "value" in item:
                note = "  (the route has a default)" if item["default"] else ""
                yield f"    {item['table']} has no row for {item['value']!r}: {item['sample']}, {item['route']}{note}"
            elif "why" in item:
                yield f"    {item['route']}: {item['sample']} did not get through: {item['why']}"
            elif "code" in item:
                yield f"    {item['at']}: {item['code']} {item['message']}"
            elif not item.get("reached", True):
                yield f"    {item['connector']} at {item['address']}: {item['said']}"


# -- compare ------------------------------------------------------------------------------------------------------------


@sites.command("diff")
@click.argument("first")
@click.argument("second")
@workspace_option
@json_option
def diff(first: str, second: str, root: Path, as_json: bool) -> None:
    """What is different between two sites: templates, parameters, connectors, tables, settings."""
    from esb.config.site_items import differences

    workspace = _workspace(root)
    items = differences(_site(workspace, first), _site(workspace, second))
    if as_json:
        emit_json({"kind": "SiteDiff", "items": [{**item, "sites": [first, second]} for item in items]})
        return
    table(items, [("WHAT", "what"), (first, "first"), (second, "second")], empty="no difference")


@sites.command("drift")
@click.argument("site", required=False, shell_complete=names.sites)
@click.option("--strict", is_flag=True, help="Overrides count as drift, too: exit code 1.")
@workspace_option
@json_option
def drift(site: str | None, strict: bool, root: Path, as_json: bool) -> None:
    """Where sites leave their templates (overrides), and where the files differ from what runs.

    Exit code 1 where files and running bus differ.
    """
    from esb.cli.site_drift import drift_of

    items = drift_of(root.resolve(), site)
    if as_json:
        emit_json({"kind": "SiteDrift", "items": items})
    else:
        columns = [
            ("SITE", "site"),
            ("ROUTE", "route"),
            ("KIND", "kind"),
            ("WHAT", "what"),
            ("WHERE", "at"),
            ("NOW", "words"),
        ]
        rows = [{**item, "words": _now(item)} for item in items]
        table(rows, columns, empty="no drift")
    bad = [item for item in items if strict or item["kind"] != "override"]
    sys.exit(exits.NO if bad else exits.DONE)


def _now(item: Mapping[str, Any]) -> str:
    if item["kind"] == "override":
        return f"{compact(item['template'])} → {compact(item['here'])}"
    return str(item["words"])


def _workspace(root: Path) -> Workspace:
    from esb.config.loader import load_workspace
    from esb.errors import ConfigError

    workspace, problems = load_workspace(root.resolve(), need_secrets=False)
    if workspace is None:
        raise ConfigError(problems)
    return workspace


def _site(workspace: Workspace, name: str) -> SiteSpec:
    found = workspace.sites.get(name)
    if found is None:
        known = ", ".join(workspace.sites) or "none"
        raise exits.Exit(f"no site {name}", exits.MISSING, hint=f"known here: {known}")
    return found
