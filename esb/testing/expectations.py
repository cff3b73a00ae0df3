"""Holds what came of a case against what was expected of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from esb.durations import format_duration
from esb.endpoints._http.media import read_reply
from esb.endpoints.base import Response
from esb.errors import Position
from esb.message import State
from esb.store.base import Stored
from esb.testing.compare import differences, show
from esb.testing.effects import file_faults, nearest, row_faults
from esb.testing.model import (
    BranchWanted,
    Expect,
    FileWanted,
    PublishedWanted,
    ResponseWanted,
    RowsWanted,
    SentWanted,
)
from esb.testing.results import Facts, Failure
from esb.testing.targets import Asked

T = TypeVar("T")


def failures(expect: Expect, facts: Facts, stubs_at: Position) -> list[Failure]:
    """Everything that is not as expected, in the order in which a person looks for the reason."""
    found = [Failure(stubs_at, words) for words in facts.unknown.values()]
    if found:
        return found  # everything else is its consequence
    found += _states(expect, facts)
    found += _error(expect, facts)
    found += _branches(expect, facts)
    found += [failure for wanted in expect.sent for failure in _sent(wanted, facts)]
    found += [failure for wanted in expect.files for failure in _file(wanted, facts)]
    found += [failure for wanted in expect.rows for failure in _rows(wanted, facts)]
    found += [failure for wanted in expect.published for failure in _published(wanted, facts)]
    found += _responses(expect, facts)
    found += _waits(expect, facts)
    found += _order(expect, facts)
    found += _nothing_else(expect, facts)
    return found


# -- messages -------------------------------------------------------------------------------------------------------------


def _states(expect: Expect, facts: Facts) -> Iterator[Failure]:
    states = _states_of(facts)
    attempts = [one.attempts for one in facts.arrived]
    firsts = [one.attempts for one in facts.arrived if one.state is not State.DUPLICATE]
    alone = [state for state in states if state != "duplicate"] if expect.state != ("duplicate",) else states
    if expect.state:
        reasons = [*_reasons(facts.messages), *_refusals(facts.responses)]
        yield from _each("state", expect.state, states, alone, expect.place("state"), reasons)
    if expect.attempts:
        yield from _each("attempts", expect.attempts, attempts, firsts, expect.place("attempts"))


def _states_of(facts: Facts) -> list[str]:
    """The state of each message in the order in which they were sent, those that were refused among them."""
    states, place = [one.state.value for one in facts.arrived], 0
    for response in facts.responses:
        if _is_refusal(response):
            states.insert(place, "refused")
        elif response is not None and "idempotent-replayed" in response.headers:
            continue  # it got the answer of the message before it, and is none of its own
        place += 1
    return states


def _is_refusal(response: Response | None) -> bool:
    """Whether nothing was stored: an answer to a message that was has its correlation id, also where the message died."""
    return response is not None and response.status >= 400 and "x-correlation-id" not in response.headers


def _each(
    what: str,
    wanted: Sequence[Any],
    every: Sequence[Any],
    alone: Sequence[Any],
    at: Position,
    lines: Sequence[str] = (),
) -> Iterator[Failure]:
    """One word stands for every value of ``alone``, several for each of ``every``."""
    good = list(wanted) == list(every) if len(wanted) > 1 else bool(alone) and all(one == wanted[0] for one in alone)
    if not good:
        got = every if len(wanted) > 1 or len(set(alone)) != 1 else alone[:1]
        yield Failure(at, f"expected {what} {_words(wanted)}, got {_words(got)}", lines)


def _words(values: Sequence[Any]) -> str:
    return ", ".join(f"`{value}`" for value in values) if values else "no message"


def _reasons(messages: Sequence[Stored]) -> list[str]:
    """Why messages ended as they did."""
    found = []
    for one in messages:
        if one.error is not None:
            found.append(f"{one.error.error_class} at {one.error.step}: {one.error.message}")
        elif one.reason:
            found.append(f"{one.state.value}: {one.reason}")
    return list(dict.fromkeys(found))


def _refusals(responses: Sequence[Response | None]) -> list[str]:
    """Why messages were not taken at all."""
    refused = [one for one in responses if one is not None and _is_refusal(one)]
    return list(dict.fromkeys(f"refused with {one.status}: {one.body.decode('utf-8', 'replace')}" for one in refused))


def _error(expect: Expect, facts: Facts) -> Iterator[Failure]:
    wanted = expect.error
    if wanted is None:
        return
    dead = [one.error for one in facts.messages if one.state is State.DEAD and one.error is not None]
    for error in dead:
        if (
            wanted.class_ in ("", error.error_class)
            and error.step.endswith(wanted.step)
            and wanted.message in error.message
            and wanted.pointer in ("", error.pointer)
            and wanted.dead_letter in ("", error.dead_letter)
        ):
            return
    parts = {
        name: value
        for name, value in (
            ("class", wanted.class_), ("step", wanted.step), ("message", wanted.message),
            ("pointer", wanted.pointer), ("dead_letter", wanted.dead_letter),
        ) if value
    }  # fmt: skip
    got = [
        f"got class {one.error_class}, step {one.step}, pointer {one.pointer or '–'}, dead_letter"
        f" {one.dead_letter or '–'}: {one.message}"
        for one in dead
    ]
    words = "no dead message has this error: " + ", ".join(f"{name} `{value}`" for name, value in parts.items())
    yield Failure(expect.place("error"), words, got or ["no message is dead"])


def _branches(expect: Expect, facts: Facts) -> Iterator[Failure]:
    for name, wanted in expect.branches.items():
        own = [one for one in facts.messages if one.envelope.route == facts.route and _is_branch(one, name)]
        yield from _branch(name, wanted, own, expect.place("branches"))


def _is_branch(one: Stored, name: str) -> bool:
    scope = one.envelope.scope
    return scope == name or scope.endswith(f"/{name}")


def _branch(name: str, wanted: BranchWanted, own: Sequence[Stored], at: Position) -> Iterator[Failure]:
    states = [one.state.value for one in own]
    yield from _each(f"{name}: state", wanted.state, states, states, at, _reasons(own))
    if wanted.attempts:
        attempts = [one.attempts for one in own]
        yield from _each(f"{name}: attempts", wanted.attempts, attempts, attempts, at)


# -- what went out --------------------------------------------------------------------------------------------------------


def _sent(wanted: SentWanted, facts: Facts) -> Iterator[Failure]:
    own = [asked for asked in facts.taken if asked.to == wanted.to]
    calls = sum(asked.to == wanted.to for asked in facts.asked)
    faults = [sent_faults(wanted, asked) for asked in own]
    count = sum(not lines for lines in faults)
    if count != wanted.times:
        words = f"expected {_times(wanted.times)} to {wanted.to}, got {_times(count)}"
        lines = min((lines for lines in faults if lines), key=len, default=[])
        if count < wanted.times and lines:
            lines = ["the nearest one differs:", *(f"  {line}" for line in lines)]
        elif count < wanted.times:
            lines = [
                f"{asked.to} said {asked.said}" for asked in facts.asked if asked.to == wanted.to and not asked.taken
            ]
            lines = list(dict.fromkeys(lines)) or [f"{wanted.to} {_asked(calls)}"]
        else:
            lines = [f"sent: {show(asked.body)}" for asked in own]
        yield Failure(wanted.places.get("times", wanted.position), words, lines)
    if wanted.calls is not None and wanted.calls != calls:
        at = wanted.places["calls"]
        yield Failure(at, f"expected {wanted.to} to be asked {wanted.calls} times, it was {calls} times")


def sent_faults(wanted: SentWanted, asked: Asked) -> list[str]:
    """How a delivery differs from one that is expected; nothing where it fits."""
    lines = differences(wanted.json, asked.body) if wanted.json is not None else []
    if wanted.body is not None and (not isinstance(asked.body, str) or wanted.body not in asked.body):
        lines.append(f"body: expected it to contain {show(wanted.body)}, got {show(asked.body)}")
    lines += _header_faults(wanted.headers, asked.headers)
    for name in ("path", "method"):
        value = getattr(wanted, name)
        if value and value != getattr(asked, name):
            lines.append(f"{name}: expected {value}, got {getattr(asked, name)}")
    return lines


def _header_faults(wanted: Mapping[str, str], got: Mapping[str, Any]) -> list[str]:
    return [
        f"header {name}: expected {value!r}, got {got.get(name.lower())!r}"
        for name, value in wanted.items()
        if got.get(name.lower()) != value
    ]


def _asked(calls: int) -> str:
    if calls > 1:
        return f"was asked {calls} times; a repeat under the same delivery id counts once (`calls` counts it, too)"
    return "was asked once" if calls else "was not asked"


def _times(count: int) -> str:
    return {0: "nothing", 1: "1 delivery"}.get(count, f"{count} deliveries")


def _file(wanted: FileWanted, facts: Facts) -> Iterator[Failure]:
    files = [asked.effects.file for asked in facts.taken if asked.effects.file is not None]
    faults = [file_faults(wanted, file) for file in files]
    count = sum(not lines for lines in faults)
    if count != wanted.times:
        own = [lines for lines, file in zip(faults, files, strict=True) if fnmatchcase(file.path, wanted.path)]
        lines = list(nearest(own)) or [f"written was: {', '.join(file.path for file in files) or 'nothing'}"]
        words = f"expected {wanted.times} of the file {wanted.path}, got {count}"
        yield Failure(wanted.places.get("times", wanted.position), words, lines)


def _rows(wanted: RowsWanted, facts: Facts) -> Iterator[Failure]:
    rows = [row for asked in facts.taken if asked.to == wanted.to for row in asked.effects.rows]
    faults = [row_faults(wanted, row) for row in rows]
    count = sum(not lines for lines in faults)
    if count != wanted.times:
        lines = list(nearest(faults)) or [f"{wanted.to} got {len(rows)} rows"]
        words = f"expected {wanted.times} rows in {wanted.to}, got {count}"
        yield Failure(wanted.places.get("times", wanted.position), words, lines)


def _is_named(asked: Asked, expect: Expect) -> bool:
    """Whether what a target took is one of the things that are expected."""
    file, rows = asked.effects.file, asked.effects.rows
    return (
        any(wanted.to == asked.to and not sent_faults(wanted, asked) for wanted in expect.sent)
        or (file is not None and any(not file_faults(wanted, file) for wanted in expect.files))
        or (bool(rows) and all(any(_fits(wanted, asked, row) for wanted in expect.rows) for row in rows))
    )


def _fits(wanted: RowsWanted, asked: Asked, row: Mapping[str, Any]) -> bool:
    return wanted.to == asked.to and not row_faults(wanted, row)


def _published(wanted: PublishedWanted, facts: Facts) -> Iterator[Failure]:
    own = [one for one in facts.published if one.topic == wanted.topic]
    faults = [
        (differences(wanted.json, one.body) if wanted.json is not None else [])
        + _header_faults(wanted.headers, one.headers)
        for one in own
    ]
    count = sum(not lines for lines in faults)
    if count != wanted.times:
        lines = min((lines for lines in faults if lines), key=len, default=[])
        topics = ", ".join(sorted({one.topic for one in facts.published})) or "nothing"
        more = ["the nearest one differs:", *(f"  {line}" for line in lines)] if lines else [f"published was: {topics}"]
        words = f"expected {wanted.times} on topic {wanted.topic}, got {count}"
        yield Failure(wanted.places.get("times", wanted.position), words, more)


def _nothing_else(expect: Expect, facts: Facts) -> Iterator[Failure]:
    if not expect.nothing_else:
        return
    more = [f"to {asked.to}: {show(asked.body)}" for asked in facts.taken if not _is_named(asked, expect)]
    topics = {wanted.topic for wanted in expect.published}
    more += [f"on topic {one.topic}: {show(one.body)}" for one in facts.published if one.topic not in topics]
    if more:
        yield Failure(expect.place("nothing_else"), "something else went out", more)


def _order(expect: Expect, facts: Facts) -> Iterator[Failure]:
    got = [asked.to for asked in facts.taken if asked.to in expect.order]
    if expect.order and got != list(expect.order):
        yield Failure(
            expect.place("order"), f"expected the order {' → '.join(expect.order)}", [f"got {' → '.join(got)}"]
        )


# -- answers and waits ----------------------------------------------------------------------------------------------------


def _responses(expect: Expect, facts: Facts) -> Iterator[Failure]:
    if not expect.response:
        return
    at, every = expect.place("response"), list(facts.responses)
    wanted = list(expect.response) if len(expect.response) > 1 else list(expect.response) * len(every)
    if len(wanted) != len(every):
        yield Failure(at, f"expected {len(wanted)} answers, got {len(every)}")
    for number, (one, got) in enumerate(zip(wanted, every, strict=False), 1):
        lines = _response_faults(one, got)
        if lines:
            yield Failure(at, f"answer {number} of {len(every)} is another", lines)


def _response_faults(wanted: ResponseWanted, got: Response | None) -> list[str]:
    if got is None:
        return ["there was no answer over HTTP"]
    lines = []
    if wanted.status not in (None, got.status):
        lines.append(f"status: expected {wanted.status}, got {got.status}")
    body = read_reply(got.headers.get("content-type", ""), got.body)
    if wanted.json is not None:
        lines += differences(wanted.json, body)
    lines += _header_faults(wanted.headers, {name.lower(): value for name, value in got.headers.items()})
    return [*lines, f"its body: {show(body)}"] if lines else []


def _waits(expect: Expect, facts: Facts) -> Iterator[Failure]:
    if expect.waits is None:
        return
    got = [timedelta(milliseconds=round(wait.total_seconds() * 1000)) for wait in facts.waits]
    if got != list(expect.waits):
        words = f"expected waits {_durations(expect.waits)}, got {_durations(got)}"
        yield Failure(expect.place("waits"), words)


def _durations(waits: Sequence[timedelta]) -> str:
    return "[" + ", ".join(format_duration(wait) for wait in waits) + "]"
