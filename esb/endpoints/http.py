"""HTTP: requests that become messages, messages that become requests, and the systems behind them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, Literal

from esb.durations import Rate
from esb.endpoints._http.urls import ORIGIN, UrlKind, UrlTemplate
from esb.endpoints.addresses import has_port
from esb.endpoints.base import Answered, ConnectionContext, Delivery, LiveConnection, RunningSource, SourceContext
from esb.endpoints.http_auth import Inbound, check_header_name
from esb.endpoints.http_batch import Batch
from esb.endpoints.http_login import BasicLogin, OutboundAuth
from esb.endpoints.http_verify import Verify
from esb.endpoints.ingress import PathPattern
from esb.errors import InternalFault
from esb.formats.base import CodecKind
from esb.language import Expression, TextTemplate
from esb.message import EMPTY, Message
from esb.registry import connection, sink, source
from esb.spec import MapNode, Node, Reader, option, part_of
from esb.spec.kinds import Size
from esb.steps.base import ContractRef, Reply

Format = Annotated[Any, CodecKind()]
Path = Annotated[UrlTemplate, UrlKind(whole=False)]
Url = Annotated[UrlTemplate, UrlKind(whole=True)]

#: Headers that the transport writes itself.
_TRANSPORT = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"}
)


@source("http")
@dataclass(frozen=True, slots=True)
class HttpSource:
    """A path of the bus's HTTP listener; each request is one message.

    Answered 202 with `message_id`, `correlation_id` and `state` once the message is stored with an fsync. Refused with
    `application/problem+json`: 400 (cannot be read), 401, 409 (an `Idempotency-Key` with other content), 413, 415,
    422 (breaks the contract, with every violation, of more than 50 the first and their number), 429 (`rate`), 503 with
    `Retry-After` (the bus takes no more now).
    """

    path: str = option(doc="Path, with `{params}` that become `meta.params`.", example="/qms/lots/{lot}")
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = option(
        default="POST", doc="HTTP method.", example="POST"
    )
    auth: Inbound | None = option(
        default=None, doc="Who may call: a connector's `inbound` credentials, or credentials in place.", example="qms"
    )
    contract: ContractRef | None = option(
        default=None, doc="Schema that a body must meet to be accepted.", example="inspection-result.v1"
    )
    reply: Literal["accepted", "delivered", "none"] = option(
        default="accepted",
        doc="Answer once stored (202), once the route has ended (what `respond` says, else 200), or without a body (204).",
        example="accepted",
    )
    timeout: timedelta = option(
        default=timedelta(seconds=30),
        doc="How long `reply: delivered` waits before it answers 504.",
        example="30s",
        positive=True,
    )
    format: Format = option(
        default=None, doc="The only format that is taken; without it the content type decides.", example="json"
    )
    rate: Rate | None = option(default=None, doc="Most requests of one client per span.", example="50/s")
    max_body: Size | None = option(default=None, doc="Largest body, instead of the listener's limit.", example="2MB")

    def check(self, node: Node, reader: Reader) -> None:
        at = (node.get("path") if isinstance(node, MapNode) else None) or node
        try:
            PathPattern.parse(self.path)
        except ValueError as error:
            reader.problem("ESB103", str(error), at, hint="write it like `/qms/lots/{lot}`")

    def bind(self, context: SourceContext) -> RunningSource:
        from esb.endpoints._http.receive import HttpReceiver  # noqa: PLC0415 - loads only where a route runs

        return HttpReceiver(self, context)


@dataclass(frozen=True, slots=True)
class HttpTls:
    """How the other side is trusted and what we show to it; PEM files, relative to the workspace."""

    ca: str = option(default="", doc="Authorities to trust instead of the system's.", example="tls/plant-ca.crt")
    cert: str = option(default="", doc="Our certificate, where the system asks for one.", example="tls/esb.crt")
    key: str = option(default="", doc="Its private key.", example="tls/esb.key")
    trust_all: bool = option(
        default=False,
        doc="Trust every certificate; for test systems, and warned about at each start.",
        aliases=("verify",),
    )

    def check(self, node: Node, reader: Reader) -> None:
        if self.key and not self.cert:
            reader.problem(
                "ESB102", "`tls` has a `key` but no `cert`", node, hint="name both, or only `cert` for one file"
            )


@connection("http")
@dataclass(frozen=True, slots=True)
class HttpConnection:
    """A system that is called over HTTP: its address, credentials and transport.

    Connections are kept and shared; redirects are never followed, and proxies of the environment are not used.
    Opened without `base_url` it serves the sinks that stand alone with their `url`, each over a session of its own.
    """

    base_url: str = option(
        default="", doc="Address below which all operations are.", example="https://erp.example.com/sap/opu/odata/sap"
    )
    auth: OutboundAuth | None = option(default=None, doc="What the bus shows to the system.")
    csrf: Literal["sap"] | None = option(
        default=None, doc="`sap`: fetch an `X-CSRF-Token` and keep the session's cookies.", example="sap"
    )
    csrf_path: str = option(
        default="",
        doc="Where the token is fetched, below `base_url`; the operation's own path by default.",
        example="/",
    )
    tls: HttpTls | None = option(default=None, doc="Certificates.")
    headers: Mapping[str, str] = option(default=EMPTY, doc="Headers of every request.", example="{ sap-client: '100' }")
    keepalive: timedelta = option(
        default=timedelta(seconds=15),
        doc="How long an idle connection is kept; shorter than the system keeps it.",
        example="4s",
    )
    proxy: str | None = option(default=None, doc="Proxy for all requests.", example="http://proxy.plant.example:3128")
    proxy_auth: BasicLogin | None = option(
        default=None, doc="Who we are to the proxy.", example="{ user: esb, password: '${secret:proxy}' }"
    )
    inbound: Inbound | None = option(
        default=None, doc="What this system shows when it calls the bus (`auth: <connector>` on an `http` source)."
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not self.base_url:
            hint = "for example `base_url: https://erp.example.com`"
            reader.problem("ESB102", "a connector of type `http` needs `base_url`", node, hint=hint)
        for name, value in (("base_url", self.base_url), ("proxy", self.proxy)):
            if value:
                _check_address(name, value, node, reader)
        if self.proxy_auth is not None and self.proxy is None:
            reader.problem("ESB102", "`proxy_auth` needs `proxy`", node)
        if self.csrf_path and not re.fullmatch(r"/[!-~]*", self.csrf_path):
            reader.problem("ESB103", "`csrf_path` begins with `/` and has no blanks", node)
        _check_names(self.headers, node, reader)

    async def open(self, context: ConnectionContext) -> LiveConnection:
        from esb.endpoints._http.client import open_http  # noqa: PLC0415 - the client library loads when it is used

        return await open_http(self, context)


@sink("http")
@dataclass(frozen=True, slots=True)
class HttpSink:
    """One request per delivery, with `Idempotency-Key` and `X-Correlation-ID`.

    A message that came as a CloudEvent goes on as one (`ce-…` headers), but for the items of a `split` and an aggregate:
    those are other events.

    2xx is a success, unless `success_when` says otherwise. 408, 423, 425, 429, 5xx and lost connections are `unavailable`
    (`Retry-After` is honoured, up to an hour), no answer in time is `timeout`, every other answer is `rejected` with the
    words of the target. The whole of it keeps to the step's or connector's `timeout`.
    """

    url: Url | None = option(
        default=None,
        doc="Whole address, without a connector; values may stand in path and query, never in the host.",
        example="https://mes.example.com/orders/{{ body.order_no }}",
    )
    path: Path | None = option(
        default=None, doc="Path below the connector's `base_url`.", example="/lots/{{ body.lot.id }}/decision"
    )
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = option(default="POST", doc="HTTP method.", example="PUT")
    headers: Mapping[str, TextTemplate] = option(
        default=EMPTY, doc="Headers of the request.", example="{ X-Plant: '{{ site.plant }}' }"
    )
    query: Mapping[str, TextTemplate] = option(
        default=EMPTY, doc="Fields of the query.", example="{ plant: '{{ body.plant }}' }"
    )
    body: Expression | None = option(
        default=None, doc="What is sent instead of the message's body.", example="body.order"
    )
    format: Format = option(
        default=None, doc="How the body is written; JSON by default, a text as it is.", example="xml"
    )
    auth: OutboundAuth | None = option(default=None, doc="Credentials, instead of the connector's.")
    csrf: Literal["sap"] | None = option(default=None, doc="With `url`: as in a connector.", example="sap")
    tls: HttpTls | None = option(default=None, doc="With `url`: certificates.")
    proxy: str | None = option(default=None, doc="With `url`: proxy.", example="http://proxy.plant.example:3128")
    idempotency_key: TextTemplate | bool = option(
        default=True, doc="`true` sends the delivery id as `Idempotency-Key`; a text sends that.", example="true"
    )
    success_when: Expression | None = option(
        default=None,
        doc="Success in the words of the target (`meta.reply`), where its status alone may lie.",
        example="meta.reply.body.ok",
    )
    retry_when: Expression | None = option(
        default=None,
        doc="An answer that would be `rejected` is `unavailable` where this is true.",
        example="meta.reply.body.code == 'LOCKED'",
    )
    rejected_message: Expression | None = option(
        default=None, doc="Where the answer says what is wrong.", example="meta.reply.body.RETURN[].MESSAGE"
    )
    expect: tuple[int, ...] = option(
        default=(), doc="Statuses that are a success, instead of 2xx.", example="[201, 409]"
    )
    etag: Literal["fetch"] | None = option(
        default=None,
        doc="`fetch`: read the object first and send its ETag as `If-Match`; three times where others write meanwhile.",
        example="fetch",
    )
    etag_path: Path | None = option(default=None, doc="Where the ETag is read; the same path by default.")
    batch: Batch | None = option(
        default=None, doc="Send the items of a list in one `$batch` of OData.", example="{ each: body.items }"
    )
    verify: Verify | None = option(
        default=None,
        doc="What asks the system, after an attempt without an answer, whether it has the message already: then it is not sent"
        " again. `on_timeout` beside a step goes before it.",
        example="{ to: erp.get-order, done_when: meta.reply.status == `200` }",
        aliases=("on_timeout",),
    )
    max_response: Size = option(default=10_000_000, doc="Largest answer, decoded.", example="1MB")

    def check(self, node: Node, reader: Reader) -> None:
        if (self.url is None) == (self.path is None):
            reader.problem(
                "ESB107",
                "`http` needs exactly one of `url` and `path`",
                node,
                hint="`path` in an operation of a connector, `url` without one",
            )
        elif self.path is not None:
            for name in ("csrf", "tls", "proxy"):
                key = node.key(name) if isinstance(node, MapNode) else None
                if getattr(self, name) is not None:
                    reader.problem("ESB112", f"`{name}` belongs in the connector's file", key or node)
        if self.proxy:
            _check_address("proxy", self.proxy, node, reader)
        for status in self.expect:
            if not 200 <= status <= 599:
                reader.problem("ESB106", f"`expect` takes statuses from 200 to 599, not {status}", node)
        if self.etag_path is not None and self.etag is None:
            reader.problem("ESB102", "`etag_path` needs `etag: fetch`", node)
        if self.batch is not None:
            self._check_batch(self.batch, node, reader)
        if self.verify is not None:
            self._check_verify(self.verify, part_of(node, "verify"), reader)
        _check_names(self.headers, node, reader)

    def _check_batch(self, batch: Batch, node: Node, reader: Reader) -> None:
        if self.path is None or self.etag is not None:
            words = "`batch` needs the `path` of its items, below the connector's `base_url`"
            reader.problem("ESB107", words if self.path is None else "`batch` and `etag` do not go together", node)
            return
        first = self.path.parts[0]
        if not (isinstance(first, str) and first.startswith(batch.root)):
            hint = f"begin `path` with `{batch.root}`, or set `batch: {{ path: … }}`"
            reader.problem("ESB103", f"`path` is not below `{batch.root}`, where the batch is sent", node, hint=hint)

    def _check_verify(self, verify: Verify, node: Node, reader: Reader) -> None:
        _check_names(verify.headers, node, reader)
        own, other = ("path", "url") if self.url is None else ("url", "path")
        if getattr(verify, other) is not None:
            hint = f"write `{own}: …`, or the operation that asks: `to: erp.get-order`"
            words = f"`verify` takes a `{own}` beside the `{own}` that is sent to"
            reader.problem("ESB107", words, part_of(node, other), hint=hint)
        elif self.url is not None and verify.url is not None and self.url.origin.lower() != verify.url.origin.lower():
            hint = f"ask `{self.url.origin}`; another system is asked by `on_timeout` beside the step"
            reader.problem("ESB107", "`verify` asks another system", part_of(node, "url"), hint=hint)

    def question(self, verify: Verify) -> HttpSink:
        """The GET that asks at `path` or `url`, with the credentials of this sink."""
        return HttpSink(
            url=verify.url,
            path=verify.path,
            method="GET",
            headers=verify.headers,
            query=verify.query,
            auth=self.auth,
            csrf=self.csrf,
            tls=self.tls,
            proxy=self.proxy,
            max_response=self.max_response,
        )

    def own_connection(self) -> HttpConnection | None:
        """The connection of a sink that stands alone with its `url`; None where it needs a connector."""
        if self.url is None:
            return None
        return HttpConnection(base_url=self.url.origin, csrf=self.csrf, tls=self.tls, proxy=self.proxy)

    def cache_key(self, message: Message, scope: Mapping[str, Any]) -> Any:
        """What tells one question from another."""
        if self.batch is not None:
            return ["$batch", self.batch.path, self.batch.each(scope)]
        address = self.url if self.url is not None else self.path
        texts = {name: value.render(scope) for name, value in (*self.query.items(), *self.headers.items())}
        body = self.body(scope) if self.body is not None else None if self.method == "GET" else message.body
        return [self.method, address.render(scope) if address is not None else "", texts, body]

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        if self.batch is not None:
            from esb.endpoints._http.batch import send  # noqa: PLC0415 - the client library loads when it is used
        else:
            from esb.endpoints._http.exchange import send  # noqa: PLC0415 - the same

        if connection is not None:
            live = connection if self.url is None else await connection.to(self)
            return await send(self, message, delivery, live)
        own = self.own_connection()
        if own is None:
            raise InternalFault("an `http` sink with `path` needs a connector", hint="write the whole address as `url`")
        opened: Any = await own.open(ConnectionContext("", delivery.clock, delivery.workspace, _no_log))
        try:
            return await send(self, message, delivery, opened)
        finally:
            await opened.close()

    def begin(
        self, message: Message, delivery: Delivery, connection: Any, answered: Answered
    ) -> Callable[[], None] | None:
        """See :class:`esb.endpoints.base.BeginsSink`."""
        if connection is None or self.batch is not None or self.etag is not None:
            return None
        return _beginner()(self, message, delivery, connection, answered)


@cache  # an `import` looks up more than a call, for each delivery
def _beginner() -> Callable[..., Callable[[], None] | None]:
    from esb.endpoints._http.begin import begin  # noqa: PLC0415 - the client library loads when it is used

    return begin


def _no_log(*_args: object, **_fields: object) -> None:
    """A connection for one delivery has nobody to tell."""


def _check_address(name: str, value: str, node: Node, reader: Reader) -> None:
    at = (node.get(name) if isinstance(node, MapNode) else None) or node
    match = ORIGIN.match(value)
    if match is not None and re.fullmatch(r"(?:/[^\s?#{}\\]*)?", value[match.end() :]):
        if not has_port(value):
            hint = "write it like `https://erp.example.com:8443`, or leave the port out"
            reader.problem("ESB103", f"`{name}` has a port between 1 and 65535", at, hint=hint)
        return
    if "@" in value:
        reader.problem("ESB501", f"`{name}` holds a user", at, hint="use `auth: { basic: … }`")
        return
    reader.problem("ESB103", f"`{name}` needs a fixed http or https address, such as `https://erp.example.com`", at)


def _check_names(headers: Mapping[str, Any], node: Node, reader: Reader) -> None:
    for name in headers:
        check_header_name(name, node, reader)
        if name.lower() in _TRANSPORT:
            reader.problem("ESB103", f"the header `{name}` is written by the transport", node, hint="take it out")
