"""Who calls the admin listener, and whether they may: by host name, by origin, by token, by session."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from starlette.requests import Request

from esb.access.people import People
from esb.access.roles import ANONYMOUS, Principal, Right, all_rights
from esb.admin.sessions import IDLE, LONGEST, Session, Sessions
from esb.clock import Clock
from esb.durations import Rate
from esb.endpoints.base import Response
from esb.endpoints.ingress import host_of, is_loopback
from esb.endpoints.limits import Guesses
from esb.endpoints.problem import problem
from esb.secret import Secret

#: The browser's proof of a session. `__Host-` would need TLS, which a bus on loopback does not have.
COOKIE = "esb-session"
#: Wrong passwords that one account takes from wherever they come: so many at once, then one each half minute.
PER_ACCOUNT = Rate(10, timedelta(minutes=5))


#: What is not divided by sites: who holds it at one site only has it nowhere.
WHOLE = frozenset({Right.AUDIT, Right.PEOPLE})


class Access:
    """A local token (a file that only the bus's user can read) and the configured one open everything; an API token opens what
    it was made for, a user's session what the user may.

    Without a configured token, and as long as nobody was set up, loopback may read, unless ``required``. A session may read,
    and may act through the forms of the pages. Pages of other sites may neither read nor act. An address that shows too many
    wrong tokens or passwords waits, and so does an account that is tried too often.
    """

    def __init__(
        self,
        local: Secret,
        configured: Secret | None,
        hosts: tuple[str, ...],
        clock: Clock,
        people: People | None = None,
        *,
        required: bool = False,
        idle: float = IDLE,
        longest: float = LONGEST,
    ) -> None:
        self._tokens = (local,) if configured is None else (local, configured)
        self._required = required or configured is not None
        self._hosts = frozenset(host.lower() for host in hosts)
        self._people = people
        self._guesses = Guesses(clock)
        self._accounts = Guesses(clock, PER_ACCOUNT)
        self._sessions = Sessions(clock, idle, longest)
        #: seconds after which a session ends in any case
        self.longest = longest

    @property
    def is_open(self) -> bool:
        """Whether loopback may read without a login."""
        return not self._required and not self.has_users

    @property
    def has_users(self) -> bool:
        return self._people is not None and self._people.any()

    def refuse(self, request: Request, right: Right, *, action: bool) -> Response | None:
        """The answer to who may not, decided before anything else of the request is read; None for who may.

        Notes who asks in ``request.state.who``. ``action``: a session's cookie and loopback count for nothing.
        """
        if (early := self.refuse_early(request)) is not None:
            return early
        who = self._bearer(request) if _given(request) else None if action else self.reader(request)
        if who is None:
            words = "the token is not known here, expired or revoked" if _given(request) else "a bearer token is needed"
            return problem(401, "unauthorized", words, headers={"www-authenticate": "Bearer"})
        request.state.who = who
        if not (who.everywhere(right) if right in WHOLE else who.somewhere(right)):
            words, hint = who.refusal(right)
            return problem(403, "forbidden", words, hint=hint)
        return None

    def refuse_early(self, request: Request, *, returning: bool = False) -> Response | None:
        """The answer to a foreign host name, to a page of another site (unless it may be one that a login is ``returning``
        from), and to who guessed too often."""
        host = request.headers.get("host", "")
        if not self.knows_host(host):
            return problem(421, "misdirected", "this listener does not answer under that host name")
        if not returning and is_foreign(request, host):
            return problem(403, "foreign-page", "a page of another site may not call this listener")
        return self._guesses.refusal(address_of(request))

    def note_guess(self, request: Request) -> None:
        """Something wrong was shown that should have been a secret."""
        self._guesses.note(address_of(request))

    def _bearer(self, request: Request) -> Principal | None:
        """Who shows the token of the request; a wrong one is counted against the address."""
        who = self.by_token(_given(request))
        if who is None:
            self.note_guess(request)
        return who

    def by_token(self, given: str) -> Principal | None:
        # every token is looked at, so that the time does not tell which
        known = [token.matches(given) for token in self._tokens]
        stored = self._people.by_token(given) if self._people is not None else None
        if known[0]:
            return all_rights("api", "local")
        return all_rights("token:admin", "token") if any(known) else stored

    def reader(self, request: Request) -> Principal | None:
        """Who looks without a token: a session, or whoever sits at the machine where that is enough."""
        if (session := self.session(request)) is not None:
            return self.of_session(session)
        return ANONYMOUS if self.is_open and is_loopback(address_of(request)) else None

    # -- sessions of the pages ----------------------------------------------------------------------------------------
    def login(self, request: Request, given: str, name: str) -> Session | None:
        """A new session for who shows a token, None for a wrong one. Only the local token's holder may give a name."""
        who = self.by_token(given)
        if who is None:
            self.note_guess(request)
            return None
        actor = (name.strip()[:200] or "pages") if who.method == "local" else who.actor
        return self.begin(request, Principal(actor, who.method, who.grants, who.user, who.limit), token=given)

    async def login_user(self, request: Request, name: str, password: str) -> Session | None:
        """A new session for a user, None for a wrong name or password, or an account that was tried too often. Audited."""
        known = await self.check_password(address_of(request), name, password)
        stamp = self._people.stamp(known) if self._people is not None else ""
        if self._people is not None and self.has_users:
            account = known or f"{name[:64]!r}"
            action = "login" if known else "login.failed"
            await self._people.note(action, account, known or "anonymous", address=address_of(request))
        changed = self._people is not None and self._people.stamp(known) != stamp
        return self.begin_user(request, known, "session") if known and not changed else None

    async def check_password(self, address: str, name: str, password: str) -> str:
        """The user whose password this is, else empty; wrong ones count against the address and the account.

        One that is replaced, or a user that is disabled, while it is looked at is wrong.
        """
        account = name.strip().lower()[:64]
        tired = self._accounts.refusal(account) is not None or self._guesses.refusal(address) is not None
        if self._people is None or tired:
            return ""
        # counted before it is known, so that many at once are as slow as one after the other
        self._guesses.note(address)
        self._accounts.note(account)
        stamp = self._people.stamp(account)
        known = await self._people.check(account, password)
        if known and self._people.stamp(known) != stamp:
            return ""
        if known:
            self._guesses.forgive(address)
            self._accounts.forgive(account)
        return known

    def begin_user(self, request: Request, name: str, method: str) -> Session | None:
        who = self._people.principal(name, method) if self._people is not None else None
        return self.begin(request, who) if who is not None else None

    def begin(self, request: Request, who: Principal, token: str = "") -> Session:
        """A new session under a new id; the one that the browser had is over."""
        if (old := self.session(request)) is not None:
            self._sessions.end(old)
        return self._sessions.begin(who.actor, who, self._stamp(who), token)

    def _stamp(self, who: Principal) -> str:
        return self._people.stamp(who.user) if self._people is not None and who.user else ""

    def session(self, request: Request) -> Session | None:
        """The session of the request; over where its user was disabled or changed, or its token was revoked."""
        by_itself = "every" in request.query_params
        session = self._sessions.find(request.cookies.get(COOKIE, ""), by_itself=by_itself)
        if session is None or session.who is None:
            return session
        revoked = session.token and self.by_token(session.token) is None
        if revoked or self._stamp(session.who) != session.stamp:
            self._sessions.end(session)
            return None
        return session

    def of_session(self, session: Session) -> Principal:
        """Who is logged in, with the rights that they have now."""
        who = session.who or all_rights(session.actor, "local")
        if who.user and not session.token and self._people is not None:
            return self._people.principal(who.user, who.method) or Principal(who.actor, who.method, ())
        return who

    def logout(self, session: Session) -> None:
        self._sessions.end(session)

    def knows_host(self, header: str) -> bool:
        host = host_of(header)
        return host == "localhost" or is_loopback(host) or host in self._hosts


def _given(request: Request) -> str:
    """The bearer token that a request shows."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given if scheme.lower() == "bearer" else ""


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def is_foreign(request: Request, host: str) -> bool:
    """True where a browser says that a page of another origin sends this."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()
