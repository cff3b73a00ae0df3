"""One running bus: lock, store, listeners, supervisor, watcher, put together in the order in which messages flow."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esb.admin.api import Access, Api
from esb.clock import Clock, SystemClock
from esb.config.loader import load_workspace
from esb.config.model import Settings, Workspace
from esb.endpoints.base import Incoming, KeyConflict, Outcome
from esb.endpoints.ingress import HttpIngress
from esb.endpoints.webserver import Listener, server_tls
from esb.errors import ConfigError, EsbError, Problem
from esb.observe.logs import Log
from esb.operations import Operations
from esb.runtime.housekeeping import Housekeeping
from esb.runtime.supervisor import Change, Supervisor
from esb.runtime.watch import Watcher
from esb.secret import Secret
from esb.store import open_store
from esb.store.lock import StoreLock
from esb.store.sqlite import SqliteStore


@dataclass(slots=True)
class Bus:
    """The running bus of one workspace. Implements the facts that the API shows (:class:`esb.admin.api.BusFacts`)."""

    root: Path
    workspace: Workspace
    lock: StoreLock
    store: SqliteStore
    log: Log
    clock: Clock
    supervisor: Supervisor
    ingress: HttpIngress
    http: Listener
    admin: Listener
    housekeeping: Housekeeping
    token: str = field(repr=False)
    watcher: Watcher | None = None
    started: float = 0.0
    ready: bool = False
    problems: tuple[Problem, ...] = ()
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)

    # -- life ---------------------------------------------------------------------------------------------------------
    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        http: tuple[str, int] | None = None,
        admin: tuple[str, int] | None = None,
        log: Log | None = None,
        clock: Clock | None = None,
    ) -> Bus:
        """Read the workspace, take the lock and open the store; nothing is listening yet.

        Raises ConfigError, StoreBusy (another process owns the store) and StoreCorrupt.
        """
        log, clock = log or Log(), clock or SystemClock()
        workspace, problems = load_workspace(root)
        if workspace is None:
            raise ConfigError(problems)
        settings = workspace.settings
        admin_at = admin or (settings.admin.host, settings.admin.port)
        check_admin(settings, admin_at[0])
        lock = StoreLock(root / ".esb")
        lock.acquire()
        try:
            store = await open_store(settings.store, root, clock=clock)
        except BaseException:
            lock.release()
            raise
        http_at = http or (settings.http.host, settings.http.port)
        ingress = HttpIngress(max_body=settings.http.max_body, log=log)
        token = secrets.token_urlsafe(32)
        supervisor = Supervisor(store, clock, ingress, log, workspace)
        bus = cls(
            root=root,
            workspace=workspace,
            lock=lock,
            store=store,
            log=log,
            clock=clock,
            supervisor=supervisor,
            ingress=ingress,
            http=Listener(ingress, *http_at, tls=_tls(settings, root)),
            admin=Listener(_not_yet, *admin_at),
            token=token,
            housekeeping=Housekeeping(store, clock, settings, log),
            problems=tuple(problems),
        )
        access = Access(Secret(token), settings.admin.token, settings.admin.allow_hosts)
        api = Api(store, Operations(store, clock, supervisor), bus, clock, access)
        bus.admin = Listener(api.app(), *admin_at)
        return bus

    async def start(self, *, watch: bool = True) -> None:
        """Go live: lanes, listeners, sources, watcher. After it every route takes messages."""
        self.started = self.clock.monotonic()
        try:
            await self.supervisor.start()  # paths are mounted before the first connection can ask for them
            await self.http.start()
            await self.admin.start()
        except BaseException:
            await self.stop()
            raise
        self.housekeeping.start()
        if watch:
            self.watcher = Watcher(self.root, self.clock, self._changed, self.log)
            await self.watcher.start()
        self.lock.write(admin=self.admin_url, http=self.http_url, token=self.token)
        self.ready = True

    async def stop(self) -> None:
        """Drain and close everything; what is not finished stays in the store."""
        self.ready = False
        grace = self.workspace.settings.limits.drain
        if self.watcher is not None:
            await self.watcher.stop()
        self.ingress.drain()
        await self.supervisor.stop(grace)
        await self.http.stop(5.0)
        await self.admin.stop(2.0)
        await self.housekeeping.stop()
        await self.store.close()
        self.lock.release()

    # -- addresses ----------------------------------------------------------------------------------------------------
    @property
    def http_url(self) -> str:
        scheme = "https" if self.workspace.settings.http.tls else "http"
        return f"{scheme}://{_host(self.http.host)}:{self.http.port}"

    @property
    def admin_url(self) -> str:
        return f"http://{_host(self.admin.host)}:{self.admin.port}"

    # -- reload -------------------------------------------------------------------------------------------------------
    async def _changed(self) -> None:
        await self.reload()

    async def reload(self) -> dict[str, Any]:
        """Read the workspace again; all or nothing: with any error the last good version goes on."""
        async with self._reloading:
            workspace, problems = await asyncio.to_thread(load_workspace, self.root)
            errors = [problem for problem in problems if problem.severity == "error"]
            if workspace is None or errors:
                self.problems = tuple(problems)
                for problem in errors:
                    self.log(
                        "error",
                        "reload.refused",
                        at=str(problem.position),
                        code=problem.code,
                        problem=problem.message,
                        hint=problem.hint,
                    )
                return {"result": "refused", "problems": [_problem_item(problem) for problem in problems]}
            if any(problem.severity == "error" for problem in self.problems):
                self.log("info", "reload.whole_again", hint="the files on disk are valid again")
            change = await self.supervisor.apply(workspace)
            self._note_settings(workspace.settings)
            self.housekeeping.configure(workspace.settings)
            self.workspace = workspace
            self.problems = (*problems, *change.problems)
            self._log_change(change)
            return {
                "result": "unchanged" if change.nothing else "reloaded",
                "added": list(change.added),
                "changed": list(change.changed),
                "removed": list(change.removed),
                "problems": [_problem_item(problem) for problem in self.problems],
            }

    def _note_settings(self, settings: Settings) -> None:
        before = self.workspace.settings
        if (settings.http, settings.admin, settings.store) != (before.http, before.admin, before.store):
            self.log("warning", "reload.needs_restart", hint="listeners and store of esb.yaml change at the next start")

    def _log_change(self, change: Change) -> None:
        if not change.nothing:
            self.log(
                "info",
                "reload.done",
                added=list(change.added),
                changed=list(change.changed),
                removed=list(change.removed),
            )
        for problem in change.problems:
            self.log(
                "error", "reload.route_failed", at=str(problem.position), problem=problem.message, hint=problem.hint
            )

    # -- facts --------------------------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        return self.workspace.settings.bus

    @property
    def uptime(self) -> float:
        return round(self.clock.monotonic() - self.started, 3)

    @property
    def not_ready(self) -> str:
        if not self.ready:
            return "starting or stopping"
        return self.supervisor.closed

    @property
    def health(self) -> Mapping[str, Any]:
        return {
            "ready": not self.not_ready,
            "reason": self.not_ready,
            "http": self.http_url,
            "routes": len(self.workspace.routes),
            "problems": [_problem_item(problem) for problem in self.problems],
        }

    def facts(self, route: str) -> Mapping[str, Any]:
        return self.supervisor.facts(route)

    def names(self) -> list[str]:
        return self.supervisor.names()

    async def send(self, route: str, payload: bytes, headers: Mapping[str, str], wait: float) -> dict[str, Any]:
        """Accept a message for a route as its source would. Raises KeyError, Invalid, StoreBusy, Unavailable."""
        live = self.supervisor.routes[route]
        incoming = send_incoming(live.runner.spec.source.options, payload, headers)
        try:
            receipt = await live.intake.accept(incoming)
        except KeyConflict as conflict:
            raise EsbError(str(conflict)) from conflict
        answer = {
            "message_id": receipt.message_id,
            "correlation_id": receipt.correlation_id,
            "state": receipt.state,
            "duplicate_of": receipt.duplicate_of,
        }
        if wait > 0 and receipt.state == "queued":
            outcome = await live.intake.outcome(receipt.message_id, wait)
            answer.update(_outcome_item(outcome))
        return answer


def send_incoming(source: Any, payload: bytes, headers: Mapping[str, str]) -> Incoming:
    """What ``esb send`` hands to a route: the payload under the source's own format and contract."""
    return Incoming(
        payload=payload,
        codec=getattr(source, "format", None),
        content_type=headers.get("content-type", ""),
        headers={name: value for name, value in headers.items() if name != "content-type"},
        meta={"source": {"type": "send"}},
        contract=getattr(source, "contract", None),
        correlation_id=headers.get("x-correlation-id", ""),
        on_invalid="refuse",
    )


