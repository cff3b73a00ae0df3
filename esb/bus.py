"""One running bus: lock, store, listeners, supervisor, watcher, put together in the order in which messages flow."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from esb.admin.assembly import Admin, admin_of, admin_tls, check_admin, is_plain, note_regulated
from esb.beside import beside
from esb.clock import Clock, SystemClock
from esb.config.kpis import Kpi
from esb.config.loader import load_workspace
from esb.config.model import Settings, Workspace
from esb.config.routes import steps_of, targets_of
from esb.config.site_items import site_items
from esb.endpoints.base import KeyConflict
from esb.endpoints.ingress import HttpIngress
from esb.endpoints.webserver import Listener, bind_both, server_tls
from esb.errors import ConfigError, EsbError, Problem
from esb.observe.logs import Log
from esb.observe.meters import Meters
from esb.observe.otel import exporter_of
from esb.operations import Operations
from esb.runtime.alerting import Alerting
from esb.runtime.bench import Logs
from esb.runtime.expectations import Expectations
from esb.runtime.guard import Watch
from esb.runtime.housekeeping import Housekeeping
from esb.runtime.intake import send_incoming
from esb.runtime.items import outcome_item, problem_item, step_item
from esb.runtime.quotas import KeptQuotas
from esb.runtime.supervisor import Change, Supervisor
from esb.runtime.trends import Trends
from esb.runtime.watch import READ, Signature, Watcher, signature
from esb.runtime.workers import Workers
from esb.secret import Secret
from esb.store import open_store
from esb.store.anchor import Anchor
from esb.store.base import AuditEntry
from esb.store.lock import StoreLock
from esb.store.sqlstore import SqlStore


@dataclass(slots=True)
class Bus:
    """The running bus of one workspace. Implements the facts that the API shows (:class:`esb.admin.api.BusFacts`)."""

    watched: ClassVar[Mapping[str, tuple[str, ...]]] = READ  #: folders whose files are watched, with their endings

    root: Path
    workspace: Workspace
    lock: StoreLock
    store: SqlStore
    log: Logs
    clock: Clock
    supervisor: Supervisor
    ingress: HttpIngress
    quotas: KeptQuotas
    http: Listener
    admin: Listener
    housekeeping: Housekeeping
    alerting: Alerting
    expectations: Expectations
    trends: Trends
    token: str = field(repr=False)
    panel: Admin | None = None
    watcher: Watcher | None = None
    started: float = 0.0
    ready: bool = False
    problems: tuple[Problem, ...] = ()
    need_secrets: bool = True
    files: Signature = field(default_factory=dict)  #: as they were before the workspace was read
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)

    # -- life ---------------------------------------------------------------------------------------------------------
    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        http: tuple[str, int] | None = None,
        admin: tuple[str, int] | None = None,
        log: Logs | None = None,
        clock: Clock | None = None,
        store_url: str = "",
        supervised_by: type[Supervisor] = Supervisor,
        need_secrets: bool = True,
        workers: int | None = None,
    ) -> Bus:
        """Read the workspace, take the lock and open the store; nothing is listening yet.

        ``store_url`` and ``workers`` (how many processes for heavy steps) go before esb.yaml's.

        Raises ConfigError, StoreBusy (another process owns the store) and StoreCorrupt.
        """
        log, clock = log or Log(), clock or SystemClock()
        files = signature(root, cls.watched)
        workspace, problems = load_workspace(root, need_secrets=need_secrets)
        if workspace is None:
            raise ConfigError(problems)
        settings = workspace.settings
        admin_at = admin or (settings.admin.host, settings.admin.port)
        lock = StoreLock(root / ".esb")
        lock.acquire()
        try:
            store = await open_store(store_url or settings.store, root, clock=clock)
        except BaseException:
            lock.release()
            raise
        try:
            check_admin(settings, admin_at[0], users=bool(store.access("user")))
        except EsbError:
            await store.close()
            lock.release()
            raise
        http_at = http or (settings.http.host, settings.http.port)
        quotas = KeptQuotas(store, clock, log)
        hosts = settings.http.allow_hosts
        ingress = HttpIngress(max_body=settings.http.max_body, hosts=hosts, log=log, quotas=quotas.book)
        token = secrets.token_urlsafe(32)
        limits = settings.limits
        pool = Workers(workers or limits.workers, limits.transform_memory, log)
        supervisor = supervised_by(store, clock, ingress, log, workspace, pool, Watch())
        bus = cls(
            root=root,
            workspace=workspace,
            lock=lock,
            store=store,
            log=log,
            clock=clock,
            supervisor=supervisor,
            ingress=ingress,
            quotas=quotas,
            http=Listener(ingress, *http_at, tls=_tls(settings, root)),
            admin=Listener(_not_yet, *admin_at),
            token=token,
            alerting=Alerting(store, clock, supervisor, log),
            expectations=Expectations(store, clock, supervisor, log),
            trends=Trends(store, clock, supervisor, log),
            housekeeping=Housekeeping(
                store, clock, settings, log, anchor_of(settings, root), root=root, classes=classes_of(workspace)
            ),
            problems=tuple(problems),
            need_secrets=need_secrets,
            files=files,
        )
        operations = Operations(store, clock, supervisor, supervisor.observer)
        bus.panel = admin_of(bus, store, operations, clock, settings, token, log)
        bus.admin = Listener(bus.panel.app, *admin_at, tls=admin_tls(settings.admin, root))
        return bus

    async def start(self, *, watch: bool = True) -> None:
        """Go live: after it every route takes messages. Raises EsbError, nothing done, where an address cannot be had."""
        self.started = self.clock.monotonic()
        observer, settings = self.supervisor.observer, self.workspace.settings
        try:
            await bind_both(self.http, self.admin)
            observer.emit = exporter_of(settings.traces, settings.bus)
            await note_regulated(self.store, self.clock, self.name, regulated=settings.regulated)
            if self.supervisor.watch is not None:
                self.supervisor.watch.start()
            self.trends.start()
            await self.supervisor.start()  # paths are mounted before the first connection can ask for them
            await self.http.start()
            await self.admin.start()
        except BaseException:
            await self.stop()
            raise
        if is_plain(settings.admin, self.admin.host):
            hint = "set `admin: { tls: … }`, or let a proxy in front end TLS: passwords cross the network in the clear"
            self.log("warning", "admin.plain_http", at=self.admin_url, hint=hint)
        for part in (self.housekeeping, self.alerting, self.expectations):
            part.start()
        if watch and not settings.regulated:  # there a change of files is somebody's, who signs it: `esb routes reload`
            await self._watch()
        tls = settings.admin.tls
        cert = str((self.root / tls.cert).resolve()) if tls is not None else ""
        self.lock.write(admin=self.admin_url, http=self.http_url, token=self.token, cert=cert)
        self.ready = True
        if self.panel is not None:
            await self.panel.resume()
        asyncio.get_running_loop().run_in_executor(None, self.store.warm_up)

    async def stop(self) -> None:
        """Drain and close everything; what is not finished stays in the store."""
        self.ready = False
        grace = self.workspace.settings.limits.drain
        # a reload that is under way ends whole, and none begins after it; one that hangs is left
        with suppress(TimeoutError):
            await asyncio.wait_for(self._reloading.acquire(), min(grace.total_seconds(), 5.0))
        if self.watcher is not None:
            await self.watcher.stop()
        self.ingress.drain()
        await self.expectations.stop()
        await self.alerting.stop()
        if self.panel is not None:
            await self.panel.close()
        await self.supervisor.stop(grace)
        if self.supervisor.observer.emit is not None:
            await asyncio.to_thread(self.supervisor.observer.emit.close)
        if self.supervisor.watch is not None:
            self.supervisor.watch.stop()
        await self.http.stop(5.0)
        await self.admin.stop(2.0)
        await self.housekeeping.stop()
        await self.quotas.close()
        await self.trends.stop()
        await self.store.close()
        self.lock.release()

    # -- addresses ----------------------------------------------------------------------------------------------------
    @property
    def http_url(self) -> str:
        scheme = "https" if self.workspace.settings.http.tls else "http"
        return f"{scheme}://{_host(self.http.host)}:{self.http.port}"

    @property
    def admin_url(self) -> str:
        scheme = "https" if self.workspace.settings.admin.tls else "http"
        return f"{scheme}://{_host(self.admin.host)}:{self.admin.port}"

    @property
    def setup_link(self) -> str:
        """Where the first user is made; empty where there is nothing to set up."""
        return self.panel.setup.link(self.admin_url) if self.panel is not None else ""

    def site_of(self, route: str) -> str:
        """The site that a route was made for, else the one of the bus (``site: { plant: … }``).

        Nobody knows the site of a route that is gone: no site has such a name, so it takes a right everywhere.
        """
        spec = self.workspace.routes.get(route)
        if spec is None:
            return "?"
        return spec.place.site if spec.place is not None else str(self.workspace.settings.site.get("plant") or "")

    @property
    def marked(self) -> frozenset[str]:
        return self.workspace.marked

    # -- reload -------------------------------------------------------------------------------------------------------
    async def _watch(self) -> None:
        self.watcher = Watcher(self.root, self.clock, self._changed, self.log, self.watched, seen=self.files)
        await self.watcher.start()

    async def _changed(self) -> None:
        await self.reload()

    async def reload(self, actor: str = "bus", reason: str = "") -> dict[str, Any]:
        """Read the workspace again; all or nothing: with any error the last good version goes on."""
        async with self._reloading:
            workspace, problems = await beside(partial(load_workspace, self.root, need_secrets=self.need_secrets))
            errors = [problem for problem in problems if problem.severity == "error"]
            if workspace is None or errors:
                await self._audit_refusal(actor, reason, errors)
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
                return {"result": "refused", "problems": [problem_item(problem) for problem in problems]}
            if any(problem.severity == "error" for problem in self.problems):
                self.log("info", "reload.whole_again", hint="the files on disk are valid again")
            change = await self.supervisor.apply(workspace, actor, reason or "files changed")
            self._note_settings(workspace.settings)
            anchor = anchor_of(workspace.settings, self.root)
            self.housekeeping.configure(workspace.settings, anchor, classes_of(workspace))
            self.workspace = self.supervisor.workspace  # where a route goes on as it was, that is what people see
            self.problems = (*problems, *change.problems)
            self._log_change(change)
            return {
                "result": "unchanged" if change.nothing else "reloaded",
                "added": list(change.added),
                "changed": list(change.changed),
                "removed": list(change.removed),
                "problems": [problem_item(problem) for problem in self.problems],
            }

    async def _audit_refusal(self, actor: str, reason: str, errors: list[Problem]) -> None:
        """Once for the same faults, however often the files are saved with them."""
        if actor == "bus" and set(errors) <= set(self.problems):
            return
        detail = {"problems": [str(problem) for problem in errors[:20]], "count": len(errors)}
        entry = AuditEntry(actor, "reload.refused", self.name, reason or "files changed", detail)
        await self.store.audit(entry, self.clock.now())

    def _note_settings(self, settings: Settings) -> None:
        before = self.workspace.settings
        if _fixed(settings) != _fixed(before):
            hint = "listeners, store, `regulated` and `approval` of esb.yaml change at the next start"
            self.log("warning", "reload.needs_restart", hint=hint)
        pool, old = settings.limits, before.limits
        if (pool.workers, pool.transform_memory) != (old.workers, old.transform_memory):
            self.log(
                "warning", "reload.needs_restart", hint="`workers` and `transform_memory` change at the next start"
            )

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
            "problems": [problem_item(problem) for problem in self.problems],
        }

    def described(self) -> tuple[Workspace, str]:
        return self.workspace, self.http_url

    @property
    def kpis(self) -> Mapping[str, Kpi]:
        return self.workspace.kpis

    @property
    def seal_key(self) -> Secret | None:
        return self.workspace.settings.audit.key

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [*self.alerting.firing, *self.expectations.firing]

    @property
    def meters(self) -> Meters:
        return self.supervisor.observer.meters

    @property
    def kpi_faults(self) -> Mapping[str, int]:
        return self.supervisor.observer.faults

    def facts(self, route: str) -> Mapping[str, Any]:
        return self.supervisor.facts(route)

    def names(self) -> list[str]:
        return self.supervisor.names()

    def sites(self) -> list[dict[str, Any]]:
        """The sites that run, each of their routes with its state."""
        found = site_items(self.workspace)
        for route in (route for site in found for route in site["routes"]):
            route["state"] = self.facts(route["route"])["state"]
        return found

    def outline(self, route: str) -> list[dict[str, Any]]:
        """The steps of a running route, nested ones included, with their lines; empty for one that does not run."""
        live = self.supervisor.routes.get(route)
        if live is None:
            return []
        return [step_item(node) for node in steps_of(live.runner.spec.blocks)]

    def troubled(self, route: str) -> dict[str, str]:
        """Targets of a running route that did not answer at the last try, by name, with what is known of them."""
        live = self.supervisor.routes.get(route)
        steps = steps_of(live.runner.spec.blocks) if live is not None else ()
        return self.supervisor.targets.troubled(target for step in steps for target in targets_of(step))

    async def send(
        self, route: str, payload: bytes, headers: Mapping[str, str], wait: float, by: tuple[str, str]
    ) -> dict[str, Any]:
        """Accept a message for a route as its source would. Raises KeyError, Disabled, Invalid, StoreBusy, Unavailable."""
        if route not in self.workspace.routes:
            raise KeyError(route)  # one that is removed works off what it has
        live = self.supervisor.routes[route]
        incoming = send_incoming(live.runner.spec, payload, headers, by)
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
            outcome = await live.intake.outcome(receipt.message_id, wait, receipt.seq)
            answer.update(outcome_item(outcome))
        return answer


def _fixed(settings: Settings) -> tuple[Any, ...]:
    """What a running bus does not change."""
    return settings.http, settings.admin, settings.store, settings.regulated, settings.approval


def anchor_of(settings: Settings, root: Path) -> Anchor | None:
    """Where the audit of a workspace is anchored."""
    audit = settings.audit
    return Anchor(root / audit.anchor, audit.key) if audit.anchor else None


def classes_of(workspace: Workspace) -> Mapping[str, str]:
    """The criticality of each route."""
    return {spec.name: spec.criticality for spec in workspace.routes.values()}


def _tls(settings: Settings, root: Path) -> Any:
    tls = settings.http.tls
    if tls is None:
        return None
    return server_tls(root / tls.cert, root / tls.key, root / tls.client_ca if tls.client_ca else None)


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound


async def _not_yet(scope: Any, receive: Any, send: Any) -> None:
    """Stands in until the API is built; it is never started."""
