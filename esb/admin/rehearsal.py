"""What would come of a stored message, with the payload it has or another one: tried on stubs, beside the running bus."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import structs

from esb import views
from esb.admin import render
from esb.beside import beside
from esb.config.routes import parts_of, steps_of
from esb.errors import ConfigError
from esb.message import Envelope, short_version
from esb.observe.hiding import HIDDEN
from esb.operations import NotAllowed, UnknownMessage
from esb.runtime.history import known_of
from esb.store.base import Filter, Store, Stored

if TYPE_CHECKING:
    from esb.config.model import RouteSpec, Workspace
    from esb.testing.clock import VirtualClock
    from esb.testing.looking import Book
    from esb.testing.rehearse import Trial

#: Members of a rehearsal that tell of payloads.
_TELLING = ("error", "reason", "published")


class Files(Protocol):
    """Where the workspace stands."""

    @property
    def root(self) -> Path: ...


class Rehearsal:
    """Tries messages one at a time, in a thread of their own: on the files as they stand, against the answers of stubs, else those
    that targets gave then. Nothing is sent and nothing is stored."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store, self._files = store, files
        self._turn = asyncio.Lock()

    async def of(self, id_: str, payload: bytes | None = None) -> dict[str, Any]:
        """How the message would end, and what each target would get; ``payload`` stands for the one it has.

        Raises UnknownMessage, NotAllowed (too large, or its route has no file any more), ConfigError.
        """
        stored, trial = self._trial(id_, failures=False)
        if payload is not None:
            trial = replace(trial, envelope=structs.replace(trial.envelope, body=payload))
        async with self._turn:
            tried = await beside(partial(_tried, self._files.root, stored.envelope.route, trial))
        return {"route": stored.envelope.route, **tried}

    async def steps(self, id_: str, may_run: Callable[[str], bool]) -> dict[str, Any]:
        """What each step made of the message: ``id route version its_version state more`` and ``steps`` (:meth:`Book.items`).

        On the version that it ran on, where that can be read again, else on the files as they stand (``its_version`` is false then).
        ``more``: there was too much to be written down. Raises as :meth:`of`, and NotAllowed where a route runs the workspace's
        own code and ``may_run`` says no of it.
        """
        stored, trial = self._trial(id_, failures=True)
        code = may_run(stored.envelope.route)
        async with self._turn:
            return await beside(partial(_steps, self._files.root, self._store, stored.envelope, trial, code))

    def _trial(self, id_: str, *, failures: bool) -> tuple[Stored, Trial]:
        from esb.testing.rehearse import Trial  # noqa: PLC0415 - a bus that nobody asks for a dry run does without it

        stored = self._store.get(id_, trace=False)
        if stored is None:
            raise UnknownMessage(f"no message {id_}", hint="esb messages ls")
        (found,) = next(views.traffic(self._store, Filter(ids=(id_,), limit=1)), [None])
        if found is None:
            raise NotAllowed("the payload is too large to be tried", hint="retry it, and look at what the target says")
        return stored, Trial.of(found, failures=failures)


def _tried(root: Path, route: str, trial: Trial) -> dict[str, Any]:
    from esb.config.loader import load_workspace  # noqa: PLC0415 - the compiler is for who tries something
    from esb.testing.clock import VirtualClock  # noqa: PLC0415 - a bus that nobody asks for a dry run
    from esb.testing.rehearse import rehearse  # noqa: PLC0415 - does without these

    clock = VirtualClock()
    workspace, problems = load_workspace(root.resolve(), need_secrets=False, clock=clock)
    if workspace is None:
        raise ConfigError(problems)
    if route not in workspace.routes:
        raise NotAllowed(f"route {route} is not in the workspace", hint="put its file back first")
    return next(iter(rehearse(workspace, route, [trial], clock))).as_item()


