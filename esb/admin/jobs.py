"""Bulk retries: dead messages queued again in the background, at a rate, in the order of their acceptance, until done or stopped.

A job stands in the store: which messages are meant, by whom, and how far it is. The place after a message is written in the transaction that
queues it, so that a job goes on after a restart or a kill where it was, and queues no message twice.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from esb.clock import Clock
from esb.durations import Rate
from esb.errors import EsbError, StoreBusy
from esb.message import State
from esb.operations import NotAllowed, Operations, UnknownMessage, Who
from esb.store.base import AuditEntry, Filter, Memo, Store

#: Jobs that run at once, that are remembered, and of which the result of every message is.
MOST_RUNNING, MOST_KEPT, MOST_WHOLE = 5, 20, 3
#: Messages between two notes of the progress where none of them was queued.
NOTED_EVERY = 25
#: Seconds before a message is tried again that the store was too busy to take.
BUSY = 5.0
#: What is shown of each job, and what only the job itself needs.
FACTS, PLAN = "bulk-job", "bulk-plan"
#: States of a job that goes on: now, or when the bus runs again.
OPEN = frozenset({"running", "waiting"})


@dataclass(slots=True)
class Job:
    """One bulk retry; ``facts`` is what is kept in the store of it, and shown."""

    ids: tuple[str, ...]
    who: Who
    stale: bool
    rate: Rate | None
    facts: dict[str, Any]
    results: list[dict[str, Any]] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def plan(self) -> dict[str, Any]:
        """What it takes to go on with it after a restart."""
        who = {"actor": self.who.actor, "reason": self.who.reason, "detail": dict(self.who.detail)}
        rate = [self.rate.count, self.rate.span.total_seconds()] if self.rate is not None else None
        return {"ids": list(self.ids), "who": who, "stale": self.stale, "rate": rate}

    @classmethod
    def planned(cls, plan: dict[str, Any], facts: dict[str, Any]) -> Job:
        rate = (
            Rate(int(plan["rate"][0]), timedelta(seconds=float(plan["rate"][1]))) if plan["rate"] is not None else None
        )
        job = cls(tuple(plan["ids"]), Who(**plan["who"]), bool(plan["stale"]), rate, {**facts, "state": "running"})
        why = "before the bus started again: the audit has it"
        job.results = [{"id": id_, "route": "", "key": None, "result": "reached", "why": why} for id_ in job.ids[: facts["done"]]]  # fmt: skip
        return job


class Jobs:
    """The bulk retries of a bus. One that does not run only shows and stops them."""

    def __init__(self, store: Store, operations: Operations, clock: Clock, log: Callable[..., None]) -> None:
        self._store, self._operations, self._clock, self._log = store, operations, clock, log
        self._jobs: dict[str, Job] = {}

    def items(self) -> list[dict[str, Any]]:
        """Newest first; ``state`` is running, done, stopped, failed, or waiting (until the bus runs)."""
        found = {id_: {**facts, "state": _waiting(facts)} for id_, facts in self._kept().items()}
        found |= {id_: {**job.facts, "results": dict(job.facts["results"])} for id_, job in self._jobs.items()}
        return sorted(found.values(), key=lambda item: str(item["at"]), reverse=True)[:MOST_KEPT]

    def get(self, id_: str) -> dict[str, Any]:
        """Raises UnknownMessage."""
        found = next((item for item in self.items() if item["job"] == id_), None)
        if found is None:
            raise UnknownMessage(f"no bulk retry {id_}", hint="the page of dead letters lists them")
        return found

    def results(self, id_: str) -> list[dict[str, Any]]:
        """What came of each message so far; empty for a job that is only remembered."""
        return list(self._jobs[id_].results) if id_ in self._jobs else []

    async def start(self, meant: Filter, who: Who, *, stale: bool, rate: Rate | None) -> dict[str, Any]:
        """Fix which messages are meant, note it in the audit, and begin. Raises NotAllowed, UnknownMessage."""
        if stale and not who.reason:
            raise NotAllowed("`--stale` needs a reason", hint='add --reason "why the old state may win"')
        approval = str(who.detail.get("approval") or "")
        if approval and (begun := next((item for item in self.items() if item["approval"] == approval), None)):
            # the bus died between the beginning and the note that it was approved
            return {**begun, "result": "started"}
        if sum(job.facts["state"] == "running" for job in self._jobs.values()) >= MOST_RUNNING:
            raise NotAllowed(f"{MOST_RUNNING} bulk retries run already", hint="wait for one, or stop it")
        planned = await self._operations.retry(meant, who, stale=stale, dry_run=True)
        wanted = [item for item in planned if item["result"] == "would retry"]
        id_, at = secrets.token_hex(4), self._clock.now().isoformat()
        routes = sorted({str(item["route"]) for item in planned})
        facts = {
            "job": id_,
            "state": "running",
            "group": meant.group,
            "routes": routes,
            "total": len(wanted),
            "done": 0,
            "results": {"skipped": len(planned) - len(wanted)} if len(planned) > len(wanted) else {},
            "rate": _shown(rate),
            "by": who.actor,
            "reason": who.reason,
            "at": at,
            "ended_at": "",
            "stopped_by": "",
            "approval": approval,
        }
        job = Job(tuple(str(item["id"]) for item in wanted), who, stale, rate, facts)
        job.results = [item for item in planned if item["result"] != "would retry"]
        await self._store.put_state(PLAN, id_, job.plan)
        await self._note(facts, self._entry(job, "bulk.start", who, "group", "routes", "total", "rate"))
        self._begin(job)
        return {**facts, "result": "started"}

    async def resume(self) -> None:
        """Go on with what the last process left: once, when the bus runs."""
        for id_, facts in self._kept().items():
            if _waiting(facts) != "waiting" or id_ in self._jobs:
                continue
            job = Job.planned(self._store.get_state(PLAN, id_), facts)
            await self._note(job.facts, self._entry(job, "bulk.resume", Who("bus", "the bus runs again"), "done", "total", "routes"))  # fmt: skip
            self._log("info", "bulk.resumed", job=id_, done=facts["done"], total=facts["total"])
            self._begin(job)

    async def stop(self, id_: str, who: Who) -> dict[str, Any]:
        """No further message is retried; those that are queued again stay so. Waits until the job has stopped."""
        facts, job = self.get(id_), self._jobs.get(id_)
        if facts["state"] not in OPEN:
            return {**facts, "result": "skipped", "why": "it does not run"}
        if job is None:  # the bus does not run
            job = Job((), who, stale=False, rate=None, facts={**facts, "state": "stopped"})
            job.facts["ended_at"] = self._clock.now().isoformat()
        job.facts["stopped_by"] = who.actor
        await self._note(job.facts, self._entry(job, "bulk.stop", who, "done", "total", "routes"))
        job.stop.set()
        if job.task is not None:
            await asyncio.wait({job.task})
        return {**job.facts, "result": "stopped"}

    async def close(self) -> None:
        """The bus stops: every job ends after the message that it is at, and goes on when the bus runs again."""
        running = [job for job in self._jobs.values() if job.task is not None and not job.task.done()]
        for job in running:
            job.stop.set()
        if tasks := {job.task for job in running if job.task is not None}:
            await asyncio.wait(tasks)

    # -- inside -----------------------------------------------------------------------------------------------------------
    def _begin(self, job: Job) -> None:
        self._jobs[job.facts["job"]] = job
        job.task = asyncio.create_task(self._run(job))

    async def _run(self, job: Job) -> None:
        facts = job.facts
        try:
            await self._work(job)
            whole = facts["done"] == facts["total"]
            facts["state"] = "done" if whole else "stopped" if facts["stopped_by"] else "waiting"
        except Exception as error:  # noqa: BLE001 - whoever looks at the job must see that it ended, and why
            facts["state"], facts["results"] = "failed", {**facts["results"], "failed": 1}
            self._log("error", "bulk.failed", job=facts["job"], error=repr(error))
        about = None
        if facts["state"] != "waiting":
            facts["ended_at"] = self._clock.now().isoformat()
            about = self._entry(job, "bulk.end", Who("bus", job.who.reason), "state", "done", "total", "results")
        with suppress(EsbError):  # the store closes: what was noted before tells how far it came
            await self._note(facts, about)
            await self._forget()

    async def _work(self, job: Job) -> None:
        facts = job.facts
        for place in range(facts["done"], len(job.ids)):
            if place and await self._stopped(job, 1.0 / job.rate.per_second if job.rate is not None else 0.0):
                return
            while True:
                try:
                    done = await self._one(job, place)
                    break
                except StoreBusy:  # of a full disk, say
                    if await self._stopped(job, BUSY):
                        return
            job.results += done
            results = Counter(facts["results"])
            results.update(str(item["result"]) for item in done)
            facts["results"], facts["done"] = dict(results), place + 1
            if place % NOTED_EVERY == NOTED_EVERY - 1:
                await self._note(facts)

    async def _one(self, job: Job, place: int) -> list[dict[str, Any]]:
        id_, who = job.ids[place], job.who
        known = Who(who.actor, who.reason, {**who.detail, "bulk": job.facts["job"]})
        try:
            return await self._operations.retry(Filter(ids=(id_,)), known, stale=job.stale, memo=_memo(job, place))
        except UnknownMessage:
            return [{"id": id_, "route": "", "key": None, "result": "skipped", "why": "retention removed it"}]

    async def _stopped(self, job: Job, seconds: float) -> bool:
        """Wait for the turn of the next message; whether somebody stopped the job meanwhile."""
        if not seconds:
            await asyncio.sleep(0)
            return job.stop.is_set()
        turn = asyncio.ensure_future(self._clock.sleep(seconds))
        stop = asyncio.ensure_future(job.stop.wait())
        await asyncio.wait({turn, stop}, return_when=asyncio.FIRST_COMPLETED)
        turn.cancel()
        stop.cancel()
        return job.stop.is_set()

    # -- what the store knows -----------------------------------------------------------------------------------------------
    def _kept(self) -> dict[str, dict[str, Any]]:
        found = self._store.states(FACTS, ("", ""), 10 * MOST_KEPT)
        return {name: facts for space, name, facts in found if space == FACTS}

    async def _note(self, facts: dict[str, Any], entry: AuditEntry | None = None) -> None:
        await self._store.put_state(FACTS, facts["job"], facts, entry)

    @staticmethod
    def _entry(job: Job, action: str, who: Who, *names: str) -> AuditEntry:
        return AuditEntry(who.actor, action, job.facts["job"], who.reason, {name: job.facts[name] for name in names})

    async def _forget(self) -> None:
        """Only the newest jobs are kept, and of fewer what came of each message; who ended needs no plan any more."""
        kept = {id_: facts for id_, facts in self._kept().items() if facts["state"] not in OPEN}
        newest = sorted(kept, key=lambda id_: str(kept[id_]["at"]))
        for id_ in newest:
            if self._store.get_state(PLAN, id_) is not None:
                await self._store.put_state(PLAN, id_, None)
        for id_ in newest[:-MOST_KEPT]:
            await self._store.put_state(FACTS, id_, None)
            self._jobs.pop(id_, None)
        for id_ in newest[:-MOST_WHOLE]:
            if id_ in self._jobs:
                self._jobs[id_].results = []


def _memo(job: Job, place: int) -> Memo:
    """How far the job is once its message is queued, or held behind another one."""

    def memo(state: State) -> tuple[str, str, Any]:
        results = Counter(job.facts["results"])
        results[state.value] += 1
        return FACTS, job.facts["job"], {**job.facts, "results": dict(results), "done": place + 1}

    return memo


def _waiting(facts: dict[str, Any]) -> str:
    """The state of a job that does not run here."""
    return ("stopped" if facts["stopped_by"] else "waiting") if facts["state"] in OPEN else str(facts["state"])


def _shown(rate: Rate | None) -> str:
    """A rate as people write it."""
    if rate is None:
        return ""
    unit = {1.0: "s", 60.0: "min", 3600.0: "h"}.get(rate.span.total_seconds())
    return f"{rate.count}/{unit}" if unit is not None else f"{rate.per_second:g}/s"
