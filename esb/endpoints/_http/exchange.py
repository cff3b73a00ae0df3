"""One delivery over HTTP: render, send, judge the answer. Every answer ends in a reply or in a named error."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from esb.endpoints._http.answers import UNREAD, Answer
from esb.endpoints._http.client import CONNECT, Call, LiveHttp, Progress
from esb.endpoints._http.media import AT_ONCE, decoded, json_of, read_reply, written
from esb.endpoints._http.urls import quoted
from esb.endpoints.base import Delivery
from esb.endpoints.carried import ORIGIN, event_of, header_value, trace_of_message
from esb.errors import InternalFault, Invalid, Rejected, Timeout, Unavailable
from esb.formats.odata import error_text
from esb.message import EMPTY, Message
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints.http import HttpSink

#: Answers that mean "not now"; 407 is a proxy's, 423 a lock.
NOT_NOW = frozenset({407, 408, 423, 425, 429})
LONGEST_WAIT = timedelta(hours=1)
LONGEST_WORDS = 500
_ETAG_ROUNDS = 3
_BAD_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: Answer headers that are credentials of the session and stay with it.
_PRIVATE = frozenset({"set-cookie", "x-csrf-token", "www-authenticate", "proxy-authenticate", "authentication-info"})
#: What stands in a CloudEvents header as it is: printable ASCII but for the space, `"` and `%`.
_IN_AN_EVENT = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_ACCEPT = "application/json, application/xml;q=0.8, text/plain;q=0.6, */*;q=0.1"


async def send(sink: HttpSink, message: Message, delivery: Delivery, live: LiveHttp) -> Reply:
    """Send within ``delivery.timeout`` in total, tokens and retries of preconditions included."""

    progress = begun(delivery)
    try:
        with live.deadlines.within(delivery.timeout):
            return await _send(sink, message, delivery, live, progress)
    except TimeoutError:
        raise late(delivery, live, progress) from None


async def bounded(delivery: Delivery, live: LiveHttp, work: Callable[[Progress], Awaitable[Reply]]) -> Reply:
    """What ``work`` gives within the delivery's time. Raises Timeout where a request may have gone out, else Unavailable."""
    progress = begun(delivery)
    try:
        with live.deadlines.within(delivery.timeout):
            return await work(progress)
    except TimeoutError:
        raise late(delivery, live, progress) from None


def begun(delivery: Delivery) -> Progress:
    return Progress(connect=min(CONNECT, delivery.timeout * 0.8))


def late(delivery: Delivery, live: LiveHttp, progress: Progress) -> Timeout | Unavailable:
    words = f"{live.host}: {progress.doing} did not come within {delivery.timeout:g}s"
    return (Timeout if progress.sent else Unavailable)(words)


async def _send(sink: HttpSink, message: Message, delivery: Delivery, live: LiveHttp, progress: Progress) -> Reply:
    scope = delivery.scope
    call = render(sink, message, delivery)
    if sink.etag is None:
        return judge(sink, scope, await read(await live.exchange(call, sink.auth, progress)), delivery, live.host)
    for _ in range(_ETAG_ROUNDS):
        tag = await _fetch_etag(sink, scope, call, delivery, live, progress)
        tagged = Call(call.method, call.path, {**call.headers, "If-Match": tag}, call.body, call.max_response)
        answer = await live.exchange(tagged, sink.auth, progress)
        if answer.status not in (412, 428):
            return judge(sink, scope, await read(answer), delivery, live.host)
    raise Unavailable(
        f"{live.host}: the object was changed by others {_ETAG_ROUNDS} times while it was being written",
        reply=reply_of(answer).as_meta(),
    )


async def _fetch_etag(
    sink: HttpSink, scope: Mapping[str, Any], call: Call, delivery: Delivery, live: LiveHttp, progress: Progress
) -> str:
    path = sink.etag_path.render(scope) if sink.etag_path is not None else call.path
    headers = {
        name: value for name, value in call.headers.items() if name.lower() not in ("content-type", "idempotency-key")
    }
    answer = await read(await live.exchange(Call("GET", path, headers, None, call.max_response), sink.auth, progress))
    if not 200 <= answer.status < 300:
        raise failure_of(sink, scope, answer, delivery, f"{live.host}: asked for the ETag")
    tag = answer.headers.get("etag") or _etag_inside(reply_of(answer).body)
    if not tag or _BAD_HEADER.search(tag):
        raise Rejected(
            f"{live.host}: answered {answer.status} without an ETag",
            hint="take out `etag: fetch`, or set `etag_path` to an address that gives one",
            reply=reply_of(answer).as_meta(),
        )
    return tag