def _steps(root: Path, store: Store, envelope: Envelope, trial: Trial, code: bool) -> dict[str, Any]:
    from esb.testing.clock import VirtualClock  # noqa: PLC0415 - as above
    from esb.testing.rehearse import rehearse  # noqa: PLC0415 - as above

    clock, route = VirtualClock(), envelope.route
    workspace, book, its = _version(root.resolve(), store, envelope, clock)
    if not code and (own := _own_code(workspace, workspace.routes[route])):
        words = f"{own} is code of the workspace, which would run once more"
        raise NotAllowed(words, hint="somebody with the right to edit can look at it")
    tried = next(iter(rehearse(workspace, route, [trial], clock, book.ended)), None)
    assert tried is not None
    return {
        "id": envelope.id,
        "route": route,
        "version": short_version(envelope.version if its else workspace.routes[route].digest),
        "its_version": its,
        "state": tried.state,
        "error": tried.error,
        "more": book.cut,
        "steps": book.items(),
    }


def _own_code(workspace: Workspace, spec: RouteSpec) -> str:
    """What of a route is code of the workspace, which may do anything whenever it runs; empty where nothing is. Targets are stubbed."""
    nodes = list(steps_of(spec.blocks))
    for node in nodes:
        if node.kind == "python" or not _is_ours(type(node.step)):
            return f"step {node.id}"
    own = tuple(one.cls for one in workspace.registry.family("format").values() if not _is_ours(one.cls))
    places = (spec.source.options, *(node.step for node in nodes))
    return "a format" if own and any(parts_of(place, own) for place in places) else ""


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith("esb.")


def _version(root: Path, store: Store, envelope: Envelope, clock: VirtualClock) -> tuple[Workspace, Book, bool]:
    """The workspace to try a message on, the book of its steps, and whether it holds the version that the message ran on."""
    from esb.config.loader import read_workspace  # noqa: PLC0415 - as above
    from esb.runtime.recall import Gone, texts_of  # noqa: PLC0415 - as above
    from esb.testing.looking import Book  # noqa: PLC0415 - as above

    route, digest = envelope.route, envelope.version
    known, book = known_of(store, route, digest), Book()
    now = read_workspace(root, need_secrets=False, clock=clock, weave=book.weave)
    if now.workspace is None:
        raise ConfigError(now.problems)
    live = now.workspace.routes.get(route)
    if live is not None and (live.digest == digest or (known and live.known == known)):
        return now.workspace, book, True
    with suppress(Gone):
        for texts in texts_of(store, route, digest, now.workspace):
            old = Book()
            found = read_workspace(root, texts=texts, need_secrets=False, clock=clock, weave=old.weave).workspace
            spec = found.routes.get(route) if found is not None else None
            if found is not None and spec is not None and (spec.digest == digest or (known and spec.known == known)):
                return found, old, True
    if live is None:
        raise NotAllowed(f"route {route} is not in the workspace", hint="put its file back first")
    return now.workspace, book, False


def steps_without_payloads(item: dict[str, Any]) -> dict[str, Any]:
    """What each step did for who may not see payloads: which steps ran, and where the message ended."""
    blank = {"before": None, "after": None, "diff": None}
    steps = [{**one, **blank, "ended": HIDDEN if one["ended"] else ""} for one in item["steps"]]
    return {**item, "error": HIDDEN if item["error"] else None, "steps": steps}


def without_payloads(item: dict[str, Any]) -> dict[str, Any]:
    """A rehearsal for who may not see payloads: how it ends and which targets are asked, nothing of what they get."""
    kept = {name: HIDDEN if name in _TELLING and value else value for name, value in item.items()}
    kept["sent"] = [{**one, "headers": {}, "body": HIDDEN, **({"path": HIDDEN} if "path" in one else {})} for one in item["sent"]]  # fmt: skip
    kept["children"] = [{**one, "error": HIDDEN if one["error"] else None} for one in item["children"]]
    return kept


def difference(before: str, after: str) -> list[str]:
    """The lines that differ between two payloads, with three around each; JSON is laid out first."""
    old, new = (render.pretty(text).splitlines() for text in (before, after))
    return list(difflib.unified_diff(old, new, "as it is", "as it would be", lineterm=""))
