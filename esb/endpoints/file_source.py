"""A folder source at work: look, claim, read, hand to intake, and only after the commit file away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from esb.endpoints.base import BadRow, Incoming, KeyConflict, Receipt, SourceContext
from esb.endpoints.file_desk import Desk, Taken, shown
from esb.endpoints.file_line import Line, Place
from esb.endpoints.file_options import FolderSource
from esb.endpoints.file_report import Report
from esb.endpoints.file_scan import Found
from esb.endpoints.file_watch import FolderWatch
from esb.endpoints.paths import render_path, split_suffix
from esb.endpoints.polling import Poller
from esb.errors import EsbError, Invalid, StoreBusy, Unavailable
from esb.failpoints import pause as failpoint
from esb.registry import load

#: most files that are claimed and read at a time; most, and most bytes of them, that are not yet filed away
READING, IN_HAND, IN_HAND_BYTES = 32, 96, 64_000_000


class FilePoller(Poller):
    """A :class:`~esb.endpoints.base.RunningSource`: several files are read and filed away at a time, accepted in their order."""

    def __init__(
        self,
        options: FolderSource,
        context: SourceContext,
        desk: Desk,
        watch: FolderWatch | None = None,
        *,
        kind: str = "file",
    ) -> None:
        super().__init__(context)
        self._options = options
        self._desk = desk
        self._watch = watch
        self._kind = kind
        self._more = False
        self._given = 0
        self._trouble = ""
        self._linked: set[str] = set()
        self._troubled: dict[str, str] = {}
        self._types: Mapping[str, str] | None = None

    async def start(self) -> None:
        await self._desk.start()
        if self._watch is not None:
            await self._watch.start()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        if self._watch is not None:
            await self._watch.stop()

    async def poll_once(self) -> int:
        """Look once and take what is ready, at most ``batch`` files; how many were handed on."""
        async with self._turn:
            self._more = False
            if self._watch is not None:
                self._watch.woken.clear()
            found = [] if self.resting else await self._look()
            self._given = 0
            await self._take_in_hand(found[: self._options.batch])
            self._more = len(found) > self._options.batch and not self.resting
            return self._given

    async def _take_in_hand(self, found: Sequence[Found]) -> None:
        """Work on the files, some at a time, until the intake wants a rest."""
        room, load = asyncio.Event(), 0
        line = Line(room.set)
        running: dict[asyncio.Task[None], int] = {}

        def ended(task: asyncio.Task[None]) -> None:
            nonlocal load
            load -= running.pop(task)
            if not task.cancelled() and task.exception() is not None:
                faults.append(task)
            room.set()

        def full(size: int) -> bool:
            many = line.reading >= READING or len(running) >= IN_HAND
            return bool(running) and (many or load + size > IN_HAND_BYTES)

        faults: list[asyncio.Task[None]] = []
        try:
            for file in found:
                while full(file.size) and not faults:
                    room.clear()
                    await room.wait()
                if faults or (running and self.resting):
                    break
                place = line.enter()
                task = asyncio.create_task(self._handle(file, line, place))
                running[task] = file.size
                load += file.size
                task.add_done_callback(ended)
            while running:
                await asyncio.wait(running)
        finally:
            for task in running:
                task.cancel()
        for task in faults:
            task.result()

    def pause(self) -> float:
        if self._more:
            return 0.0
        pause = self._options.every.total_seconds()
        if self._desk.scanner.soonest is not None:
            pause = min(pause, self._desk.scanner.soonest)
        return max(pause, self.rest_left, 0.01)

    async def nap(self, seconds: float) -> None:
        if self._watch is None or self.rest_left > 0:
            await super().nap(seconds)
            return
        tasks = [asyncio.ensure_future(super().nap(seconds)), asyncio.ensure_future(self._watch.woken.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _look(self) -> list[Found]:
        try:
            found = await self._desk.look(self._context.clock.monotonic())
        except (OSError, EsbError) as error:
            trouble = f"{self._desk.where}: {_words(error)}"
            if trouble != self._trouble:
                self._trouble = trouble
                hint = getattr(error, "hint", "") or "does the folder exist, is it mounted?"
                self._log("warning", "file.folder_trouble", error=trouble, hint=hint)
            return []
        if self._trouble:
            self._trouble = ""
            self._log("info", "file.folder_back", folder=self._desk.where)
        scanner = self._desk.scanner
        for path in scanner.linked - self._linked:
            self._log("warning", "file.linked", file=path, hint="it has other hard links; copy it here instead")
        self._linked, scanner.linked = scanner.linked, set()
        return found

    async def _handle(self, found: Found, line: Line, place: Place) -> None:
        """One file from claim to its end, its turn at the intake in the order of the line. Raises only what nobody handles."""
        taken = None
        try:
            taken = await self._desk.take(found)
            line.ready(place)
            await place.turn
            if taken is not None:
                await self._deliver(taken)
        except (OSError, EsbError) as error:
            self._trouble_with(found, _words(error), getattr(error, "hint", ""))
        else:
            self._troubled.pop(found.path, None)
        finally:
            line.leave(place)
            if taken is not None:
                self._let_go(taken)

    def _trouble_with(self, found: Found, error: str, hint: str = "") -> None:
        """Said once per file and fault, not at every look."""
        if self._troubled.get(found.path) != error:
            self._troubled[found.path] = error
            self._log("error", "file.trouble", file=_path(found), error=error, hint=hint)

    async def _deliver(self, taken: Taken) -> None:
        if self.resting:
            await self._desk.put_back(taken)
            return
        self._given += 1
        if taken.refused:
            await self._fail(taken, Report(taken.path, taken.refused, self._now()), always=True)
            return
        try:
            # begun in the order of the files, so that they are accepted in it; the commits are waited for side by side
            receipt = await self._accept(self._incoming(taken))
        except (StoreBusy, Unavailable):
            await self._desk.put_back(taken)
            return
        except KeyConflict as error:
            reason = f"{error}; `seen_by` does not tell the two apart"
            await self._fail(taken, Report(taken.path, reason, self._now(), error.message_id), always=True)
            return
        except Invalid as error:
            await self._fail(taken, Report(taken.path, error.message, self._now()), always=True)
            return
        except Exception as error:  # noqa: BLE001 - the source loop: not stored, so it is tried again at the next look
            await self._desk.put_back(taken)
            self._log("error", "file.not_accepted", file=taken.path, error=f"{type(error).__name__}: {error}")
            return
        await self._settle(taken, receipt)

    async def _accept(self, incoming: Incoming) -> Receipt:
        intake, told = self._context.intake, asyncio.get_running_loop().create_future()
        try:
            if intake.accept_soon(incoming, partial(_tell, told)):
                receipt: Receipt = await told
                return receipt
            return await intake.accept(incoming)
        except (StoreBusy, Unavailable) as error:
            self._rest(error)  # at once: the files behind this one must not be accepted before it
            raise

    async def _settle(self, taken: Taken, receipt: Receipt) -> None:
        """The message is committed: only now the file may go. A failure here leaves it claimed, and it is tried again."""
        await failpoint("file.accepted")
        taken.payload = b""
        if receipt.state == "dead":
            error = receipt.error
            reason = error.message if error is not None else "its message is a dead letter"
            report = Report(taken.path, reason, self._now(), receipt.message_id, error)
            await self._fail(taken, report, always=False)
            return
        if receipt.state == "known" and not taken.again:
            self._log("warning", "file.duplicate", file=taken.path, message=receipt.message_id)
        scope = self._scope(self._meta(taken.meta(), receipt.message_id))
        place = await self._desk.done(taken, scope)
        self._log("debug", "file.done", file=taken.path, message=receipt.message_id, moved=place)

    async def _fail(self, taken: Taken, report: Report, *, always: bool) -> None:
        scope = self._scope(self._meta(taken.meta(), report.message_id))
        place = await self._desk.failed(taken, scope, report, always=always)
        self._log(
            "warning", "file.failed", file=taken.path, message=report.message_id, error=report.reason, moved=place
        )

    @property
    def place(self) -> str:
        return self._desk.place

    async def hand_back(self, known: Callable[[str], str]) -> list[str]:
        """See :class:`~esb.endpoints.base.ClaimingSource`."""
        stays = []
        for found in await self._desk.look(self._context.clock.monotonic()):
            if not found.claimed or (taken := await self._desk.take(found)) is None:
                continue
            try:
                await self._hand_back(taken, "" if taken.refused else known(self._identity(taken)))
            except (OSError, EsbError) as error:
                self._trouble_with(found, _words(error), getattr(error, "hint", ""))
                stays.append(taken.path)
            else:
                stays += [taken.path] if found.path in self._desk.scanner.unsure else []
            finally:
                self._let_go(taken)
        return stays

    async def _hand_back(self, taken: Taken, message_id: str) -> None:
        if message_id:
            await self._settle(taken, Receipt(message_id, "", "known"))
            return
        await self._desk.put_back(taken)
        if taken.found.path not in self._desk.scanner.unsure:
            self._log("info", "file.given_back", file=taken.path, folder=self._desk.where)

    def _let_go(self, taken: Taken) -> None:
        taken.close()
        if taken.blob is not None and self._context.spool is not None:
            self._context.spool.release(taken.blob)

    async def report(
        self, meta: Mapping[str, Any], reason: str, rows: Sequence[BadRow], original: bytes | None = None
    ) -> str:
        """Put a report about an accepted file into `failed.move`: see :class:`~esb.endpoints.base.ReportingSource`."""
        failed, path = self._options.failed, str(meta.get("file_path", ""))
        if not path or not (failed.report or original is not None):
            return ""
        *parts, name = path.split("/")
        scope = self._scope(self._meta(meta, message_id := str(meta.get("message_id", ""))))
        to, place = render_path(failed.move, scope, folder=True), ""
        if original is not None:
            place = await self._desk.write(tuple(parts), to, name, original)
        if not failed.report:
            return place
        report = Report(path, reason, self._now(), message_id, rows=tuple(rows), like=self._options.format)
        return await self._desk.write_report(tuple(parts), to, place.rpartition("/")[2] or name, report)

    def _incoming(self, taken: Taken) -> Incoming:
        return Incoming(
            payload=taken.payload,
            blob=taken.blob,
            codec=self._options.format,
            content_type=self._content_type(taken.name),
            meta={**taken.meta(), "source": {"type": self._kind}},
            contract=self._options.contract,
            source_key=self._identity(taken),
            fingerprint=taken.sha256,
            on_invalid="dead",
            in_order=True,
        )

    def _identity(self, taken: Taken) -> str:
        parts = {"name": taken.path, "size": taken.found.size, "modified": taken.modified, "sha256": taken.sha256}
        return f"{self._kind}:" + "|".join(str(parts[part]) for part in self._options.seen_by)

    def _content_type(self, name: str) -> str:
        if self._options.format is not None:
            return self._options.format.content_type
        if self._types is None:
            formats: list[Any] = [component.cls for component in load().family("format").values()]
            self._types = {suffix: format_.content_type for format_ in formats for suffix in format_.suffixes}
        return self._types.get(split_suffix(name)[1].lower(), "application/octet-stream")

    def _meta(self, file: Mapping[str, Any], message_id: str) -> dict[str, Any]:
        """What the templates of ``done`` and ``failed`` see."""
        return {
            **file,
            "route": self._context.route,
            "message_id": message_id,
            "received_at": self._now(),
        }

    def _scope(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        return {"body": None, "headers": {}, "vars": {}, "meta": meta, "site": self._context.site}

    def _now(self) -> str:
        return self._context.clock.now().isoformat().replace("+00:00", "Z")

    def _rest(self, error: StoreBusy | Unavailable) -> None:
        wait = error.retry_after or timedelta(seconds=5)
        self.rest(wait.total_seconds())
        self._log("info", "file.rests", reason=error.message, seconds=wait.total_seconds())

    def _log(self, level: str, event: str, **fields: Any) -> None:
        self._context.log(level, event, route=self._context.route, **fields)


def _tell(told: asyncio.Future[Receipt], answer: Receipt | Exception) -> None:
    if told.done():  # the source was stopped meanwhile; what is stored stays stored
        return
    if isinstance(answer, Exception):
        told.set_exception(answer)
    else:
        told.set_result(answer)


def _path(found: Found) -> str:
    return "/".join((*map(shown, found.parts), shown(found.name)))


def _words(error: OSError | EsbError) -> str:
    return error.message if isinstance(error, EsbError) else str(error.strerror or error)
