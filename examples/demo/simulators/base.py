"""What all simulators share: state that survives a restart, a record of calls, orders to misbehave, and own events."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, web

from examples.demo.simulators.behaviour import Behaviour, UnknownMode

_ENCODER = msgspec.json.Encoder(decimal_format="number")
#: Calls that are kept for ``/_sim/requests``.
_REMEMBERED = 20_000
#: Seconds that an event is offered to a bus that does not take it yet.
_PATIENCE = 20.0


def dump(value: Any) -> bytes:
    """JSON with exact decimals: ``12.10`` stays ``12.10``."""
    return _ENCODER.encode(value)


def load(data: bytes | str) -> Any:
    """JSON with exact decimals. Raises ValueError."""
    return json.loads(data, parse_float=Decimal) if data else None


@dataclass(frozen=True, slots=True)
class Call:
    """One request of the bus, read completely. Header names are lower-case."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    query: Mapping[str, str]
    raw: bytes
    at: float

    @property
    def body(self) -> Any:
        return load(self.raw)

    @property
    def key(self) -> str:
        """What makes a repeat recognisable: ``Idempotency-Key``, or SAP Gateway's ``RequestID``."""
        return self.headers.get("idempotency-key") or self.headers.get("requestid", "")

    @property
    def correlation_id(self) -> str:
        return self.headers.get("x-correlation-id", "")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_response(self) -> web.Response:
        if isinstance(self.body, str):
            return web.Response(status=self.status, text=self.body, content_type="text/html", headers=self.headers)
        if self.body is None:
            return web.Response(status=self.status, headers=self.headers)
        return web.Response(
            status=self.status, body=dump(self.body), content_type="application/json", headers=self.headers
        )


