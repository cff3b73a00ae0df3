"""``esb top`` and ``esb tail``: the bus as it runs, in a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from esb.cli import exits, names
from esb.cli.gateway import TIMEOUT, Gateway, json_option, workspace_option
from esb.cli.output import age, clock, compact, safe
from esb.errors import StoreBusy

_OPEN = ("queued", "running", "waiting", "held")
_CLEAR = "\x1b[H\x1b[2J"
#: Messages that one look asks for, and open ones that are followed.
_PAGE, _FOLLOWED = 500, 2_000


@contextmanager
def keys() -> Iterator[Any]:
    """Gives a function that waits some seconds for a key; without a terminal it only waits."""
    if not sys.stdin.isatty() or sys.platform == "win32":
        yield lambda seconds: time.sleep(seconds) or ""  # type: ignore[func-returns-value]  # its None is what `or` is for
        return
    import select
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)

        def wait(seconds: float) -> str:
            ready, _, _ = select.select([sys.stdin], [], [], seconds)
            return sys.stdin.read(1) if ready else ""

        yield wait
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextmanager
def until_ctrl_c() -> Iterator[None]:
    """The way out of a command that has no other is no fault: exit code 0, and nothing said."""
    try:
        yield
    except KeyboardInterrupt:
        return


# -- top ------------------------------------------------------------------------------------------------------------------
@click.command()
@click.option(
    "--every", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="One look, and the end.")
@workspace_option
@json_option
@until_ctrl_c()
def top(every: float, once: bool, root: Path, as_json: bool) -> None:
    """The routes on one screen, those that need a person first; `q` or Ctrl-C ends. It outlives a restart of the bus.

    With --json one line for each look: {"kind", "items"}. Rates are of the time between two looks.
    """
    before: dict[str, Any] = {}
    taken = 0.0
    with keys() as wait:

        def pause() -> None:
            if wait(every) in ("q", "Q"):
                raise SystemExit(exits.DONE)

        gateway = Steady(root, pause)
        while True:
            now = time.monotonic()
            words = gateway.get("/status")
            items = [_with_rate(item, before, now - taken) for item in words["items"]]
            before, taken = {item["route"]: item for item in words["items"]}, now
            if as_json:
                click.echo(compact({"kind": "Top", "items": items}))
            else:
                page = screen(items, gateway.get("")["items"][0], shutil.get_terminal_size((110, 30)))
                click.echo((_CLEAR if sys.stdout.isatty() and not once else "") + page)
            sys.stdout.flush()
            if once:
                return
            pause()


class Steady(Gateway):
    """Outlives a restart of the bus: once it was answered, it asks again after each ``pause`` until it is."""

    def __init__(self, root: Path, pause: Callable[[], None]) -> None:
        super().__init__(root)
        self._pause = pause
        self._answered = False

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT) -> dict[str, Any]:
        told = False
        while True:
            try:
                found = super().get(path, params, timeout=timeout)
            except (exits.Exit, StoreBusy) as error:
                passing = isinstance(error, StoreBusy) or error.code in (exits.UNREACHABLE, exits.AGAIN)
                if not (self._answered and passing):
                    raise
                if not told:
                    click.echo(f"… {error}; it is asked again", err=True)
                told = True
                self._pause()
            else:
                self._answered = True
                return found


def _with_rate(item: Mapping[str, Any], before: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    known = before.get(item["route"])
    delta = item["accepted"] - known["accepted"] if known is not None and seconds > 0 else None
    return {**item, "accepted_per_second": round(delta / seconds, 2) if delta is not None else None}


def screen(items: list[dict[str, Any]], bus: Mapping[str, Any], size: tuple[int, int]) -> str:
    """One page that fits a terminal of ``size`` (columns, lines)."""
    width, height = size
    ordered = sorted(items, key=lambda item: (-_urgency(item), item["route"]))
    totals = {name: sum(item[name] for item in items) for name in ("accepted", "done", "dead", *_OPEN)}
    flying = sum(totals[name] for name in _OPEN)
    head = f"{bus.get('bus', '')}  {'ready' if bus.get('ready') else bus.get('reason') or 'not ready'}  {len(items)} routes  accepted {totals['accepted']}  open {flying}  dead {totals['dead']}"  # fmt: skip
    name_width = max([5, *(len(item["route"]) for item in items)])
    lines = [
        head,
        "",
        f"  {'ROUTE':<{name_width}}  {'STATE':<9} {'IN/S':>7} {'OPEN':>7} {'HELD':>6} {'DEAD':>6} {'OLDEST':>8}  NOTE",
    ]
    shown = ordered[: max(1, height - 6)]
    for item in shown:
        rate = item["accepted_per_second"]
        note = "late" if item.get("late") else ""
        lines.append(
            f"{'!' if _urgency(item) else ' '} {item['route']:<{name_width}}  {item['state']:<9} {'–' if rate is None else rate:>7}"
            f" {sum(item[name] for name in _OPEN):>7} {item['held']:>6} {item['dead']:>6} {age(item['oldest']):>8}  {note}".rstrip()
        )
    if len(shown) < len(ordered):
        lines.append(f"… {len(ordered) - len(shown)} more")
    lines += ["", "q ends"]
    return "\n".join(safe(line)[:width] for line in lines)


def _urgency(item: Mapping[str, Any]) -> int:
    return 4 * (item["state"] in ("failed", "paused")) + 2 * bool(item["dead"]) + bool(item.get("late"))


# -- tail -----------------------------------------------------------------------------------------------------------------
@click.command()
@click.option("--route", help="Only this route.", shell_complete=names.routes)
@click.option("--key", help="Only this key.")
@click.option("--track", multiple=True, metavar="NAME=VALUE", help="Only with this tracked value.")
@click.option("--state", default="", help="Only these states, with commas.")
@click.option(
    "--last", type=click.IntRange(0, _PAGE), default=10, show_default=True, help="Begin with the last so many."
)
@click.option("--count", type=click.IntRange(1), help="End after so many lines.")
@click.option(
    "--every", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two looks."
)
@workspace_option
@json_option
@until_ctrl_c()
def tail(root: Path, as_json: bool, state: str, last: int, count: int | None, every: float, **words: Any) -> None:
    """Messages as they arrive and as they end: one line each time the state is another; Ctrl-C ends. It outlives a restart of the bus.

    With --json one line for each of them: {"kind", "items"} with the message as in `messages ls`. Of a flood only the newest 500 of a
    look are shown, and how many were left out is told on stderr.
    """
    gateway = Steady(root, lambda: time.sleep(every))
    wanted = _states(state)
    followed = Tail(gateway, {name: value for name, value in words.items() if value})
    written = 0
    begin = [item for item in followed.first(last) if not wanted or item["state"] in wanted]
    for item in begin if count is None else begin[-count:]:
        written += _print(item, wanted, as_json)
    while count is None or written < count:
        sys.stdout.flush()
        time.sleep(every)
        for item in followed.more():
            written += _print(item, wanted, as_json)
            if count is not None and written >= count:
                break


def _states(given: str) -> frozenset[str]:
    """What ``--state`` says; a word that no message ever has would be waited for without end."""
    from esb.message import State

    known = (*_OPEN, *(state.value for state in State if state.value not in _OPEN))
    words = [word for word in given.split(",") if word]
    for word in words:
        if word not in ("open", *known):
            raise exits.Exit(f"`{word}` is no state", exits.USAGE, hint=f"one of: {', '.join(('open', *known))}")
    return frozenset(state for word in words for state in (_OPEN if word == "open" else (word,)))


class Tail:
    """Remembers what it has shown."""

    def __init__(self, gateway: Gateway, words: Mapping[str, Any]) -> None:
        self._gateway, self._words = gateway, words
        self._known: dict[str, str] = {}

    def first(self, count: int) -> list[dict[str, Any]]:
        items = self._look()
        for item in items:
            self._known[item["id"]] = item["state"]
        return items[-count:] if count else []

    def more(self) -> Iterator[dict[str, Any]]:
        """What arrived and what ended since the last look, the oldest first."""
        items = self._look()
        if len(items) == _PAGE and items[0]["id"] not in self._known:
            click.echo("… there are more messages than can be shown", err=True)
        there = {item["id"] for item in items}
        waiting = [id_ for id_, state in self._known.items() if state in _OPEN and id_ not in there]
        found = [*self._of(waiting[-_FOLLOWED:]), *items]
        for item in found:
            if self._known.get(item["id"]) != item["state"]:
                self._known[item["id"]] = item["state"]
                yield item
        ended = [id_ for id_, state in self._known.items() if state not in _OPEN and id_ not in there]
        for id_ in ended:
            del self._known[id_]

    def _look(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._gateway.get("/messages", {**self._words, "limit": _PAGE})["items"]
        return items[::-1]

    def _of(self, ids: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), 100):
            part = ids[start : start + 100]
            found += self._gateway.get("/messages", {"ids": ",".join(part), "limit": 100})["items"]
        return found


def _print(item: Mapping[str, Any], wanted: frozenset[str], as_json: bool) -> int:
    """Prints a message where its state is wanted; gives how many lines."""
    if wanted and item["state"] not in wanted:
        return 0
    if as_json:
        click.echo(compact({"kind": "MessageList", "items": [item]}))
        return 1
    where = item["route"] + (f"/{item['scope']}" if item["scope"] else "")
    track = " ".join(f"{name}={value}" for name, value in item["track"].items())
    error = item.get("error")
    why = f"{error['class']} at {error['step']}: {error['message'][:120]}" if error else item.get("reason") or ""
    at = item["finished_at"] or item["accepted_at"]
    click.echo(
        safe(f"{clock(at)}  {where:<28} {item['state']:<9} {item['id']}  {item['key'] or ''}  {track}  {why}".rstrip())
    )
    return 1
