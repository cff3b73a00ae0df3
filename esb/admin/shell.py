"""What every page stands in: who may see it, forms that only our own pages can send, the login, errors, static files.

Who may read the pages is who may read the API; a browser shows a session instead of a token. Every form carries the session's
own word and must come from this listener's own origin, so that no page of another site can send it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from esb import views
from esb.access.roles import Right
from esb.admin import render
from esb.admin.access import COOKIE, Access, address_of
from esb.admin.answers import not_served, who_of
from esb.admin.api import BusFacts
from esb.admin.by import By
from esb.admin.faults import Fault, fault_of, known
from esb.admin.sessions import Session
from esb.admin.signing import NeedsProof
from esb.clock import Clock
from esb.operations import NotAllowed

#: Largest form.
MAX_FORM = 20_000
#: Served by name, from memory.
STATIC = {"app.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
#: No script, nothing from elsewhere, nothing inline, in nobody's frame. `same-origin` lets forms say where they come from.
_SAFE = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


#: Fields that are of the form itself, and not of what it asks for.
_OF_FORMS = frozenset({"csrf", "user", "password", "proof", "meaning"})
#: The pauses in seconds after which a page may be asked to load again by itself, for who wants to watch it.
PAUSES = (5, 15, 60)
#: Pages that somebody writes on: they stand still, so that nothing written is lost.
_WRITTEN = ("/edit", "/account", "/people")

Page = Callable[[Request], Awaitable[Response]]
Form = dict[str, str]
#: Gives where to go on and what to tell there, or a page.
Action = Callable[[Request, Form, By], Awaitable[tuple[str, str] | Response]]


class Refused(Exception):
    """A request that ends with an error page."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


