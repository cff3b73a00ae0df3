"""Log in with the identity provider of the company: out to it, and back with who it says that is."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from esb.access.oidc import Attempt, OidcFault, Person, Provider
from esb.access.people import People, name_of
from esb.access.roles import parse_grants
from esb.admin import render
from esb.admin.access import Access, address_of
from esb.admin.faults import Fault
from esb.admin.proofs import Proof, Proofs
from esb.admin.shell import Refused, Shell, own_path, set_session
from esb.clock import Clock
from esb.config.model import Oidc
from esb.errors import EsbError

#: Binds a login to the browser that began it; `Lax`, since the provider sends the browser back.
COOKIE = "esb-login"
#: Seconds that a login may take, and how many may be under way.
LASTS, MOST = 600.0, 200
BACK = "/login/oidc/back"
#: Words of an act that are shown to nobody, not even to who sends them.
SECRET = frozenset({"password", "secret"})
#: Who comes, and with which roles, is what the provider says: nobody here decides it, so nobody signs it.
BY_PROVIDER = {"unsigned": "as the identity provider says"}


class OidcLogin:
    """The two addresses of the flow, and the page of what is to be signed. Raises BadGrant for roles that there are not."""

    def __init__(
        self,
        settings: Oidc,
        people: People,
        access: Access,
        shell: Shell,
        clock: Clock,
        log: Callable[..., None],
        proofs: Proofs,
    ) -> None:
        for roles in settings.roles.values():
            parse_grants(roles)
        self._settings = settings
        self._provider = Provider(settings, clock)
        self._people = people
        self._access = access
        self._shell = shell
        self._clock = clock
        self._log = log
        self._proofs = proofs
        self._attempts: dict[str, Attempt] = {}

    def routes(self) -> list[BaseRoute]:
        return [
            self._shell.plain("/login/oidc", self.out),
            self._shell.returning(BACK, self.back),
            self._shell.read("/sign/{id}", self.sign),
        ]

    async def sign(self, request: Request) -> Response:
        """What somebody is to sign: first the way to the provider, and when they are back the act itself, or what a program does next."""
        proof = self._own(request, request.path_params["id"])
        shown = {name: "•••" if name in SECRET else value for name, value in proof.words.items()}
        return self._shell.page(
            request,
            "sign.html",
            proof=proof,
            shown=shown,
            label=self._settings.label,
            twin="/api/v1/audit",
            cli=render.command("audit", "ls"),
        )

    def _own(self, request: Request, id_: str) -> Proof:
        """A proof of who is logged in. Raises Refused."""
        session = self._access.session(request)
        user = self._access.of_session(session).user if session is not None else ""
        proof = self._proofs.find(id_, user) if user else None
        if proof is None:
            raise Refused(
                Fault(404, "not-found", "there is nothing of yours to sign here, or not any more", "do it again")
            )
        return proof

    async def out(self, request: Request) -> Response:
        """To the provider, with what it must give back."""
        now = self._clock.monotonic()
        self._attempts = {state: one for state, one in self._attempts.items() if now - one.began <= LASTS}
        while len(self._attempts) >= MOST:
            del self._attempts[next(iter(self._attempts))]
        base = self._settings.redirect.rstrip("/") or f"{request.url.scheme}://{request.headers['host']}"
        proof, place = request.query_params.get("sign", ""), own_path(request.query_params.get("back", ""))
        if proof:
            place = f"/sign/{self._own(request, proof).id}"
        attempt = Attempt(place, base + BACK, now, proof)
        try:
            response = RedirectResponse(await self._provider.address(attempt), 303)
        except OidcFault as fault:
            raise self._refused(fault, request) from None
        self._attempts[attempt.state] = attempt
        tls = base.startswith("https:")
        response.set_cookie(
            COOKIE, attempt.browser, max_age=int(LASTS), path="/login", httponly=True, samesite="lax", secure=tls
        )
        return response

    async def back(self, request: Request) -> Response:
        """From the provider. A state counts once, in the browser that it was given to."""
        words = request.query_params
        attempt = self._attempts.pop(words.get("state", ""), None)
        shown = request.cookies.get(COOKIE, "").encode("utf-8", "surrogatepass")
        late = attempt is not None and self._clock.monotonic() - attempt.began > LASTS
        if attempt is None or late or not hmac.compare_digest(attempt.browser.encode(), shown):
            self._access.note_guess(request)
            raise Refused(
                Fault(403, "foreign-login", "this login was not begun here, or took too long", "log in again")
            )
        if words.get("iss", self._settings.issuer) != self._settings.issuer:
            raise Refused(Fault(403, "foreign-login", "another provider answered", "log in again"))
        if "code" not in words:
            raise Refused(
                Fault(403, "not-logged-in", "the provider did not let you in", "log in again, or ask an admin")
            )
        try:
            person = await self._provider.person(attempt, words["code"])
            name = await self._known(person)
        except EsbError as fault:
            if attempt.proof:
                await self._people.note("signature.refused", "oidc", "anonymous", address=address_of(request))
            raise self._refused(fault, request) from None
        if attempt.proof:
            return await self._signed(request, attempt.proof, name, person)
        session = self._access.begin_user(request, name, "oidc")
        if session is None:
            await self._people.note("login.failed", repr(name), "anonymous", address=address_of(request), by="oidc")
            raise Refused(Fault(403, "forbidden", f"{name} is disabled here", "ask an admin"))
        await self._people.note("login", name, name, address=address_of(request), by="oidc")
        # the browser comes from another site, and sends no strict cookie on a redirect: a page of ours leads on
        response = self._shell.bare("onward.html", place=attempt.back)
        set_session(request, response, session, self._access.longest)
        return response

    async def _signed(self, request: Request, id_: str, name: str, person: Person) -> Response:
        """Somebody has logged in again for a proof: it must be the one whose proof it is."""
        proof = self._proofs.find(id_, name)
        if proof is None or person.authenticated is None:
            await self._people.note(
                "signature.refused", f"{name!r}", "anonymous", address=address_of(request), by="oidc"
            )
            raise Refused(
                Fault(
                    403, "signature-wrong", "it is somebody else who is to sign this, or it is too late", "do it again"
                )
            )
        self._proofs.give(proof, self._settings.issuer, person.authenticated)
        return self._shell.bare("onward.html", place=f"/sign/{id_}")

    async def _known(self, person: Person) -> str:
        """The user of a person, made or brought up to date. Raises EsbError for who has no role, or a name of somebody else."""
        name = name_of(person.name)
        if not person.roles:
            raise OidcFault(
                f"no group of {name} has a role here", hint="admin: { oidc: { roles: { GROUP: [viewer] } } }"
            )
        known = {user["user"] for user in self._people.users()}
        if name not in known:
            await self._people.add(
                name,
                person.roles,
                None,
                "oidc",
                full_name=person.full_name,
                origin="oidc",
                subject=person.subject,
                about=BY_PROVIDER,
            )
            return name
        record = self._people.user(name)
        if record["origin"] != "oidc" or record.get("subject") != person.subject:
            raise OidcFault(f"{name} is somebody else here")
        if sorted(record["roles"]) != sorted(person.roles):
            await self._people.change(name, "oidc", reason="groups at the login", roles=person.roles, about=BY_PROVIDER)
        return name

    def _refused(self, fault: EsbError, request: Request) -> Refused:
        self._log("warning", "login.oidc_failed", error=str(fault), hint=fault.hint, address=address_of(request))
        detail = str(fault) if "here" in str(fault) else "the identity provider's answer does not count"
        return Refused(
            Fault(403, "not-logged-in", detail, "log in again, or ask an admin; the log of the bus has the rest")
        )