def _etag_inside(body: Any) -> str:
    """Where OData keeps it: ``@odata.etag`` (V4), ``d.__metadata.etag`` (V2)."""
    if not isinstance(body, dict):
        return ""
    inner = body.get("d")
    metadata = inner.get("__metadata") if isinstance(inner, dict) else None
    tag = body.get("@odata.etag") or (metadata.get("etag") if isinstance(metadata, dict) else None)
    return tag if isinstance(tag, str) else ""


# -- the request ----------------------------------------------------------------------------------------------------------


def render(sink: HttpSink, message: Message, delivery: Delivery) -> Call:
    """The request of one delivery. Raises Invalid where a value cannot stand where it is wanted."""
    scope = delivery.scope
    template = sink.url if sink.url is not None else sink.path
    assert template is not None
    path = template.render(scope)
    if sink.query:
        pairs = [f"{quote(name, safe='')}={quoted(value.render(scope), name)}" for name, value in sink.query.items()]
        path += ("&" if "?" in path else "?") + "&".join(pairs)
    body, content_type = _body(sink, message, scope)
    headers = {"Accept": _ACCEPT}
    if body is not None:
        headers["Content-Type"] = content_type
    _trace(headers, delivery)
    for name, text in event_of(scope).items():
        headers[f"ce-{name}"] = quote(text, _IN_AN_EVENT, errors="replace")
    if sink.idempotency_key is True:
        headers["Idempotency-Key"] = delivery.id
    elif sink.idempotency_key is not False:
        headers["Idempotency-Key"] = header_value("Idempotency-Key", sink.idempotency_key.render(scope))
    if sink.headers:
        own = {name: header_value(name, value.render(scope)) for name, value in sink.headers.items()}
        named = {name.lower() for name in own}
        headers = {name: value for name, value in headers.items() if name.lower() not in named} | own
    return Call(sink.method, path, headers, body, sink.max_response)


def _body(sink: HttpSink, message: Message, scope: Mapping[str, Any]) -> tuple[bytes | None, str]:
    if sink.body is None and sink.method in ("GET", "DELETE"):
        return None, ""
    return written(message.body if sink.body is None else sink.body(scope), sink.format)


def _trace(headers: dict[str, str], delivery: Delivery) -> None:
    """What lets the other side find this message again, as far as it may stand in a header."""
    scope = delivery.scope
    if _fits(correlation := delivery.correlation_id):
        headers["X-Correlation-ID"] = correlation
    headers.update((name, value) for name, value in trace_of_message(scope).items() if _fits(value))
    if _fits(origin := str(scope.get("headers", EMPTY).get(ORIGIN, ""))):
        headers["X-ESB-Origin"] = origin


def _fits(value: str) -> bool:
    return value != "" and value.isascii() and value.isprintable()


# -- the answer -----------------------------------------------------------------------------------------------------------


async def read(answer: Answer) -> Answer:
    """The answer with its body, where that is large JSON: it is read in pieces, between which the loop does other things."""
    if len(answer.content) <= AT_ONCE:
        return answer
    codec, _ = json_of(answer.headers.get("content-type", ""))
    if codec is None:
        return answer
    try:
        body = await decoded(codec, answer.content)
    except Invalid as fault:
        body = fault
    return Answer(answer.status, answer.headers, answer.content, body)


def reply_of(answer: Answer, *, strict: bool = False) -> Reply:
    """The answer as ``meta.reply``. Raises Invalid only where ``strict`` and it says JSON but is none."""
    body = answer.body
    try:
        if body is UNREAD:
            body = read_reply(answer.headers.get("content-type", ""), answer.content)
        elif isinstance(body, Invalid):
            raise body
    except Invalid:
        if strict:
            raise
        body = answer.content.decode("utf-8", "replace")
    headers = answer.headers
    if not _PRIVATE.isdisjoint(headers):
        headers = {name: value for name, value in headers.items() if name not in _PRIVATE}
    return Reply(answer.status, headers, body)


