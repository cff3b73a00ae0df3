"""The file source at work: look, claim, read, hand to intake, and only after the commit file away."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from esb.endpoints.base import Incoming, KeyConflict, Receipt, SourceContext
from esb.endpoints.file_claim import Desk, Report, Taken
from esb.endpoints.file_scan import Found, Pattern, Scanner
from esb.endpoints.folders import apart
from esb.endpoints.paths import split_suffix
from esb.endpoints.polling import Poller
from esb.errors import EsbError, Invalid, StoreBusy, Unavailable
from esb.failpoints import pause as failpoint
from esb.registry import load

if TYPE_CHECKING:
    from esb.endpoints.file import FileSource


class FilePoller(Poller):
    """A :class:`~esb.endpoints.base.RunningSource`. One file at a time, so that files are accepted in their order."""

    def __init__(self, options: FileSource, context: SourceContext) -> None:
        super().__init__(context)
        self._options = options
        path = options.path.render(self._scope({"route": context.route}))
        pattern = Pattern.of(path, context.workspace)
        self._base = pattern.base
        self._scanner = Scanner(options, pattern, context.workspace)
        self._desk = Desk(options, pattern.base, self._scanner)
        self._more = False
        self._trouble = ""
        self._linked: set[str] = set()
        self._troubled: dict[str, str] = {}
        self._types: Mapping[str, str] | None = None

    async def start(self) -> None:
        if self._base.is_relative_to(self._context.workspace):
            with suppress(OSError):  # the first look says what is wrong
                await apart(lambda: self._base.mkdir(parents=True, exist_ok=True))
        await super().start()

    async def poll_once(self) -> int:
        """Look once and take what is ready, at most ``batch`` files; how many were taken in hand."""
        async with self._turn:
            self._more = False
            found = [] if self.resting else await self._look()
            taken = 0
            for file in found[: self._options.batch]:
                if taken and self.resting:
                    break
                await self._handle(file)
                taken += 1
            self._more = taken == self._options.batch and len(found) > taken
            return taken

    def pause(self) -> float:
        if self._more:
            return 0.0
        pause = self._options.every.total_seconds()
        if self._scanner.soonest is not None:
            pause = min(pause, self._scanner.soonest)
        return max(pause, self.rest_left, 0.01)

    async def _look(self) -> list[Found]:
        now = self._context.clock.monotonic()
        try:
            found = await apart(lambda: self._scanner.look(now))
        except OSError as error:
            trouble = f"{self._base}: {error.strerror or error}"
            if trouble != self._trouble:
                self._trouble = trouble
                self._log("warning", "file.folder_trouble", error=trouble, hint="does the folder exist, is it mounted?")
            return []
        if self._trouble:
            self._trouble = ""
            self._log("info", "file.folder_back", folder=str(self._base))
        for path in self._scanner.linked - self._linked:
            self._log("warning", "file.linked", file=path, hint="it has other hard links; copy it here instead")
        self._linked, self._scanner.linked = self._scanner.linked, set()
        return found

    async def _handle(self, found: Found) -> None:
        """One file from claim to its end. Never raises but on cancellation: the other files go on."""
        taken = None
        try:
            taken = await apart(lambda: self._desk.take(found))
            if taken is not None:
                await self._deliver(taken)
        except OSError as error:
            self._trouble_with(found, str(error.strerror or error))
        except EsbError as error:
            self._trouble_with(found, error.message, error.hint)
        else:
            self._troubled.pop(found.path, None)
        finally:
            if taken is not None:
                taken.close()

    def _trouble_with(self, found: Found, error: str, hint: str = "") -> None:
        """Said once per file and fault, not at every look."""
        if self._troubled.get(found.path) != error:
            self._troubled[found.path] = error
            self._log("error", "file.trouble", file=_shown(found), error=error, hint=hint)

    async def _deliver(self, taken: Taken) -> None:
        if taken.refused:
            await self._fail(taken, Report(taken.path, taken.refused, self._now()), always=True)
            return
        try:
            receipt = await self._context.intake.accept(self._incoming(taken))
        except (StoreBusy, Unavailable) as error:
            await apart(lambda: self._desk.put_back(taken.found))
            self._rest(error)
            return
        except KeyConflict as error:
            reason = f"{error}; `seen_by` does not tell the two apart"
            await self._fail(taken, Report(taken.path, reason, self._now(), error.message_id), always=True)
            return
        except Invalid as error:
            await self._fail(taken, Report(taken.path, error.message, self._now()), always=True)
            return
        except Exception as error:  # noqa: BLE001 - the source loop: not stored, so it is tried again at the next look
            await apart(lambda: self._desk.put_back(taken.found))
            self._log("error", "file.not_accepted", file=taken.path, error=f"{type(error).__name__}: {error}")
            return
        await self._settle(taken, receipt)

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
        if receipt.state == "known" and not taken.found.claimed:
            self._log("warning", "file.duplicate", file=taken.path, message=receipt.message_id)
        scope = self._scope(self._meta(taken, receipt.message_id))
        place = await apart(lambda: self._desk.done(taken, scope))
        self._log("debug", "file.done", file=taken.path, message=receipt.message_id, moved=place)

    async def _fail(self, taken: Taken, report: Report, *, always: bool) -> None:
        scope = self._scope(self._meta(taken, report.message_id))
        place = await apart(lambda: self._desk.failed(taken, scope, report, always=always))
        self._log(
            "warning", "file.failed", file=taken.path, message=report.message_id, error=report.reason, moved=place
        )

    def _incoming(self, taken: Taken) -> Incoming:
        return Incoming(
            payload=taken.payload,
            codec=self._options.format,
            content_type=self._content_type(taken.name),
            meta={**taken.meta(), "source": {"type": "file"}},
            contract=self._options.contract,
            source_key=self._identity(taken),
            fingerprint=taken.sha256,
            on_invalid="dead",
        )

    def _identity(self, taken: Taken) -> str:
        parts = {"name": taken.path, "size": taken.found.size, "modified": taken.modified, "sha256": taken.sha256}
        return "file:" + "|".join(str(parts[part]) for part in self._options.seen_by)

    def _content_type(self, name: str) -> str:
        if self._options.format is not None:
            return self._options.format.content_type
        if self._types is None:
            formats: list[Any] = [component.cls for component in load().family("format").values()]
            self._types = {suffix: format_.content_type for format_ in formats for suffix in format_.suffixes}
        return self._types.get(split_suffix(name)[1].lower(), "application/octet-stream")

    def _meta(self, taken: Taken, message_id: str) -> dict[str, Any]:
        """What the templates of ``done`` and ``failed`` see."""
        return {
            **taken.meta(),
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


def _shown(found: Found) -> str:
    return found.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
