"""One `$batch` of OData: the items of a list as requests inside one request, and what became of each of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from esb.endpoints._http.answers import Answer
from esb.endpoints._http.client import Call, LiveHttp, Progress
from esb.endpoints._http.exchange import bounded, failure_of, judge, render, reply_of
from esb.endpoints.base import Delivery
from esb.errors import InternalFault, Invalid, MessageError, Rejected, Unavailable, Violation
from esb.formats.multipart import Part, boundary_of, join_parts, read_headers, split_parts
from esb.message import Message
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints.http import HttpSink
    from esb.endpoints.http_batch import Batch

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*")
_BLANK = re.compile(rb"\r?\n\r?\n")
_PLAIN_PATH = re.compile(r"body((?:\.[A-Za-z_][A-Za-z0-9_]*)*)")
#: what the outer request says for all of its items
_OUTSIDE = frozenset({"x-correlation-id", "traceparent", "tracestate", "user-agent"})


async def send(sink: HttpSink, message: Message, delivery: Delivery, live: LiveHttp) -> Reply:
    """Send within ``delivery.timeout``; the body of the reply has one ``{status, headers, body}`` for each item, in order.

    Raises Rejected or Unavailable with a violation for each item that failed, its pointer that of the item.
    """

    async def work(progress: Progress) -> Reply:
        return await _send(sink, message, delivery, live, progress)

    return await bounded(delivery, live, work)


async def _send(sink: HttpSink, message: Message, delivery: Delivery, live: LiveHttp, progress: Progress) -> Reply:
    batch = sink.batch
    assert batch is not None
    items = batch.each(delivery.scope)
    if not isinstance(items, list):
        raise Invalid(f"`{batch.each.text}` of a batch is no list")
    if not items:
        return Reply(None, {}, [])
    each = [_delivery_of(delivery, item, number) for number, item in enumerate(items, 1)]
    calls = [render(sink, message.derive(body=item), one) for item, one in zip(items, each, strict=True)]
    call = _outer(batch, calls, delivery, sink.max_response)
    answer = await live.exchange(call, sink.auth, progress)
    if not 200 <= answer.status < 300:
        raise failure_of(sink, delivery.scope, answer, delivery, live.host)
    answers = _answers(answer, len(items), live.host, atomic=batch.atomic)
    return _judge(sink, each, answers, live.host)


def _delivery_of(delivery: Delivery, item: Any, number: int) -> Delivery:
    return replace(delivery, id=f"{delivery.id}-{number}", scope={**delivery.scope, "body": item})


# -- the request ----------------------------------------------------------------------------------------------------------


def _outer(batch: Batch, calls: Sequence[Call], delivery: Delivery, max_response: int) -> Call:
    inner = [_request(call, batch.root) for call in calls]
    digest = hashlib.sha256(delivery.id.encode() + b"".join(inner)).hexdigest()[:32]
    numbered = [
        (
            {"Content-Type": "application/http", "Content-Transfer-Encoding": "binary", "Content-ID": str(number)},
            content,
        )
        for number, content in enumerate(inner, 1)
    ]
    reads = all(call.method == "GET" for call in calls)
    groups = [[one] for one in numbered] if not batch.atomic else [numbered]
    parts = numbered if reads else [_changeset(group, f"changeset_{digest}_{n}") for n, group in enumerate(groups, 1)]
    boundary = f"batch_{digest}"
    headers = {name: value for name, value in calls[0].headers.items() if name.lower() in _OUTSIDE}
    headers |= {"Accept": "multipart/mixed", "Content-Type": f"multipart/mixed; boundary={boundary}"}
    if not batch.atomic:
        headers["Prefer"] = "odata.continue-on-error"
    return Call("POST", batch.path, headers, join_parts(parts, boundary), max_response)


def _changeset(group: Sequence[tuple[Mapping[str, str], bytes]], boundary: str) -> tuple[Mapping[str, str], bytes]:
    return {"Content-Type": f"multipart/mixed; boundary={boundary}"}, join_parts(group, boundary)


def _request(call: Call, root: str) -> bytes:
    """One request as it stands in a part, its address relative to the service."""
    if not call.path.startswith(root):
        raise InternalFault(f"the address `{call.path}` is not below `{root}`, the service of the batch")
    body = call.body or b""
    lines = [f"{call.method} {call.path[len(root) :]} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in call.headers.items() if name.lower() not in _OUTSIDE]
    if call.body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


# -- the answer -----------------------------------------------------------------------------------------------------------


def _answers(answer: Answer, count: int, host: str, *, atomic: bool) -> list[Answer | None] | Answer:
    """One answer for each item (None where there is none), or the one by which a whole changeset was refused."""
    try:
        found = parts_of(answer)
    except Invalid as error:
        raise Unavailable(f"{host}: answered {answer.status}, but {error.message}") from error
    if atomic and len(found) == 1 and not isinstance(found[0], list):
        single = found[0]
        return single if count > 1 or single.status >= 400 else [single]
    flat = [one for part in found for one in (part if isinstance(part, list) else [part])]
    if len(flat) > count or (atomic and len(flat) != count):
        raise Unavailable(f"{host}: answered {len(flat)} parts for {count} requests")
    return [*flat, *[None] * (count - len(flat))]


def parts_of(answer: Answer) -> list[Answer | list[Answer]]:
    """The parts of a batch's answer; those of a changeset as a list. Raises Invalid where it is no such answer."""
    content_type = answer.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/mixed"):
        raise Invalid("what it answers to a batch is no `multipart/mixed`")
    found: list[Answer | list[Answer]] = []
    for part in split_parts(answer.content, boundary_of(content_type), limit=10_000, strict=False):
        if part.media_type != "multipart/mixed":
            found.append(_inner(part))
            continue
        boundary = boundary_of(part.headers["content-type"])
        inner = split_parts(part.content, boundary, limit=10_000, strict=False)
        # servers number the parts of a changeset; without numbers they stand in order
        answers = [_inner(one) for one in inner]
        numbers = [one.headers.get("content-id", "") for one in answers]
        if len(set(numbers)) == len(numbers) and all(number.isascii() and number.isdigit() for number in numbers):
            answers.sort(key=lambda one: int(one.headers["content-id"]))
        found.append(answers)
    return found


