"""``esb plan``: what a change does before it is live."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits
from esb.cli.gateway import Gateway
from esb.cli.output import emit_json, safe
from esb.cli.places import workspace_folder
from esb.config.settings import SETTINGS

if TYPE_CHECKING:
    from esb.planning.plan import RoutePlan
    from esb.testing.rehearse import Trial

_SIGNS = {"added": "+", "changed": "~", "removed": "-"}


class _Past:
    """What runs, asked through the gateway."""

    def __init__(self, root: Path) -> None:
        self._gateway = gateway = Gateway(root)
        self._ran = (root / ".esb").is_dir()  # looking must not make a store
        items = gateway.get("/status")["items"] if self._ran else []
        self._status = {item["route"]: item for item in items}
        live = gateway.get("/live")["items"] if self._ran else []
        self._live = {item["route"]: item["files"] for item in live}

    def live(self) -> Mapping[str, Mapping[str, str]]:
        return {name: files for name, files in self._live.items() if name != SETTINGS}

    def settings(self) -> str | None:
        files = self._live.get(SETTINGS)
        return str(files[SETTINGS]) if files else None

    def counts(self, route: str) -> Mapping[str, int]:
        counts: Mapping[str, int] = self._status.get(route, {}).get("states", {})
        return counts

    def newest(self, route: str, count: int) -> Iterable[Trial]:
        from esb.cli.traffic import newest_trials

        return newest_trials(self._gateway, route, count)


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--against", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="The workspace whose bus it is held against; DIRECTORY itself without it.")  # fmt: skip
@click.option("--last", type=click.IntRange(0, 100_000), default=5_000, show_default=True, help="Stored messages of a route that are held against its contract.")  # fmt: skip
@click.option("--run", "tried", type=click.IntRange(0, 10_000), default=100, show_default=True, help="Stored messages of a route that both versions are tried on.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
def plan(directory: Path, against: Path | None, last: int, tried: int, as_json: bool) -> None:
    """What the files in DIRECTORY would change in the bus that runs (or last ran) there, before they are live.

    For each route that is added, changed or removed: its fields from what to what, messages in flight, how many of the stored messages
    would be refused now that were not, and what the newest of them come out as under both versions, against stubs. Nothing is
    sent, stored or reloaded.

    Exit code 0: safe to go live. 1: unsafe, or the files have faults.
    """
    from esb.config.diagnostics import render_json, render_text
    from esb.config.loader import load_workspace
    from esb.planning.plan import Planner
    from esb.testing.clock import VirtualClock

    root = workspace_folder(directory, "plan")
    live = root if against is None else workspace_folder(against, "plan --against")
    clock = VirtualClock()
    workspace, problems = load_workspace(root, need_secrets=False, clock=clock)
    if workspace is None:
        from esb.cli.author import line_reader

        if as_json:
            emit_json(
                {
                    "kind": "Plan",
                    "items": [
                        {"route": "", "change": "faults", "safe": False, "problems": render_json(problems)["items"]}
                    ],
                }
            )
        else:
            click.echo(render_text(problems, line_reader(directory)), err=True)
            click.echo("the files have faults: nothing of them would go live")
        sys.exit(exits.NO)
    missing = [
        problem.message.split("`")[1] for problem in problems if problem.code == "ESB503" and "`" in problem.message
    ]
    planner = Planner(
        root, workspace, clock, _Past(live), last=last, tried=tried, missing=tuple(dict.fromkeys(missing))
    )
    plans = list(planner.plans())
    if as_json:
        emit_json({"kind": "Plan", "items": [one.as_item() for one in plans]})
    else:
        _show(plans)
    sys.exit(exits.NO if any(one.unsafe for one in plans) else exits.DONE)


def _show(plans: list[RoutePlan]) -> None:
    for one in plans:
        flying = ", ".join(f"{n} {state}" for state, n in one.in_flight.items()) or "0 in flight"
        sign = "!" if one.unsafe else _SIGNS[one.change]
        click.echo(safe(f"{sign} {one.route}  {one.change}" + (f"  ({flying})" if one.change != "added" else "")))
        for words in one.unsafe:
            click.echo(safe(f"    UNSAFE  {words}"))
        for example in (one.contract or {}).get("examples", ()):
            error = example["error"]
            click.echo(safe(f"      {example['id']}  {example['key'] or ''}  {error['message']}"))
        for change in one.fields:
            click.echo(safe(f"    {change}"))
        for path in one.files if one.change == "changed" else ():
            click.echo(safe(f"    {path} changed"))
        for words in one.notes:
            click.echo(safe(f"    note: {words}"))
        if one.rehearsal:
            _show_rehearsal(one.rehearsal)
    kinds = {word: sum(one.change == word and one.route != SETTINGS for one in plans) for word in _SIGNS}
    unsafe = sum(bool(one.unsafe) for one in plans)
    click.echo(
        f"Plan: {kinds['added']} added, {kinds['changed']} changed, {kinds['removed']} removed"
        + (f"; {unsafe} unsafe" if unsafe else "; safe to go live" if plans else "; the files are what is live")
    )


def _show_rehearsal(found: dict[str, Any]) -> None:
    click.echo(f"    tried on {found['run']} stored messages: {found['same']} the same, {found['differs']} differ")
    for example in found["examples"]:
        click.echo(safe(f"      {example['id']}  {example['key'] or ''}  {example['before']} → {example['after']}"))
        for place in example["differences"][:5]:
            click.echo(safe(f"        {place['at']}: {_cut(place['old'])} → {_cut(place['new'])}"))


def _cut(text: str | None) -> str:
    return "nothing" if text is None else text if len(text) <= 60 else text[:59] + "…"