class Problem(Exception):
    """A handler's way to say no."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.body))
        self.answer = answer


Handler = Callable[[Call], Answer]


class Simulator:
    """Base of every simulator. A subclass gives ``name``, ``events``, :meth:`fresh` and :meth:`routes`.

    ``secrets`` are read like the bus reads its own (``ESB_SECRET_ERP_PASSWORD``); where one is not set, any caller may in.
    """

    name: ClassVar[str] = ""
    #: event name → path of the bus that takes it
    events: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *, state_file: Path | None = None, secrets: Mapping[str, str] = os.environ) -> None:
        self._secrets = secrets
        self._file = state_file
        self.behaviour = Behaviour()
        self.idempotent = True
        self.bus_url = ""
        self.state: dict[str, Any] = self.fresh()
        self.answers: dict[str, Answer] = {}
        self.requests: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)
        self._session: ClientSession | None = None
        self._saving: asyncio.TimerHandle | None = None
        self._restore()

    # -- what a subclass says -----------------------------------------------------------------------------------------
    def fresh(self) -> dict[str, Any]:
        """The state of a system where nothing has happened yet."""
        raise NotImplementedError

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path (``{names}`` become params) and handler of every call that the system takes."""
        raise NotImplementedError

    def guard(self, call: Call) -> Answer | None:
        """Who may call: an Answer turns the call away before anything else happens."""
        return None

    def lie(self, call: Call, error: str) -> Answer:
        """A 200 that says in its body that it did not work."""
        return Answer(200, {"ok": False, "error": {"code": "LOCKED" if error == "transient" else "UNKNOWN"}})

    def rejection(self, call: Call) -> Answer:
        return Answer(422, {"error": {"code": "NOT_ACCEPTED", "message": f"{self.name} does not accept this"}})

    # -- helpers for subclasses ---------------------------------------------------------------------------------------
    def secret(self, name: str) -> str:
        return self._secrets.get("ESB_SECRET_" + name.upper().replace("-", "_"), "")

    def basic(self, call: Call, user: str, secret: str) -> Answer | None:
        password = self.secret(secret)
        expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        return self._same(call.headers.get("authorization", ""), expected, password)

    def bearer(self, call: Call, token: str) -> Answer | None:
        return self._same(call.headers.get("authorization", ""), f"Bearer {token}", token)

    def api_key(self, call: Call, secret: str) -> Answer | None:
        key = self.secret(secret)
        return self._same(call.headers.get("x-api-key", ""), key, key)

    @staticmethod
    def _same(given: str, expected: str, secret: str) -> Answer | None:
        if not secret or hmac.compare_digest(given.encode(), expected.encode()):
            return None
        return Answer(401, {"error": {"code": "UNAUTHORISED", "message": "who are you?"}})

    # -- the server ---------------------------------------------------------------------------------------------------
    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        for method, path, handler in self.routes():
            app.router.add_route(method, path, self._serve(handler))
        app.router.add_get("/_sim/state", self._get_state)
        app.router.add_get("/_sim/requests", self._get_requests)
        app.router.add_get("/_sim/behave", self._get_behaviour)
        app.router.add_post("/_sim/behave", self._set_behaviour)
        app.router.add_post("/_sim/bus", self._set_bus)
        app.router.add_post("/_sim/emit", self._emit)
        app.router.add_post("/_sim/reset", self._reset)
        app.on_cleanup.append(self._close)
        return app

    def _serve(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            call = Call(
                method=request.method,
                path=request.path,
                params=dict(request.match_info),
                headers={name.lower(): value for name, value in request.headers.items()},
                query=dict(request.query),
                raw=await request.read(),
                at=time.time(),
            )
            mode = self.behaviour.next(call.path)
            answer, replayed = self._answer(call, handler, mode)
            if mode == "slow":
                await asyncio.sleep(self.behaviour.delay)
            dropped = mode == "lost" or (mode == "down" and self.behaviour.how == "drop")
            self._record(call, mode, answer, dropped=dropped, replayed=replayed)
            if dropped:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=500)
            return answer.as_response()

        return serve

    def _answer(self, call: Call, handler: Handler, mode: str) -> tuple[Answer, bool]:
        if mode == "down":
            return Answer(503, {"error": {"code": "DOWN", "message": f"{self.name} is being repaired"}}), False
        turned_away = self.guard(call)
        if turned_away is not None:
            return turned_away, False
        if mode == "lying":
            return self.lie(call, self.behaviour.error), False
        if mode == "reject":
            return self.rejection(call), False
        memory = f"{call.method} {call.path} {call.key}" if call.key and call.method != "GET" else ""
        if memory and self.idempotent and memory in self.answers:
            return self.answers[memory], True
        try:
            answer = handler(call)
        except Problem as problem:
            answer = problem.answer
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            answer = Answer(400, {"error": {"code": "BAD_REQUEST", "message": f"{type(error).__name__}: {error}"}})
        if memory and answer.status < 400:
            self.answers[memory] = answer
        if call.method != "GET":
            self._save_soon()
        return answer, False

    def _record(self, call: Call, mode: str, answer: Answer, *, dropped: bool, replayed: bool) -> None:
        self.requests.append(
            {
                "at": call.at,
                "method": call.method,
                "path": call.path,
                "mode": mode,
                "status": None if dropped else answer.status,
                "replayed": replayed,
                "key": call.key,
                "correlation_id": call.correlation_id,
                "body": call.raw[:4000].decode("utf-8", "replace"),
            }
        )

    # -- orders and questions -----------------------------------------------------------------------------------------
    async def _get_state(self, request: web.Request) -> web.Response:
        return web.Response(body=dump(self.state), content_type="application/json")

    async def _get_requests(self, request: web.Request) -> web.Response:
        part = request.query.get("path", "")
        found = [entry for entry in self.requests if part in entry["path"]]
        return web.Response(body=dump({"items": found}), content_type="application/json")

    async def _get_behaviour(self, request: web.Request) -> web.Response:
        return web.json_response({**self.behaviour.as_dict(), "idempotent": self.idempotent})

    async def _set_behaviour(self, request: web.Request) -> web.Response:
        order = await request.json()
        try:
            behaviour = Behaviour.of(order)
        except (UnknownMode, TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        self.behaviour = behaviour
        self.idempotent = bool(order.get("idempotent", self.idempotent))
        self.obey(behaviour)
        return web.json_response(self.behaviour.as_dict())

    def obey(self, behaviour: Behaviour) -> None:
        """Called with every new order, for a system that must do something at once."""

    async def _set_bus(self, request: web.Request) -> web.Response:
        self.bus_url = str((await request.json())["url"]).rstrip("/")
        return web.json_response({"bus": self.bus_url})

    async def _reset(self, request: web.Request) -> web.Response:
        self.state = self.fresh()
        self.answers.clear()
        self.requests.clear()
        self.behaviour = Behaviour()
        self.idempotent = True
        self._save()
        return web.json_response({"reset": self.name})

    # -- events that the system sends ---------------------------------------------------------------------------------
    def prepare(self, event: str, data: Any) -> Any:
        """What is sent for an event; a subclass books here what the event says about its own state."""
        return data

    def correlation_for(self, event: str, data: Any) -> str:
        """The correlation id under which the system knows this case, empty where it knows none."""
        return ""

    async def _emit(self, request: web.Request) -> web.Response:
        order = load(await request.read())
        event = order.get("event", "")
        if event not in self.events:
            return web.json_response(
                {"error": f"{self.name} sends no `{event}`; it sends {', '.join(self.events)}"}, status=400
            )
        if not self.bus_url:
            return web.json_response({"error": "no bus yet: POST /_sim/bus first"}, status=409)
        data = self.prepare(event, order.get("data"))
        headers = {"Content-Type": "application/json", **order.get("headers", {})}
        correlation = order.get("correlation_id") or self.correlation_for(event, data)
        if correlation:
            headers["X-Correlation-ID"] = correlation
        inbound = self.secret(f"{self.name}-inbound")
        if inbound:
            headers["X-API-Key"] = inbound
        url = self.bus_url + self.events[event] + order.get("path", "")
        sent = [self._send(url, dump(data), dict(headers)) for _ in range(self.behaviour.copies())]
        answers = await asyncio.gather(*sent)
        self._save_soon()
        return web.Response(body=dump({"event": event, "answers": answers}), content_type="application/json")

    async def _send(self, url: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        """Send one event under an id of its own; a bus that is not there yet is asked again for a while."""
        headers["ce-id"] = str(uuid.uuid4())
        started = time.time()
        while True:
            try:
                async with self._client().post(url, data=body, headers=headers) as response:
                    text = await response.text()
                    status: int | None = response.status
            except (ClientError, TimeoutError, OSError) as error:
                text, status = str(error), None
            patient = time.time() - started < _PATIENCE
            if status not in (None, 429, 503) or not patient:
                return {"status": status, "body": _json_or_text(text), "sent_at": started, "done_at": time.time()}
            await asyncio.sleep(0.1)

    def _client(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(timeout=ClientTimeout(total=15))
        return self._session

    # -- state on disk ------------------------------------------------------------------------------------------------
    def _restore(self) -> None:
        if self._file is not None and self._file.exists():
            kept = load(self._file.read_bytes())
            self.state = kept["state"]
            self.answers = {key: Answer(**value) for key, value in kept["answers"].items()}

    def _save_soon(self) -> None:
        if self._file is not None and self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(0.3, self._save)

    def _save(self) -> None:
        self._saving = None
        if self._file is None:
            return
        answers = {
            key: {"status": answer.status, "body": answer.body, "headers": dict(answer.headers)}
            for key, answer in self.answers.items()
        }
        draft = self._file.with_suffix(".tmp")
        draft.write_bytes(dump({"state": self.state, "answers": answers}))
        draft.replace(self._file)

    async def _close(self, app: web.Application) -> None:
        if self._saving is not None:
            self._saving.cancel()
            self._save()
        if self._session is not None:
            await self._session.close()


def _json_or_text(text: str) -> Any:
    try:
        return load(text)
    except ValueError:
        return text[:2000]