def _inner(part: Part) -> Answer:
    """The HTTP answer in a part. ``content-id`` of the part counts as a header of it."""
    status = _STATUS.match(part.content)
    if part.media_type != "application/http" or status is None:
        raise Invalid("a part of its batch is no HTTP answer")
    rest = part.content[status.end(1) :].partition(b"\n")[2]
    blank = _BLANK.search(b"\n" + rest)
    head, content = (rest, b"") if blank is None else ((b"\n" + rest)[: blank.start()], rest[blank.end() - 1 :])
    headers = read_headers(head.strip(b"\r\n"))
    if "content-id" in part.headers:
        headers.setdefault("content-id", part.headers["content-id"])
    return Answer(int(status[1]), headers, content.strip(b"\r\n"))


def _judge(sink: HttpSink, each: Sequence[Delivery], answers: list[Answer | None] | Answer, host: str) -> Reply:
    assert sink.batch is not None
    if isinstance(answers, Answer):
        raise _of_changeset(sink, each, answers, host)
    replies: list[dict[str, Any] | None] = []
    errors: list[tuple[int, MessageError]] = []
    for number, (one, answer) in enumerate(zip(each, answers, strict=True)):
        replies.append(reply_of(answer).as_meta() if answer is not None else None)
        try:
            if answer is None:
                raise Unavailable(f"{host}: this request of the batch was not answered")
            judge(sink, one.scope, answer, one, host)
        except (Rejected, Unavailable) as error:
            errors.append((number, error))
    if errors:
        raise _together(sink.batch, errors, replies, host)
    return Reply(200, {}, replies)


def _of_changeset(sink: HttpSink, each: Sequence[Delivery], answer: Answer, host: str) -> MessageError:
    """The error of a changeset: nothing took effect, and where the target says which request it was, its item is named."""
    assert sink.batch is not None
    number = answer.headers.get("content-id", "")
    at = int(number) - 1 if number.isascii() and number.isdigit() and 0 < int(number) <= len(each) else None
    one = each[at or 0]
    reply = reply_of(answer).as_meta()
    if answer.status < 400:
        return Unavailable(f"{host}: answered one {answer.status} for a changeset of {len(each)}", reply=reply)
    error: MessageError = failure_of(sink, one.scope, answer, one, f"{host}: the changeset was refused")
    error.violations = (Violation(_pointer(sink.batch, at), error.message),)
    return error


def _together(
    batch: Batch, errors: Sequence[tuple[int, MessageError]], replies: Sequence[Any], host: str
) -> MessageError:
    """One error for all: to be tried again where that may help one of them."""
    passing = [error for _, error in errors if isinstance(error, Unavailable)]
    waits = [error.retry_after for error in passing if error.retry_after is not None]
    first = errors[0][1].message.removeprefix(f"{host}: ")
    kind = Unavailable if passing else Rejected
    return kind(
        f"{host}: {len(errors)} of {len(replies)} requests of the batch failed; item {errors[0][0] + 1} {first}",
        violations=[Violation(_pointer(batch, number), error.message) for number, error in errors],
        retry_after=max(waits) if waits else None,
        reply={"status": 200, "headers": {}, "body": list(replies)},
    )


def _pointer(batch: Batch, number: int | None) -> str:
    """Where an item stands in the body of the message, as far as `each` is a plain path."""
    path = _PLAIN_PATH.fullmatch(batch.each.text.strip())
    base = path[1].replace(".", "/") if path is not None else ""
    return base if number is None else f"{base}/{number}"
