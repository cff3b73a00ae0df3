"""What every source promises, as a suite: a protocol's test class inherits :class:`SourceContract` and brings a rig.

::

    class TestAmqpSource(SourceContract):
        @pytest.fixture
        def rig(self, rabbitmq: RabbitMq) -> Iterator[SourceRig]: ...

The store is a list that outlives the source, so that a second source over it is a restart.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from esb.clock import Clock, SystemClock
from esb.endpoints.base import Incoming, KeyConflict, Outcome, Receipt, RunningSource, SourceContext
from esb.errors import ErrorRecord, Invalid, StoreBusy
from esb.formats.json import Json

#: seconds until a test gives up; the promises are about what happens, not when
PATIENCE = 40.0


def key_of(incoming: Incoming, known: Mapping[str, tuple[str, str]]) -> tuple[str | None, str]:
    """The key that decides whether it is known, and the message that had its key with other content (empty: none).

    ``known`` has message and fingerprint of each key. Raises KeyConflict where such a one is refused.
    """
    key = incoming.source_key
    if key is None or key not in known or known[key][1] == incoming.fingerprint:
        return key, ""
    if incoming.on_reused == "refuse":
        raise KeyConflict(known[key][0])
    return f"{key}#{incoming.fingerprint}", known[key][0]


class DurableIntake:
    """Commits into a list; a test stops it before or after the commit, closes it, or lets the store refuse."""

    def __init__(self) -> None:
        self.committed: list[Incoming] = []
        self.dead: list[Incoming] = []
        self.known: dict[str, tuple[str, str]] = {}
        self.open = True
        self.behind = False
        self.asked = 0
        self.refuses = False  #: accepts fail with StoreBusy
        self.before = asyncio.Event()
        self.after = asyncio.Event()
        self.before.set()
        self.after.set()

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        def ended(task: asyncio.Task[Receipt]) -> None:
            if not task.cancelled():
                error = task.exception()
                told(error if isinstance(error, Exception) else task.result())

        asyncio.create_task(self.accept(incoming)).add_done_callback(ended)
        return True

    async def accept(self, incoming: Incoming) -> Receipt:
        self.asked += 1
        await self.before.wait()
        if self.refuses:
            raise StoreBusy("the store cannot take more", retry_after=timedelta(milliseconds=50))
        receipt = self._commit(incoming)
        await self.after.wait()
        return receipt

    def _commit(self, incoming: Incoming) -> Receipt:
        key, reused = key_of(incoming, self.known)
        if key is not None and key in self.known:
            id_ = self.known[key][0]
            return Receipt(id_, id_, "known", id_)
        error = _fault_of(incoming)
        if error is not None and incoming.on_invalid == "refuse":
            raise error
        taken = self.committed if error is None else self.dead
        taken.append(incoming)
        id_ = f"m{len(self.committed) + len(self.dead)}"
        if key is not None:
            self.known[key] = (id_, incoming.fingerprint)
        if error is not None:
            return Receipt(id_, id_, "dead", error=ErrorRecord("invalid", error.message))
        return Receipt(id_, id_, "queued", reused=reused)

    async def outcome(self, message_id: str, timeout: float, seq: int = 0) -> Outcome | None:
        return None

    def outcome_then(self, message_id: str, timeout: float, seq: int, told: Callable[[Outcome | None], None]) -> None:
        asyncio.get_running_loop().call_soon(told, None)

    @property
    def payloads(self) -> list[bytes]:
        return [incoming.payload for incoming in self.committed]


def _fault_of(incoming: Incoming) -> Invalid | None:
    try:
        body = (incoming.codec or Json()).decode(incoming.payload)
        if incoming.contract is not None:
            incoming.contract.check(body)
    except Invalid as error:
        return error
    return None


class SourceRig(ABC):
    """The other side of a source under test, and how to start one."""

    good: bytes = b'{"n": 1}'
    bad: bytes = b'{"n": '
    clock: Clock = SystemClock()
    workspace = Path()

    @abstractmethod
    async def offer(self, name: str, body: bytes) -> None:
        """The other side has a message of identity ``name``."""

    @abstractmethod
    async def held(self) -> int:
        """How many messages the other side would still give (again): what was not acknowledged."""

    @abstractmethod
    async def bind(self, context: SourceContext) -> RunningSource:
        """A new source; not started."""

    @abstractmethod
    async def crash(self, source: RunningSource) -> None:
        """End it as ``kill -9`` would: whatever it had in hand is not acknowledged."""

    async def tick(self) -> None:
        """Give a source that polls on a clock its next look."""
        await asyncio.sleep(0.01)

    # -- for the tests ------------------------------------------------------------------------------------------------
    async def start(self, intake: DurableIntake) -> RunningSource:
        logs: list[Any] = []
        context = SourceContext(
            route="contract",
            intake=intake,
            clock=self.clock,
            workspace=self.workspace,
            state=None,  # type: ignore[arg-type]  # a source that keeps state brings its own rig
            ingress=None,  # type: ignore[arg-type]  # only the HTTP source has one
            log=lambda level, event, **fields: logs.append((level, event, fields)),
        )
        source = await self.bind(context)
        await source.start()
        return source

    async def until(self, condition: Callable[[], bool]) -> None:
        async def told() -> bool:
            return condition()

        await self.until_async(told)

    async def until_async(self, condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await condition():
                await self.tick()

    async def until_held(self, count: int) -> None:
        async def same() -> bool:
            return await self.held() == count

        await self.until_async(same)


class SourceContract:
    """Inherit it, and give a fixture ``rig``."""

    def test_acknowledges_only_what_is_committed(self, rig: SourceRig) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            intake.before.clear()
            await rig.offer("a", rig.good)
            source = await rig.start(intake)
            await rig.until(lambda: intake.asked > 0)
            assert intake.payloads == []
            assert await rig.held() == 1
            intake.before.set()
            await rig.until(lambda: len(intake.committed) == 1)
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == [rig.good]

        asyncio.run(scenario())

    def test_a_crash_before_the_commit_loses_nothing(self, rig: SourceRig) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            intake.before.clear()
            await rig.offer("a", rig.good)
            source = await rig.start(intake)
            await rig.until(lambda: intake.asked > 0)
            await rig.crash(source)
            again = DurableIntake()
            source = await rig.start(again)
            await rig.until_held(0)
            await source.stop()
            assert again.payloads == [rig.good]

        asyncio.run(scenario())

    def test_after_a_crash_between_commit_and_acknowledgement_the_repeat_is_known(self, rig: SourceRig) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            intake.after.clear()
            await rig.offer("a", rig.good)
            source = await rig.start(intake)
            await rig.until(lambda: len(intake.committed) == 1)
            await rig.crash(source)
            intake.after.set()
            asked = intake.asked
            source = await rig.start(intake)
            await rig.until(lambda: intake.asked > asked)
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == [rig.good]

        asyncio.run(scenario())

    def test_content_that_cannot_be_read_is_a_dead_letter_and_holds_up_nothing(self, rig: SourceRig) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            await rig.offer("a", rig.bad)
            await rig.offer("b", rig.good)
            source = await rig.start(intake)
            await rig.until_held(0)
            await source.stop()
            assert [incoming.payload for incoming in intake.dead] == [rig.bad]
            assert intake.payloads == [rig.good]

        asyncio.run(scenario())

    def test_what_the_store_refuses_stays_on_the_other_side_and_comes_again(self, rig: SourceRig) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            intake.refuses = True
            await rig.offer("a", rig.good)
            source = await rig.start(intake)
            await rig.until(lambda: intake.asked > 1)
            assert await rig.held() == 1
            intake.refuses = False
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == [rig.good]

        asyncio.run(scenario())

    def test_takes_nothing_while_the_intake_is_closed(self, rig: SourceRig) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            intake.open = False
            await rig.offer("a", rig.good)
            source = await rig.start(intake)
            for _ in range(20):
                await rig.tick()
            assert intake.asked == 0
            assert await rig.held() == 1
            intake.open = True
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == [rig.good]

        asyncio.run(scenario())

    def test_a_stopped_source_takes_nothing_more(self, rig: SourceRig) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            source = await rig.start(intake)
            await rig.offer("a", rig.good)
            await rig.until_held(0)
            await source.stop()
            await rig.offer("b", rig.good)
            for _ in range(20):
                await rig.tick()
            assert intake.payloads == [rig.good]
            assert await rig.held() == 1

        asyncio.run(scenario())

    def test_accepts_in_the_order_of_the_other_side(self, rig: SourceRig) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            bodies = [b'{"n": %d}' % n for n in range(20)]
            for number, body in enumerate(bodies):
                await rig.offer(f"{number:02}", body)
            source = await rig.start(intake)
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == bodies

        asyncio.run(scenario())