class Shell:
    """The frame of the pages, over the access rules and the name and health of the bus."""

    def __init__(
        self,
        bus: BusFacts,
        clock: Clock,
        access: Access,
        log: Callable[..., None],
        *,
        regulated: bool = False,
        company: str = "",
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._access = access
        self._log = log
        self._regulated, self._company = regulated, company
        self._templates = render.environment()
        folder = Path(__file__).parent / "static"
        self._static = {name: (folder / name).read_bytes() for name in STATIC}
        self._marks = {name: hashlib.sha256(data).hexdigest()[:12] for name, data in self._static.items()}
        self._templates.globals["static"] = lambda name: f"/static/{name}?v={self._marks[name]}"

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/static/{name}", self.static),
            Route("/login", self._answered(self.login_form)),
            Route("/login", self._answered(self.login), methods=["POST"]),
            Route("/logout", self._answered(self.logout), methods=["POST"]),
        ]

    def read(self, path: str, page: Page, right: Right = Right.READ) -> BaseRoute:
        """A page for everybody who has the right; strangers get the login."""
        return Route(path, self._answered(self._reading(page, right)))

    def act(self, path: str, action: Action, right: Right, *, most: int = MAX_FORM) -> BaseRoute:
        """A form of at most ``most`` bytes for who is logged in and has the right; the answer leads (303) to the page that
        ``action`` names, which tells its result, or is the page that ``action`` gives."""
        return Route(path, self._answered(self._acting(action, right, most)), methods=["POST"])

    def plain(self, path: str, page: Page, method: str = "GET") -> BaseRoute:
        """What nobody needs to be logged in for."""
        return Route(path, self._answered(page), methods=[method])

    def returning(self, path: str, page: Page) -> BaseRoute:
        """Where an identity provider, on another site, sends the browser back to."""
        return Route(path, self._answered(page, returning=True), methods=["GET"])

    # -- who may, and what goes wrong -----------------------------------------------------------------------------------
    def _answered(self, page: Page, *, returning: bool = False) -> Page:
        async def answered(request: Request) -> Response:
            try:
                if (early := self._access.refuse_early(request, returning=returning)) is not None:
                    response = self._early(request, early.status, early.headers)
                else:
                    response = await page(request)
            except Refused as refused:
                response = self._fault(request, refused.fault)
            except Exception as error:  # noqa: BLE001 - the last place that can answer; people get a number, the log the rest
                if (ours := known(error)) is not None:
                    fault = fault_of(ours)
                else:
                    incident = str(uuid.uuid4())
                    self._log("error", "admin.failed", incident=incident, path=request.url.path, error=repr(error))
                    detail = f"the bus could not show this page (incident {incident})"
                    fault = Fault(500, "internal", detail, "the log has the rest")
                response = self._fault(request, fault)
            response.headers.update(_SAFE)
            return response

        return answered

    def _reading(self, page: Page, right: Right) -> Page:
        async def reading(request: Request) -> Response:
            if (refusal := self._access.refuse(request, right, action=False)) is not None:
                if refusal.status == 403:
                    raise Refused(forbidden(request, right))
                return self._login_page(request, refusal.status)
            return await page(request)

        return reading

    def _acting(self, action: Action, right: Right, most: int) -> Page:
        async def acting(request: Request) -> Response:
            session = self._access.session(request)
            if session is None:
                return self._login_page(request, 401, "Log in to act. Nothing was done.")
            form = await self.form(request, most)
            if not session.wrote(form.get("csrf", "")):
                raise Refused(Fault(403, "foreign-form", "this form is not of your session", "open the page again and send it from there"))  # fmt: skip
            request.state.who = self._access.of_session(session)
            if not who_of(request).somewhere(right):
                raise Refused(forbidden(request, right))
            reason = form.get("reason", "").strip()[:2000]
            if not reason:
                raise NotAllowed("an action needs a reason", hint="go back and write why; it is kept in the audit")
            who = who_of(request)
            sign = {"user": who.user, **{name: form.get(name, "") for name in ("password", "proof", "meaning")}}
            words = {name: value for name, value in form.items() if name not in _OF_FORMS}
            by = By(who, reason, session.actor, address_of(request), sign, request.url.path, words, page=True)
            try:
                done = await action(request, form, by)
            except NeedsProof as needed:
                return _see(f"/sign/{needed.proof}")
            if isinstance(done, Response):
                return done
            place, session.notice = done
            return _see(place)

        return acting

    def _early(self, request: Request, status: int, headers: Mapping[str, str]) -> Response:
        words = {
            403: Fault(403, "foreign-page", "a page of another site may not open this one", "go on from the overview"),
            421: Fault(421, "misdirected", "this listener does not answer under that host name", "name it in `admin: { allow_hosts: [...] }`"),
        }  # fmt: skip
        wait = {name: value for name, value in headers.items() if name == "retry-after"}
        late = Fault(429, "too-many-failures", "too many wrong tokens came from this address", "wait a moment", wait)
        return self._fault(request, words.get(status, late))

    async def form(self, request: Request, most: int = MAX_FORM) -> Form:
        """The fields of a form of our own pages. Raises Refused."""
        own = request.headers.get("origin") is not None or request.headers.get("sec-fetch-site") == "same-origin"
        if not own:
            raise Refused(Fault(403, "foreign-form", "this request does not say which page it comes from"))
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            raise Refused(Fault(415, "unsupported", "this is no form"))
        data = b""
        async for chunk in request.stream():
            data += chunk
            if len(data) > most:
                raise Refused(Fault(413, "too-large", "the form is too large", f"at most {most} bytes"))
        try:
            return dict(parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=20))
        except (ValueError, UnicodeError):
            raise Refused(Fault(400, "bad-request", "the form cannot be read")) from None

    # -- answers --------------------------------------------------------------------------------------------------------
    def page(self, request: Request, name: str, status: int = 200, **words: Any) -> Response:
        session, who, reload = self._access.session(request), who_of(request), reloading(request)
        html = self._templates.get_template(name).render(
            bus=self._bus.name,
            not_ready=self._bus.not_ready,
            now=views.instant(self._clock.now()),
            session=session,
            regulated=self._regulated,
            user=who.user,
            by_provider=self._company if who.method == "oidc" else "",
            may=lambda right, route: session is not None and who.may(Right(right), self._bus.site_of(route)),
            sees=lambda right: who.somewhere(Right(right)),
            notice=session.told() if session is not None and status == 200 else "",
            here=request.url.path,
            reload=reload,
            link=lambda **changed: at(request, **changed),
            kiosk=request.query_params.get("kiosk") == "1",
            **words,
        )
        headers = {"refresh": str(reload["every"])} if reload["every"] and status == 200 else {}
        return Response(html.encode("utf-8", "replace"), status, headers, media_type="text/html; charset=utf-8")

    def _fault(self, request: Request, fault: Fault) -> Response:
        """An error page; it tells nothing of the bus, since anybody may cause one."""
        title = HTTPStatus(fault.status).phrase
        html = self._templates.get_template("fault.html").render(fault=fault, title=title)
        response = Response(html.encode("utf-8", "replace"), fault.status, media_type="text/html; charset=utf-8")
        response.headers.update(fault.headers)
        return response

    async def not_served(self, request: Request, error: Exception) -> Response:
        """Where nothing is: a page for browsers, a problem for programs."""
        if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
            return await not_served(request, error)
        status = error.status_code if isinstance(error, HTTPException) else 500
        response = self._fault(request, Fault(status, "not-found", "there is no such page"))
        response.headers.update(_SAFE)
        return response

    async def static(self, request: Request) -> Response:
        """One of two files that were read at the start; no path of a request reaches the disk."""
        name = request.path_params["name"]
        if name not in self._static:
            raise HTTPException(404)
        ours = request.query_params.get("v") == self._marks[name]  # what is named by its content never changes
        safe = {**_SAFE, "cache-control": "max-age=31536000, immutable" if ours else "no-cache"}
        return Response(self._static[name], headers={**safe, "content-type": STATIC[name]})

    def bare(self, name: str, status: int = 200, **words: Any) -> Response:
        """A page outside of the frame, for who is not logged in: it tells nothing of the bus."""
        html = self._templates.get_template(name).render(**words)
        return Response(html.encode("utf-8", "replace"), status, media_type="text/html; charset=utf-8")

    # -- login ----------------------------------------------------------------------------------------------------------
    def _login_page(self, request: Request, status: int, said: str = "", back: str = "") -> Response:
        if not back and request.method == "GET":
            back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        response = self.bare(
            "login.html", status, said=said, back=back, users=self._access.has_users, company=self._company
        )
        if status == 401:
            response.headers["www-authenticate"] = "Bearer"
        return response

    async def login_form(self, request: Request) -> Response:
        return self._login_page(request, 200, back=own_path(request.query_params.get("back", "")))

    async def login(self, request: Request) -> Response:
        form = await self.form(request)
        back, token = own_path(form.get("back", "")), form.get("token", "").strip()
        if token:
            session, said = self._access.login(request, token, form.get("name", "")), "This token is not right."
        else:
            session = await self._access.login_user(request, form.get("user", ""), form.get("password", ""))
            said = "Name or password are not right, or they were tried too often. Wait a moment before you try again."
        return self._login_page(request, 401, said, back) if session is None else self.entered(request, session, back)

    def entered(self, request: Request, session: Session, place: str) -> Response:
        """Hand the session to the browser, and go on."""
        response = _see(place)
        set_session(request, response, session, self._access.longest)
        return response

    async def logout(self, request: Request) -> Response:
        session, form = self._access.session(request), await self.form(request)
        if session is not None and session.wrote(form.get("csrf", "")):
            self._access.logout(session)
        response = _see("/")
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response


