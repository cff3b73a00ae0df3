"""The plan: for each route what changes, whether what was accepted would still be, and what stored messages come out as.

``live`` is what runs (or ran when the bus stopped), ``new`` the workspace as its files stand. Nothing is sent or stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from esb.config.loader import Loaded, read_workspace
from esb.config.model import RouteSpec, Workspace
from esb.config.settings import SETTINGS
from esb.message import State
from esb.planning.compare import Change, document_changes
from esb.testing.clock import VirtualClock
from esb.testing.compare import differing
from esb.testing.rehearse import Rehearsed, Trial, at_the_door, rehearse

#: States of messages that are on their way through a route.
IN_FLIGHT = ("queued", "running", "waiting", "held")
#: Examples that are kept of each finding, and places of one message that are shown.
EXAMPLES, PLACES = 3, 12
#: What a version makes of a message, besides what it sends: all of it is compared.
_COMPARED = ("state", "error", "reason", "key", "dedupe", "track", "sent", "published", "children")


class Past(Protocol):
    """What is known of what runs."""

    def live(self) -> Mapping[str, Mapping[str, str]]:
        """The files of each live route, its own document first."""
        ...

    def settings(self) -> str | None:
        """The text of ``esb.yaml`` that is live, None where it is not known."""
        ...

    def counts(self, route: str) -> Mapping[str, int]: ...

    def newest(self, route: str, count: int) -> Iterable[Trial]: ...


@dataclass(slots=True)
class RoutePlan:
    """One route. ``unsafe`` says why the change should not go live as it is; ``notes`` what else to know."""

    route: str
    change: str  #: ``added``, ``changed`` or ``removed``
    fields: list[Change] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    in_flight: dict[str, int] = field(default_factory=dict)
    contract: dict[str, Any] | None = None
    rehearsal: dict[str, Any] | None = None
    unsafe: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_item(self) -> dict[str, Any]:
        return {
            "route": self.route,
            "change": self.change,
            "safe": not self.unsafe,
            "unsafe": self.unsafe,
            "notes": self.notes,
            "fields": [change.as_item() for change in self.fields],
            "files": self.files,
            "in_flight": self.in_flight,
            "contract": self.contract,
            "rehearsal": self.rehearsal,
        }


@dataclass(frozen=True, slots=True)
class Planner:
    """Works plans out. ``last`` messages are held against contracts, the newest ``tried`` of them run."""

    root: Path
    new: Workspace
    clock: VirtualClock
    past: Past
    last: int = 5_000
    tried: int = 100
    missing: Sequence[str] = ()  #: secrets that are not set here

    def plans(self) -> Iterator[RoutePlan]:
        """Every route that changes, and the settings (route ``esb.yaml``) where they do."""
        live = {name: files for name, files in self.past.live().items() if next(iter(files), SETTINGS) != SETTINGS}
        settings = self.past.settings()
        now = self.new.texts.get(SETTINGS, "")
        if settings is not None and (changes := document_changes(settings, now, SETTINGS)):
            yield RoutePlan(SETTINGS, "changed", fields=changes, notes=_restarts(changes))
        loaded = self._old(live, settings if settings is not None else now)
        old = loaded.workspace
        for name in sorted({*live, *self.new.routes}):
            spec = self.new.routes.get(name)
            if spec is not None and spec.position.path == SETTINGS:
                continue
            plan = self._plan(name, live.get(name), spec, old)
            if plan is not None:
                if plan.change == "changed" and old is None:
                    words = f": {loaded.errors[0]}" if loaded.errors else ""
                    plan.notes.append(f"nothing was tried: the live version cannot be read by this program{words}")
                yield plan

    def _old(self, live: Mapping[str, Mapping[str, str]], settings: str) -> Loaded:
        """The workspace as it is live; without one where this program cannot read it any more. What no route uses (indicators
        that esb.yaml names) is not kept with versions: it is taken as it stands now."""
        texts: dict[str, str] = {SETTINGS: settings} if settings.strip() else {}
        for files in live.values():
            own, *others = files
            _take(texts, own, files[own])
            for path in others:
                _take(texts, path, files[path])
        beside = {path: text for path, text in self.new.texts.items() if not path.startswith("routes/")}
        return read_workspace(self.root, texts={**beside, **texts}, need_secrets=False, clock=self.clock)

    def _plan(
        self, name: str, files: Mapping[str, str] | None, spec: RouteSpec | None, old: Workspace | None
    ) -> RoutePlan | None:
        counts = self.past.counts(name)
        in_flight = {state: counts[state] for state in IN_FLIGHT if counts.get(state)}
        if files is None:
            assert spec is not None
            plan = RoutePlan(name, "added", in_flight=in_flight, files=list(spec.files))
            self._note_secrets(plan, spec)
            return plan
        if spec is None:
            return _removed(name, in_flight, files)
        was = old.routes.get(name) if old is not None else None
        if spec.place is not None and was is not None and was.digest == spec.digest:
            return None  # its files say something else for other routes only
        plan = RoutePlan(name, "changed", in_flight=in_flight)
        self._note_fields(plan, files, spec, old)
        if not plan.fields and not plan.files:
            return None
        self._note_secrets(plan, spec)
        before = old.routes.get(name) if old is not None else None
        if before is None or old is None:
            return plan
        if in_flight and _text(before.key) != _text(spec.key):
            plan.unsafe.append(
                f"`key` changes with {sum(in_flight.values())} messages in flight: they keep their old keys, so"
                " their order against new ones is not kept"
            )
        self._try(plan, before, spec, old)
        return plan

    # -- what is written ------------------------------------------------------------------------------------------------
    def _note_fields(self, plan: RoutePlan, files: Mapping[str, str], spec: RouteSpec, old: Workspace | None) -> None:
        own, new_own = next(iter(files)), next(iter(spec.files))
        plan.fields = document_changes(files[own], spec.files[new_own], own)
        if own != new_own:
            plan.notes.append(f"moves from {own} to {new_own}")
        before, after = dict(list(files.items())[1:]), dict(list(spec.files.items())[1:])
        for path in dict.fromkeys((*before, *after)):
            if before.get(path) == after.get(path):
                continue
            changes = (
                document_changes(before.get(path, ""), after.get(path, ""), path)
                if path.endswith((".yaml", ".json"))
                else []
            )
            plan.files.append(path)
            plan.fields += [Change(f"{path}: {change.path}", change.old, change.new) for change in changes]
        if old is not None and (was := old.routes.get(plan.route)) is not None:
            plan.fields += _effective(was, spec, [change.path for change in plan.fields])

    def _note_secrets(self, plan: RoutePlan, spec: RouteSpec) -> None:
        texts = "\n".join(spec.files.values())
        for name in self.missing:
            if f"${{secret:{name}}}" in texts:
                plan.unsafe.append(f"the secret {name} is not set here")

    # -- what messages say ----------------------------------------------------------------------------------------------
    def _try(self, plan: RoutePlan, before: RouteSpec, spec: RouteSpec, old: Workspace) -> None:
        trials = list(self.past.newest(plan.route, self.last))
        if not trials:
            plan.notes.append("no stored message to try it on")
            return
        refused = self._hold_contract(plan, before, spec, old, trials)
        some = list(islice((trial for trial in trials if trial.envelope.id not in refused), self.tried))
        was = list(rehearse(old, plan.route, some, self.clock))
        again = list(rehearse(old, plan.route, some, self.clock))
        now = list(rehearse(self.new, plan.route, some, self.clock))
        plan.rehearsal = found = _compared(was, again, now)
        if found["worse"]:
            examples = [one for one in found["examples"] if one["worse"]]
            words = f"; {examples[0]['why']}" if examples else ""
            plan.unsafe.append(f"{found['worse']} of {len(some)} stored messages would not end done any more{words}")

    def _hold_contract(
        self, plan: RoutePlan, before: RouteSpec, spec: RouteSpec, old: Workspace, trials: Sequence[Trial]
    ) -> set[str]:
        """What would be refused at the door now that was not refused before; their ids."""
        contract = getattr(spec.source.options, "contract", None)
        refused = 0
        newly: set[str] = set()
        examples: list[dict[str, Any]] = []
        for trial in trials:
            birth = at_the_door(self.new, spec, trial)
            if birth.new.state is not State.DEAD or birth.new.error is None:
                continue
            refused += 1
            if at_the_door(old, before, trial).new.state is State.DEAD:
                continue
            newly.add(trial.envelope.id)
            if len(examples) < EXAMPLES:
                error = birth.new.error
                examples.append({"id": trial.envelope.id, "key": trial.envelope.key, "error": error.as_dict()})
        name = getattr(contract, "name", "")
        plan.contract = {"contract": name, "checked": len(trials), "refused": refused, "newly_refused": len(newly), "examples": examples}  # fmt: skip
        if newly:
            plan.unsafe.append(
                f"{name or 'the new version'} would refuse {len(newly)} of the last {len(trials)}; here are {len(examples)}"
            )
        return newly


def _compared(was: Sequence[Rehearsed], again: Sequence[Rehearsed], now: Sequence[Rehearsed]) -> dict[str, Any]:
    """How many messages come out the same; what differs between two runs of the old version (a random id) does not count."""
    differs = worse = 0
    examples: list[dict[str, Any]] = []
    for before, twin, after in zip(was, again, now, strict=True):
        shaky = differing(_outcome(before), _outcome(twin))
        places = {at: pair for at, pair in differing(_outcome(before), _outcome(after)).items() if at not in shaky}
        if not places:
            continue
        differs += 1
        is_worse = before.state == "done" and after.state != "done"
        worse += is_worse
        examples.append(
            {
                "id": before.id,
                "key": before.key,
                "before": before.state,
                "after": after.state,
                "worse": is_worse,
                "why": _why(after),
                "differences": [{"at": at, "old": a, "new": b} for at, (a, b) in list(places.items())[:PLACES]],
            }
        )
    examples.sort(key=lambda one: not one["worse"])
    return {
        "run": len(now),
        "same": len(now) - differs,
        "differs": differs,
        "worse": worse,
        "examples": examples[:EXAMPLES],
    }


def _outcome(one: Rehearsed) -> dict[str, Any]:
    return {name: getattr(one, name) for name in _COMPARED}


def _why(one: Rehearsed) -> str:
    if one.error is None:
        return one.state + (f": {one.reason}" if one.reason else "")
    return f"{one.error['class']} at {one.error.get('step', '')}: {one.error['message']}"


def _take(texts: dict[str, str], path: str, text: str) -> None:
    """Put a text into its file. Routes that share a file of ``routes/`` have each their own document of it."""
    known = texts.get(path)
    if known is None or not path.startswith("routes/") or known in text:
        texts[path] = text
    elif text not in known:
        texts[path] = f"{known}---\n{text}"


def _removed(name: str, in_flight: dict[str, int], files: Mapping[str, str]) -> RoutePlan:
    plan = RoutePlan(name, "removed", in_flight=in_flight, files=list(files))
    if in_flight:
        plan.unsafe.append(
            f"{sum(in_flight.values())} messages are in flight: they end on the last version while this process lives, and wait"
            " for the file to come back after a restart"
        )
    return plan


def _effective(old: RouteSpec, new: RouteSpec, named: Sequence[str]) -> list[Change]:
    """What changes by a criticality or a default, without being written in the route."""
    found = []
    for name in ("retry", "within", "priority", "ttl", "alert", "concurrency"):
        before, after = _text(getattr(old, name)), _text(getattr(new, name))
        if before != after and not any(path.partition(".")[0] == name for path in named):
            found.append(Change(f"{name} (by criticality)", before, after))
    return found


def _text(value: Any) -> str:
    return str(getattr(value, "text", value)) if value is not None else "–"


def _restarts(changes: Sequence[Change]) -> list[str]:
    parts = {change.path.partition(".")[0] for change in changes}
    return [f"`{name}` of esb.yaml changes at the next start" for name in ("store", "http", "admin") if name in parts]
