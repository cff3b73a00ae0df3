"""A route in plain words: where its messages come from, what happens to them, and for how long they are tried.

Written from the document (the words of its author) together with the compiled route (what is in force).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from esb.config.model import RouteSpec, Workspace
from esb.config.retries import drop_of, waits_of
from esb.config.routes import questions_of, targets_of
from esb.config.yaml import read_documents
from esb.durations import format_duration
from esb.formats.json import Json
from esb.spec import MapNode, ScalarNode, to_plain
from esb.steps.base import Block, StepNode, WhenDown

#: Lists of steps inside of the options of a step, in the order of its compiled blocks.
_INSIDE = ("steps", "otherwise", "branches")
_SHOWN = 90


@dataclass(frozen=True, slots=True)
class Worst:
    """The longest that a step is tried, in which every attempt takes all its time and every wait is the longest."""

    step: str
    attempts: int
    waits: timedelta
    whole: timedelta
    bounded_by: str = ""
    drop: timedelta | None = None  #: after it an outage ends the message, however many attempts that took
    asked: tuple[str, ...] = ()  #: what says, before it is sent again, whether it has arrived

    def as_item(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "attempts": self.attempts,
            "waits_seconds": self.waits.total_seconds(),
            "worst_seconds": self.whole.total_seconds(),
            "bounded_by": self.bounded_by,
        }


def worst_cases(workspace: Workspace, spec: RouteSpec) -> list[Worst]:
    """One for each step of a route that sends or asks. A hand-off inside of the bus is committed with the message: it asks nobody."""
    return [
        _worst(workspace, spec, node, drop_of(spec, block.id, node))
        for block in spec.blocks.values()
        for node in block.nodes
        if node.kind != "tap" and any(target.protocol not in ("topic", "route") for target in targets_of(node))
    ]


def _worst(workspace: Workspace, spec: RouteSpec, node: StepNode, drop: WhenDown | None) -> Worst:
    policy = node.retry or spec.retry
    limit = node.timeout or workspace.settings.limits.step
    for target in targets_of(node)[:1]:
        if (connector := workspace.connectors.get(target.connector)) is not None:
            limit = min(limit, connector.settings.timeout)
    retried = {"any", "timeout", "unavailable"} & set(policy.for_)
    attempts = policy.max + 1 if retried else 1
    waits = waits_of(policy, attempts - 1)
    whole, by = waits + limit * attempts, ""
    after = drop.drop_after if drop is not None and retried - {"timeout"} else None
    if after is not None and after + limit > whole:
        whole, by = after + limit, "`drop_after`"
    for name, bound in (("`within` of its retry", policy.within), ("`ttl` of the route", spec.ttl)):
        if bound is not None and bound + limit < whole:
            whole, by = bound + limit, name
    return Worst(node.id, attempts, waits, whole, by, after, tuple(one.verify.name for one in questions_of(node)))


# -- the words ------------------------------------------------------------------------------------------------------------
def explain(workspace: Workspace, spec: RouteSpec) -> list[str]:
    """The route, line by line; nested steps are indented."""
    document = _document(spec)
    who = f", for which {spec.owner} answers" if spec.owner else ""
    lines = [f"{spec.name}: {spec.description or 'a route'}{who}."]
    lines += list(_made(spec))
    lines.append("")
    lines.append(f"Messages come from {_source(document.get('from'), spec)}.")
    lines += list(_identity(spec))
    lines += ["", "Then, in order:"]
    lines += list(_steps(spec.steps, document.get("steps") or [], ""))
    lines += ["", *_failing(workspace, spec, document)]
    return lines


def _made(spec: RouteSpec) -> Iterator[str]:
    """Where a route comes from that nobody wrote as it is."""
    place = spec.place
    if place is not None:
        yield f"Site {place.site} makes it of `{place.route}` in the template `{place.template}`; time zone {place.timezone}."
    if place is not None and place.overrides:
        yield f"The site says otherwise: {', '.join(one.field for one in place.overrides)}."


def _document(spec: RouteSpec) -> Mapping[str, Any]:
    if spec.place is not None and spec.place.node is not None:
        filled: Mapping[str, Any] = to_plain(spec.place.node)
        return filled
    path, text = next(iter(spec.files.items()))
    for document in read_documents(text, path, lambda _: None)[0]:
        name = document.node.get("route") if isinstance(document.node, MapNode) else None
        if isinstance(name, ScalarNode) and name.value == spec.name:
            plain: Mapping[str, Any] = to_plain(document.node)
            return plain
    return {}


def _source(given: Any, spec: RouteSpec) -> str:
    if not isinstance(given, Mapping) or not given:
        return spec.source.protocol
    kind, options = next(iter(given.items()))
    options = options if isinstance(options, Mapping) else {"": options}
    known = [
        str(options[name])
        for name in ("method", "path", "queue", "topic", "topics", "every", "cron", "")
        if name in options
    ]
    via = f" of {options['connector']}" if "connector" in options else ""
    contract = f", and must meet {options['contract']}" if options.get("contract") else ""
    answers = {"delivered": "; the caller waits for the end", "none": "; the caller gets an empty answer"}
    return f"{kind}{via} {' '.join(known)}".rstrip() + contract + answers.get(str(options.get("reply")), "")


def _identity(spec: RouteSpec) -> Iterator[str]:
    if spec.key is not None:
        dead = (
            "later ones wait behind a dead one"
            if spec.order.on_dead == "block"
            else "a dead one does not stop later ones"
        )
        yield f"Those with the same `{spec.key.text}` keep their order; {dead}."
    if spec.order.overtake is not None:
        yield f"One for which `{spec.order.overtake.text}` is true goes at once and replaces earlier unsent ones of its key."
    if spec.dedupe is not None:
        window = format_duration(spec.dedupe.window)
        yield f"A second one with the same `{spec.dedupe.key.text}` within {window} is a duplicate and has no effect."
    if spec.track:
        yield f"They are found by {', '.join(spec.track)}."
    if spec.ttl is not None:
        yield f"One that is older than {format_duration(spec.ttl)} expires."
    if not spec.enabled:
        yield "The route is switched off: it takes nothing in and drains what is there."


def _steps(block: Block, written: Any, indent: str) -> Iterator[str]:
    items = written if isinstance(written, list) else [written]
    for number, (node, item) in enumerate(zip(_in_order(block), items, strict=False), 1):
        given = item if isinstance(item, Mapping) else {node.kind: item}
        yield f"{indent}{number}. {_step(node, given)}"
        inner = getattr(node.step, "blocks", ()) if node.kind not in _GATHER else ()
        for (title, steps), inside in zip(_inner(given.get(node.kind)), inner, strict=False):
            if title:
                yield f"{indent}   {title}"
            yield from _steps(inside, steps, indent + "   ")


#: Steps behind which the others of their list are run by messages of their own.
_GATHER = frozenset({"aggregate", "resequence"})


def _in_order(block: Block) -> list[StepNode]:
    """The steps as they stand in the file."""
    last: Any = block.nodes[-1].step if block.nodes and block.nodes[-1].kind in _GATHER else None
    return [*block.nodes, *(_in_order(last.rest)[1:] if last is not None else ())]


def _inner(options: Any) -> list[tuple[str, Any]]:
    """The nested lists of steps of a step, each with its heading."""
    if isinstance(options, list) and not any(isinstance(one, Mapping) and _CASES & set(one) for one in options):
        return [("", options)]
    if isinstance(options, list):  # choose
        return [
            ("otherwise:", branch["otherwise"])
            if "otherwise" in branch
            else (f"if `{branch.get('when')}`:", branch.get("steps"))
            for branch in options
            if isinstance(branch, Mapping)
        ]
    if not isinstance(options, Mapping):
        return []
    if "steps" in options:
        return [("", options["steps"])]
    if "branches" in options:
        return _inner(options["branches"])
    return [
        (f"branch {name}" + (f", if `{branch['if']}`:" if branch.get("if") else ":"), branch.get("steps"))
        for name, branch in ((name, {"steps": one} if isinstance(one, list) else one) for name, one in options.items())
        if isinstance(branch, Mapping) and "steps" in branch
    ]


#: What the branches of `choose` begin with.
_CASES = frozenset({"when", "otherwise"})


def _step(node: StepNode, given: Mapping[str, Any]) -> str:
    say = _WORDS.get(node.kind)
    options = given.get(node.kind)
    words = say(options) if say is not None else f"`{node.kind}` {_short(options)}"
    guard = f"If `{node.guard.text}`: " if node.guard is not None else ""
    extra = ""
    if node.timeout is not None:
        extra += f", within {format_duration(node.timeout)}"
    if node.into:
        extra += f"; the answer is kept in {'.'.join(node.into)}"
    if node.continue_on_error:
        extra += "; a failure is noted and the message goes on"
    if node.when_down is not None and node.when_down.mode != "queue":
        extra += f"; where the target is down: {node.when_down.mode.replace('_', ' ')}"
    return f"{guard}{words}{extra}."


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else Json().encode(value).decode() if value is not None else ""
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _names(value: Any) -> str:
    return ", ".join(str(name) for name in value) if isinstance(value, Mapping) else _short(value)


def _of(value: Any, name: str) -> str:
    return _short(value.get(name)) if isinstance(value, Mapping) else _short(value)


def _target(value: Any) -> str:
    if isinstance(value, Mapping) and "any_of" in value:
        return f"the one of {', '.join(map(str, value['any_of']))} that `{_of(value, 'by')}` names"
    if isinstance(value, Mapping) and value:
        kind, options = next(iter(value.items()))
        where = next((options[name] for name in ("url", "path", "exchange", "topic", "queue") if name in options), "") if isinstance(options, Mapping) else options  # fmt: skip
        return f"{kind} {_short(where)}".strip()
    return str(value)


_WORDS: Mapping[str, Callable[[Any], str]] = {
    "validate": lambda given: f"The body must meet {_of(given, 'contract')}; else it is dead as `invalid`",
    "map": lambda given: f"A new body is made with {_names(given)}",
    "transform": lambda given: f"The body is transformed by {_short(given)}",
    "set": lambda given: f"{_names(given)} is set",
    "remove": lambda given: f"{_short(given)} is taken out",
    "parse": lambda given: f"The content is read as {_short(given)}",
    "format": lambda given: f"The body is written as {_short(given)}",
    "lookup": lambda given: f"`{_of(given, 'by')}` is looked up in the table {_of(given, 'table')}",
    "enrich": lambda given: f"{_target(given)} is asked",
    "choose": lambda _: "One of these ways is taken, the first that fits",
    "filter": lambda given: f"Only messages for which `{_short(given)}` is true go on; the others are done (filtered)",
    "split": lambda given: f"Each item of `{_of(given, 'each')}` becomes a message of its own",
    "fanout": lambda _: (
        "A copy goes into each of these branches, each with a queue, retries and dead letters of its own"
    ),
    "aggregate": lambda given: f"Messages with the same `{_of(given, 'by')}` become one",
    "resequence": lambda given: f"Messages go on in the order of `{_of(given, 'by')}`",
    "publish": lambda given: f"It is published to the topic {_of(given, 'topic')}",
    "to": lambda given: f"It is sent to {_target(given)}",
    "compensate": lambda _: "What was delivered before is undone by these steps if the message is dead later on",
    "tap": lambda given: f"A copy goes to {_target(given)}; its failure harms nobody",
    "dedupe": lambda given: f"A second one with the same `{_of(given, 'key')}` ends here",
    "throttle": lambda given: f"No more than {_of(given, 'rate')} pass",
    "delay": lambda given: f"It waits: {_short(given)}",
    "respond": lambda given: f"The caller will be answered {_of(given, 'status')}",
    "reject": lambda given: f"It is refused: {_short(given)}",
    "log": lambda given: f"A line is logged: {_short(given)}",
    "python": lambda given: f"The function {_short(given)} of the workspace runs",
}


def _failing(workspace: Workspace, spec: RouteSpec, document: Mapping[str, Any]) -> Iterator[str]:
    cases = worst_cases(workspace, spec)
    if cases:
        yield "When a target does not answer:"
    for case in cases:
        if case.asked and case.attempts > 1:
            yield f"  Before {case.step} is sent again, {' or '.join(case.asked)} is asked whether it has arrived."
        if case.drop is not None:
            drop = format_duration(case.drop)
            yield f"  {case.step} is tried while it is down, until the message is {drop} old; then it is dropped."
            continue
        if case.attempts == 1:
            yield f"  {case.step} is tried once, for at most {format_duration(case.whole)}."
            continue
        bound = f", bounded by the {case.bounded_by}" if case.bounded_by else ""
        yield (
            f"  {case.step} is tried up to {case.attempts} times; at worst {about(case.whole)} pass"
            f" before it is given up{bound} (longest waits {about(case.waits)})."
        )
    if spec.within is not None:
        yield f"  The route should be done within {format_duration(spec.within)}; later counts as late."
    for entry in spec.on_error:
        what = (
            f"goes to the dead letters `{entry.dead_letter}`"
            if entry.dead_letter
            else "takes other steps"
            if entry.steps
            else "is dead"
        )
        alert = f" and raises {entry.alert}" if entry.alert else ""
        yield f"  What ends as {', '.join(entry.for_)} {what}{alert}."
    if not spec.on_error:
        yield "  What fails for good is a dead letter of the route" + (
            f" and raises {spec.alert}." if spec.alert else "."
        )
    later: Sequence[Any] = spec.topics
    if later:
        yield f"It hands over to the topics {', '.join(later)}."


def about(value: timedelta) -> str:
    """A duration by its two largest units."""
    seconds = round(value.total_seconds())
    for _unit, size, below in (("d", 86400, 3600), ("h", 3600, 60), ("m", 60, 1)):
        if seconds >= size:
            seconds -= seconds % below
            break
    return format_duration(timedelta(seconds=seconds)) if seconds else format_duration(value)