def judge(sink: HttpSink, scope: Mapping[str, Any], answer: Answer, delivery: Delivery, host: str) -> Reply:
    """The reply of a success. Raises Rejected or Unavailable for everything else."""
    wanted = answer.status in sink.expect if sink.expect else 200 <= answer.status < 300
    if not wanted:
        raise failure_of(sink, scope, answer, delivery, host)
    try:
        reply = reply_of(answer, strict=True)
    except Invalid as error:
        raise Unavailable(
            f"{host}: answered {answer.status}, but what it calls JSON cannot be read: {error.message}",
            reply=reply_of(answer).as_meta(),
        ) from error
    if sink.success_when is None:
        return reply
    told = with_reply(scope, reply)
    if sink.success_when.truth(told):
        return reply
    words = _words(sink, told, reply) or f"`{sink.success_when.text}` is not true of the answer"
    error_class = Unavailable if sink.retry_when is not None and sink.retry_when.truth(told) else Rejected
    raise error_class(f"{host}: answered {answer.status}, but: {words}", reply=reply.as_meta())


def with_reply(scope: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """The scope, with the answer as ``meta.reply``."""
    return {**scope, "meta": {**scope.get("meta", {}), "reply": reply.as_meta()}}


def failure_of(
    sink: HttpSink, scope: Mapping[str, Any], answer: Answer, delivery: Delivery, subject: str
) -> Rejected | Unavailable:
    """What an answer that is no success means: Unavailable where it may help to send again, else Rejected."""
    reply = reply_of(answer)
    status = answer.status
    told = with_reply(scope, reply)
    said = _words(sink, told, reply)
    words = f"{subject}: answered {status}" + (f": {said}" if said else "")
    if status in NOT_NOW or status >= 500:
        wait = retry_after(answer.headers.get("retry-after", ""), delivery.clock.now())
        return Unavailable(words, retry_after=wait, reply=reply.as_meta())
    if 300 <= status < 400:
        where = urlsplit(answer.headers.get("location", ""))._replace(query="", fragment="").geturl()
        target = f" to {clipped(where)}" if where else ""
        return Rejected(
            f"{subject}: answered {status}, a redirect{target}",
            hint="redirects are not followed; write the final address",
            reply=reply.as_meta(),
        )
    if sink.retry_when is not None and sink.retry_when.truth(told):
        return Unavailable(words, reply=reply.as_meta())
    if 200 <= status < 300:
        words = f"{subject}: answered {status}, expected {', '.join(map(str, sink.expect))}"
    return Rejected(words, hint=advice(status), reply=reply.as_meta())


def advice(status: int) -> str:
    """What a person does about a refusal that no other payload would mend; empty where the payload may be the reason."""
    if status in (401, 407):
        return "it does not know us: check `auth` of the connector and its secret, reload, then retry the group"
    if status == 403:
        return "it knows us and does not let us: have the right given to our user there, then retry the group"
    return ""


def retry_after(value: str, now: datetime) -> timedelta | None:
    """``Retry-After`` in seconds or as a date, at most an hour; None where it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return min(timedelta(seconds=int(value)), LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    instant = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(timedelta(0), min(instant - now, LONGEST_WAIT))


def _words(sink: HttpSink, told: Mapping[str, Any], reply: Reply) -> str:
    """What the target says went wrong: by ``rejected_message``, else where errors usually stand."""
    if sink.rejected_message is not None:
        try:
            found = sink.rejected_message(told)
        except InternalFault:
            found = None
        if found:
            return clipped("; ".join(str(one) for one in found if one) if isinstance(found, list) else str(found))
    return clipped(error_words(reply.body))


def error_words(body: Any) -> str:
    """The text of an error as problem+json, OData, OAuth and plain texts write it."""
    if isinstance(body, str):
        return "" if body.lstrip()[:1] == "<" else body
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    if isinstance(error, dict):
        return error_text(error)
    for name in ("detail", "error_description", "message", "error", "title"):
        if text := _text(body.get(name)):
            return text
    return ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def clipped(text: str) -> str:
    """One line of at most :data:`LONGEST_WORDS` characters, without control characters."""
    line = " ".join("".join(ch if ch.isprintable() else " " for ch in text[: 4 * LONGEST_WORDS]).split())
    return line if len(line) <= LONGEST_WORDS else line[: LONGEST_WORDS - 1] + "…"