def _outcome_item(outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {"finished": False}
    item: dict[str, Any] = {"finished": True, "state": outcome.state, "error": outcome.error}
    if outcome.response is not None:
        status, headers, body = outcome.response
        item["response"] = {"status": status, "headers": dict(headers), "body": _plain(body)}
    return item


def _plain(body: Any) -> Any:
    return {"base64": base64.b64encode(body).decode()} if isinstance(body, bytes) else body


def _problem_item(problem: Problem) -> dict[str, Any]:
    position = problem.position
    return {
        "code": problem.code,
        "severity": problem.severity,
        "path": position.path,
        "line": position.line,
        "column": position.column,
        "message": problem.message,
        "hint": problem.hint,
    }


def check_admin(settings: Settings, host: str) -> None:
    """Refuse to show the admin listener to the network without a token."""
    if host not in ("127.0.0.1", "::1", "localhost") and settings.admin.token is None:
        raise EsbError(
            f"the admin listener on {host} needs a token",
            hint="set `admin: { token: ${secret:admin-token} }` in esb.yaml, or listen on 127.0.0.1",
        )


def _tls(settings: Settings, root: Path) -> Any:
    tls = settings.http.tls
    if tls is None:
        return None
    return server_tls(root / tls.cert, root / tls.key, root / tls.client_ca if tls.client_ca else None)


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound


async def _not_yet(scope: Any, receive: Any, send: Any) -> None:
    """Stands in until the API is built; it is never started."""
