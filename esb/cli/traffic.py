"""Stored messages for trying something on them: read from the running bus or the store, and run against stubs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits
from esb.cli.gateway import Gateway
from esb.cli.output import compact, safe

if TYPE_CHECKING:
    from esb.testing.rehearse import Rehearsed, Trial

#: Ids in one request.
TOGETHER = 100


def trials_of_ids(gateway: Gateway, route: str, ids: Sequence[str], *, failures: bool = True) -> Iterator[Trial]:
    """Messages by id, in the order of acceptance; see :meth:`Trial.of`."""
    from esb.testing.rehearse import Trial

    found: list[dict[str, Any]] = []
    for start in range(0, len(ids), TOGETHER):
        wanted = list(ids[start : start + TOGETHER])
        while wanted:  # an answer is bounded in bytes
            items = gateway.get(f"/routes/{route}/traffic", {"id": wanted})["items"]
            got = {item["id"] for item in items}
            found += items
            wanted = [id_ for id_ in wanted if id_ not in got] if got else []
    yield from (Trial.of(item, failures=failures) for item in sorted(found, key=lambda item: int(item["seq"])))


def newest_trials(gateway: Gateway, route: str, count: int) -> Iterator[Trial]:
    """The newest messages that a route took in itself, newest first; replays and the messages inside of it are left out."""
    from esb.testing.rehearse import Trial

    before: int | None = None
    while count > 0:
        items = gateway.get(f"/routes/{route}/traffic", {"limit": 500, "before": before})["items"]
        if not items:
            return
        before = int(items[-1]["seq"])
        own = [item for item in items if not item["scope"] and item["replay_of"] is None]
        yield from (Trial.of(item) for item in own[:count])
        count -= len(own)


def replay_to_stub(gateway: Gateway, root: Path, chosen: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each target would get if these messages were replayed now: items of ``ReplayToStub``. Sends and stores nothing."""
    from esb.config.loader import load_workspace
    from esb.errors import ConfigError
    from esb.testing.clock import VirtualClock
    from esb.testing.rehearse import rehearse

    clock = VirtualClock()
    workspace, problems = load_workspace(root.resolve(), need_secrets=False, clock=clock)
    if workspace is None:
        raise ConfigError(problems)
    by_route: dict[str, list[str]] = {}
    for item in chosen:
        by_route.setdefault(item["route"], []).append(item["id"])
    found: dict[str, dict[str, Any]] = {}
    for route, ids in by_route.items():
        if route not in workspace.routes:
            hint = "put its file back, or replay another route"
            raise exits.Exit(f"route {route} is not in the workspace", exits.MISSING, hint=hint)
        for one in rehearse(workspace, route, trials_of_ids(gateway, route, ids, failures=False), clock):
            found[one.id] = {"route": route, **one.as_item()}
    return [found[item["id"]] for item in chosen if item["id"] in found]


def show_rehearsed(item: dict[str, Any] | Rehearsed) -> None:
    """One message for people: how it would end, and what each target would get."""
    words = item if isinstance(item, dict) else item.as_item()
    error = words["error"]
    why = f"  {error['class']} at {error.get('step', '')}: {error['message']}" if error else ""
    click.echo(safe(f"{words['state']:<8} {words['id']}{why}"))
    for one in words["sent"]:
        request = f" {one['method']} {one['path']}" if one.get("method") else ""
        click.echo(safe(f"  → {one['to']}{request}  {shown(one['body'])}"))
    for one in words["published"]:
        click.echo(safe(f"  ⇒ {one['topic']}  {shown(one['body'])}"))
    for one in words["children"]:
        click.echo(safe(f"  └ {one['scope']}  {one['state']}"))


def shown(value: Any, limit: int = 160) -> str:
    """A body in one line, cut where it is long."""
    text = value if isinstance(value, str) else repr(value) if isinstance(value, bytes) else compact(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
