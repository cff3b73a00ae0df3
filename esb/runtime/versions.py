"""The versions of one route that messages still run on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from esb.config.model import RouteSpec
from esb.runtime.bench import Bench
from esb.runtime.births import Births
from esb.runtime.lanes import Entry
from esb.steps.aggregate import Complete, Gather
from esb.steps.base import Block
from esb.steps.compensate import UNDO
from esb.steps.resequence import Line

Version = tuple[RouteSpec, Bench, Births]


@dataclass(slots=True)
class Versions:
    """Messages that have started stay on theirs, and what is open at a restart, too, where it is more than one message: a group,
    a sequence, a saga, a payload whose items are born piece by piece. The others take the newest when they start (SPEC promise 5).

    ``recall`` makes a version anew of what the store keeps of it; None where that cannot be done (it says why in the log).
    """

    newest: Version
    recall: Callable[[str], Version | None]
    _kept: dict[str, Version] = field(default_factory=dict)
    #: For those alone that are bound to theirs, or lost without it.
    _recalled: dict[str, Version] = field(default_factory=dict)
    _gone: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._kept[self.newest[0].digest] = self.newest

    def update(self, newest: Version, open_: Iterable[Entry]) -> None:
        """Make ``newest`` the newest, and forget those that no open message needs."""
        blocks = newest[0].blocks
        needed = {entry.version for entry in open_ if _stays(entry) or is_lost(entry, blocks)}
        self.newest = self._kept[newest[0].digest] = newest
        needed.add(newest[0].digest)
        for known in (self._kept, self._recalled):
            for digest in [digest for digest in known if digest not in needed]:
                del known[digest]
        self._gone.clear()

    def bind(self, entry: Entry) -> RouteSpec:
        """The version that decides how this new entry waits: its own where it is of a group or sequence, and bound from now on."""
        if entry.scope and entry.scope != UNDO and not entry.earlier:
            own = self._known(entry.version)[0]
            first = first_of(own, entry.scope)
            if first is not None and isinstance(first, (Gather, Line)):
                entry.bound, entry.version = True, own.digest
                return own
        return self.newest[0]

    def spec_of(self, entry: Entry) -> RouteSpec:
        """The version that decides how an entry waits."""
        return self._known(entry.version)[0] if entry.bound else self.newest[0]

    def of(self, entry: Entry) -> Version:
        """The version that an attempt of this message runs on; noted in the entry."""
        if not (entry.attempts or entry.scope or entry.bound):  # nearly all of them
            known = self.newest
        elif entry.bound or (entry.scope == UNDO and not entry.earlier):
            known = self._known(entry.version)
        else:
            known = self._kept.get(entry.version, self.newest) if _stays(entry) else self.newest
        if is_lost(entry, known[0].blocks):  # its branch was renamed or taken out: the version that made it has it
            known = self._known(entry.version)
        entry.version = known[0].digest
        return known

    def _known(self, digest: str) -> Version:
        found = self._kept.get(digest) or self._recalled.get(digest)
        if found is None and digest not in self._gone:
            found = self.recall(digest)
            if found is None:
                self._gone.add(digest)
            else:
                live = self._kept.get(found[0].digest)
                found = self._recalled[digest] = live or self._recalled.setdefault(found[0].digest, found)
        return found or self.newest


def first_of(spec: RouteSpec, scope: str) -> object | None:
    """The first step of a scope; None where the version has none there."""
    block: Block | None = spec.blocks.get(scope)
    return block.nodes[0].step if block is not None and block.nodes else None


def hold(entry: Entry, ledger: Mapping[str, Any]) -> None:
    """A message that keeps compensations stays on the version that said them, also over a restart, and so does one of which some
    items were born already: what is next counts the items of that version. A person's retry takes the rest to the newest."""
    for kept in () if entry.moved else ledger.values():
        if not isinstance(kept, Mapping):
            continue
        version = kept.get("version") or ("" if entry.earlier else kept.get("begun_on"))
        if version:
            entry.bound, entry.version = True, version
            return


def gathers(entry: Entry, spec: RouteSpec) -> Complete | None:
    """When the group of a part is complete; None for a message that is none."""
    first = first_of(spec, entry.scope) if entry.scope else None
    return first.of.complete if isinstance(first, Gather) else None


def _stays(entry: Entry) -> bool:
    """Whether a message stays on its version: one that has started, what is more than one message, and a compensation."""
    return entry.attempts > 0 or entry.bound or entry.scope == UNDO


def is_lost(entry: Entry, blocks: Iterable[str]) -> bool:
    """Whether a version without this branch cannot run the message."""
    return bool(entry.scope) and entry.scope not in blocks