def reloading(request: Request) -> dict[str, Any]:
    """Whether the page loads again by itself (``every`` seconds, 0: it stands still), and the links that change that.

    It does so only for who has asked, in the URL: nobody loses their place, and whoever started it can stop it.
    """
    asked = request.query_params.get("every", "")
    can = request.method == "GET" and not request.url.path.endswith(_WRITTEN)
    every = int(asked) if can and asked.isdecimal() and len(asked) < 4 and int(asked) in PAUSES else 0
    return {
        "every": every,
        "links": [(pause, at(request, every=pause)) for pause in PAUSES] if can else [],
        "stop": at(request, every=None),
    }


def at(request: Request, **words: Any) -> str:
    """This page with other words in its URL; None takes one away."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in words]
    query = urlencode([*kept, *((name, value) for name, value in words.items() if value is not None)])
    return quote(request.url.path) + (f"?{query}" if query else "")


def set_session(request: Request, response: Response, session: Session, longest: float) -> None:
    """The cookie of a session: no script can read it, no other site sends it, and over TLS it never leaves without."""
    # the browser's own word for its origin says whether it speaks TLS to a proxy in front
    tls = request.headers.get("origin", "").startswith("https:") or request.url.scheme == "https"
    response.set_cookie(COOKIE, session.id, max_age=int(longest), httponly=True, samesite="strict", secure=tls)


def forbidden(request: Request, right: Right) -> Fault:
    """What somebody is told who may not."""
    return Fault(403, "forbidden", *who_of(request).refusal(right))


def own_path(text: str) -> str:
    """A path of this listener to go back to; whatever could lead elsewhere becomes the overview."""
    plain = text.startswith("/") and not text.startswith("//") and "\\" not in text
    return text if plain and text.isascii() and text.isprintable() and " " not in text else "/"


def _see(place: str) -> Response:
    return RedirectResponse(place, 303)
