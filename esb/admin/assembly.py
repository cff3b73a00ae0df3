"""The admin listener, put together: API, pages, and what stands before them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette

from esb.access.people import People
from esb.access.requests import Requests
from esb.admin.access import Access
from esb.admin.account import Account
from esb.admin.actions import Actions
from esb.admin.answers import Gate
from esb.admin.api import Api
from esb.admin.approvals import Approvals
from esb.admin.authoring import Authoring, AuthoringFacts
from esb.admin.bulk import BulkRetries
from esb.admin.differences import DifferenceList, DifferencePage
from esb.admin.evidence import Evidence, SealFacts
from esb.admin.groups import DeadGroups, GroupNotes
from esb.admin.holds import HoldList
from esb.admin.insight import Insight, InsightPages
from esb.admin.jobs import Jobs
from esb.admin.oidc import OidcLogin
from esb.admin.pages import PageFacts, Pages
from esb.admin.people import PeopleApi
from esb.admin.people_pages import PeoplePages
from esb.admin.places import PlaceFacts, Places
from esb.admin.proofs import Proofs
from esb.admin.rehearsal import Rehearsal
from esb.admin.setup import Setup
from esb.admin.shell import Shell
from esb.admin.signing import Signing
from esb.admin.steps import Steps
from esb.admin.trends import TrendCharts
from esb.admin.version_page import VersionPage
from esb.admin.workbench import Workbench
from esb.clock import Clock
from esb.config.model import AdminListener, Settings
from esb.endpoints.webserver import server_tls
from esb.errors import EsbError
from esb.operations import Operations
from esb.runtime.backfill import Backfills
from esb.secret import Secret
from esb.store.base import AuditEntry, Store


@dataclass(frozen=True, slots=True)
class Admin:
    """The application of the listener. ``setup`` knows the link for the first user."""

    app: Starlette
    access: Access
    setup: Setup
    jobs: Jobs
    backfills: Backfills

    async def resume(self) -> None:
        """The bus runs: what the last process left half done goes on."""
        await self.jobs.resume()
        self.backfills.resume()

    async def close(self) -> None:
        """The bus stops: what is under way ends at its next place."""
        await self.jobs.close()
        await self.backfills.close()


#: Where nobody on the network can listen.
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class BusOfAdmin(PageFacts, PlaceFacts, AuthoringFacts, SealFacts, Protocol):
    """What the listener asks of a running bus."""


class StoppedFacts(AuthoringFacts, SealFacts, Protocol):
    """What the API asks of a bus that does not run."""


def admin_of(
    bus: BusOfAdmin,
    store: Store,
    operations: Operations,
    clock: Clock,
    whole: Settings,
    token: str,
    log: Callable[..., None],
) -> Admin:
    """API and pages of a running bus; ``token`` is the local one."""
    people, settings = People(store, clock), whole.admin
    access = Access(
        Secret(token),
        settings.token,
        settings.allow_hosts,
        clock,
        people,
        required=settings.auth == "required" or settings.oidc is not None,
        idle=settings.session_idle.total_seconds(),
        longest=settings.session_max.total_seconds(),
    )
    regulated, oidc = whole.regulated, settings.oidc
    company = oidc.label if oidc is not None else ""
    gate, shell = Gate(access, log), Shell(bus, clock, access, log, regulated=regulated, company=company)
    proofs = Proofs(clock, oidc.redirect) if oidc is not None else None
    signing = Signing(people, access, clock, regulated, proofs)
    jobs = Jobs(store, operations, clock, log)
    actions = Actions(store, operations, bus, signing, Requests(store, clock), whole.approval, jobs)
    setup = Setup(people, access, shell, clock)
    groups, rehearsal = DeadGroups(store, bus, clock), Rehearsal(store, bus)
    api = Api(store, actions, bus, clock, gate, groups)
    backfills = Backfills(store, lambda: operations.observer, lambda: bus.kpis, clock, log)
    insight = Insight(store, bus, actions, gate, clock, backfills)
    trends = TrendCharts(store, bus, actions, gate, clock)
    differences = DifferenceList(store, actions, gate, clock)
    more = [
        *insight.routes(),
        *trends.routes(),
        *Evidence(store, bus, actions, gate, clock).routes(),
        *differences.routes(),
        *HoldList(store, actions, gate, clock).routes(),
        *DifferencePage(differences, shell).routes(),
        *InsightPages(insight, trends, shell).routes(),
        *Authoring(store, bus, actions, gate, clock).routes(),
        *PeopleApi(people, actions, gate).routes(),
        *Approvals(actions, gate, shell).routes(),
        *Workbench(store, actions, gate, rehearsal, shell).routes(),
        *Steps(actions, gate, rehearsal, shell).routes(),
        *BulkRetries(actions, jobs, gate, shell).routes(),
        *Pages(store, actions, bus, clock, shell, insight, groups, trends).routes(),
        *VersionPage(store, actions, shell).routes(),
        *GroupNotes(groups, actions, gate, shell).routes(),
        *Places(store, actions, bus, clock, gate, shell).routes(),
        *PeoplePages(people, actions, shell).routes(),
        *Account(people, access, shell).routes(),
        *setup.routes(),
        *(OidcLogin(oidc, people, access, shell, clock, log, proofs).routes() if oidc and proofs else ()),
    ]
    return Admin(api.app(more, shell.not_served), access, setup, jobs, backfills)


def stopped_app(
    bus: StoppedFacts, store: Store, operations: Operations, clock: Clock, settings: Settings, token: str
) -> Starlette:
    """The API alone, over the store of a bus that does not run, for the one who holds its lock: signed where the bus is, or was
    at its last start, regulated."""
    people = People(store, clock)
    access = Access(Secret(token), None, (), clock, people)
    gate = Gate(access, _silent)
    signing = Signing(people, access, clock, settings.regulated or is_regulated(store))
    actions = Actions(store, operations, bus, signing, Requests(store, clock), settings.approval)
    groups, rehearsal = DeadGroups(store, bus, clock), Rehearsal(store, bus)
    backfills = Backfills(store, lambda: operations.observer, lambda: bus.kpis, clock, _silent)
    more = [
        *Insight(store, bus, actions, gate, clock, backfills, running=False).routes(),
        *TrendCharts(store, bus, actions, gate, clock).routes(),
        *Evidence(store, bus, actions, gate, clock).routes(),
        *DifferenceList(store, actions, gate, clock).routes(),
        *HoldList(store, actions, gate, clock).routes(),
        *Authoring(store, bus, actions, gate, clock).routes(),
        *PeopleApi(people, actions, gate).routes(),
        *Approvals(actions, gate).routes(),
        *Workbench(store, actions, gate, rehearsal).routes(),
        *Steps(actions, gate, rehearsal).routes(),
        *BulkRetries(actions, Jobs(store, operations, clock, _silent), gate).routes(),
    ]
    return Api(store, actions, bus, clock, gate, groups).app([*more, *GroupNotes(groups, actions, gate).routes()])


def is_regulated(store: Store) -> bool:
    """Whether the bus was regulated when it ran last."""
    return bool(store.get_state("bus", "regulated"))


async def note_regulated(store: Store, clock: Clock, name: str, *, regulated: bool) -> None:
    """At a start: from here on, or not any more. `esb audit verify` asks for signatures in between."""
    if regulated != is_regulated(store):
        word = "on" if regulated else "off"
        await store.audit(AuditEntry("bus", f"regulated.{word}", name, "as esb.yaml says"), clock.now())
        await store.put_state("bus", "regulated", True if regulated else None)


def _silent(*_words: Any, **_fields: Any) -> None:
    """What goes wrong is shown to the one at the command line."""


def check_admin(settings: Settings, host: str, *, users: bool) -> None:
    """Refuse to show the admin listener to the network where nobody would have to log in."""
    guarded = (
        users or settings.admin.token is not None or settings.admin.auth == "required" or bool(settings.admin.oidc)
    )
    if host not in LOOPBACK and not guarded:
        raise EsbError(
            f"the admin listener on {host} needs a token, or users",
            hint="set `admin: { token: ${secret:admin-token} }` in esb.yaml, make users with `esb users add`,"
            " or listen on 127.0.0.1",
        )


def is_plain(settings: AdminListener, host: str) -> bool:
    """Whether passwords would cross the network in the clear, unless a proxy stands in front."""
    return host not in LOOPBACK and settings.tls is None


def admin_tls(settings: AdminListener, root: Path) -> ssl.SSLContext | None:
    tls = settings.tls
    return None if tls is None else server_tls(root / tls.cert, root / tls.key)
