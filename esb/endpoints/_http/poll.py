"""A polling source over HTTP: ask, store, and only then move the position.

Order within one look (each arrow happens before the next): read a page → commit its items to the store → save the position. A crash
between two steps repeats the items under the same ``source_key``, which the store knows. The key is the hash of the round, the item and
its content; a round ends when its position is saved, so that an item that returns to an earlier content is a new message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from esb.endpoints._http.answers import Answer
from esb.endpoints._http.client import CONNECT, Call, LiveHttp, Progress
from esb.endpoints._http.exchange import NOT_NOW, advice, clipped, error_words, reply_of, retry_after
from esb.endpoints._http.media import JSON, decoded
from esb.endpoints._http.pages import Found, found_in, same_origin
from esb.endpoints._http.recall import Recall, digest
from esb.endpoints._http.urls import quoted
from esb.endpoints.base import Incoming, SourceContext
from esb.endpoints.carried import header_value
from esb.endpoints.polling import Poller
from esb.errors import InternalFault, Invalid, MessageError, Rejected, StoreBusy, StoreError, Timeout, Unavailable
from esb.formats.odata import OData, address_of

if TYPE_CHECKING:
    from esb.endpoints.poll import PollSource

_META = {"source": {"type": "poll"}}
_ACCEPT = "application/json, */*;q=0.1"
#: keys of one round that are remembered as stored; beyond it the store is asked
SEEN = 200_000
#: items that are made messages between two pauses
_AT_ONCE = 100


@dataclass(slots=True)
class Position:
    """Where the source stands, as it is saved. ``start`` is the delta link, ``next`` the page that is due, ``mark`` the last value;
    ``asked`` the question that they are the answer to."""

    round: int = 0
    start: str = ""
    next: str = ""
    mark: Any = None
    validators: dict[str, str] = field(default_factory=dict)
    asked: str = ""

    @classmethod
    def of(cls, saved: Any) -> Position:
        return cls(**saved) if isinstance(saved, dict) else cls()


@dataclass(frozen=True, slots=True)
class Taken:
    """One item on its way into the store; ``identity`` and ``content`` are hashes."""

    payload: bytes
    identity: str
    content: str


class Held(Exception):
    """The store takes no more now; what is not stored comes again."""


class HttpPoller(Poller):
    """A :class:`~esb.endpoints.base.RunningSource` over the connector's session."""

    trouble = "poll.failed"

    def __init__(self, options: PollSource, context: SourceContext) -> None:
        super().__init__(context)
        self.options = options
        self.context = context
        self._live: LiveHttp = context.connection
        self._recall = Recall(context.state)
        self._seen: dict[str, None] = {}
        base = urlsplit(self._live.settings.base_url)
        self._origin = f"{base.scheme}://{base.netloc}"
        self._root = base.path.rstrip("/")

    def pause(self) -> float:
        left = max(self.rest_left, 0.05 if not self.context.intake.open else 0.0)
        return left if left > 0 else self.options.every.total_seconds()

    async def poll_once(self) -> int:
        """One look; how many messages were stored."""
        async with self._turn:
            if self.resting:
                return 0
            try:
                return await self._look()
            except Held:
                return 0
            except StoreBusy as busy:
                self.rest(busy.retry_after.total_seconds() if busy.retry_after else 1.0)
                return 0
            except Unavailable as error:
                if error.retry_after is None:
                    raise
                self.context.log("warning", "poll.asked_to_wait", route=self.context.route, error=error.message)
                self.rest(error.retry_after.total_seconds())
                return 0
            finally:
                self._recall.drop()

    # -- one look -----------------------------------------------------------------------------------------------------
    async def _look(self) -> int:
        """Follow the position, page by page; it is saved after each."""
        position = self._asked_as(Position.of(await self.context.state.get("position")))
        if not (self.options.delta or self.options.after):
            return await self._whole(position)
        total, asked = 0, set[str]()
        for _ in range(self.options.max_pages):
            path = position.next or position.start or self._path(position)
            self._refuse_circle(path, asked)
            answer = await self._ask(path, position)
            if answer is None:
                asked.clear()
                continue
            found = await self._read(answer, path)
            total += await self._store(found.items, position.round)
            if not await self._move(position, found) or self.resting:
                break
        return total

    async def _move(self, position: Position, found: Found) -> bool:
        """Save where the next page begins; whether it is due at once."""
        after, before, over = self.options.after, position.mark, False
        if after is not None and found.items:
            position.mark = self._last_mark(found.items, position.mark)
        position.next = found.next
        if self.options.delta and not found.next:
            if not found.delta:
                hint = "take out `delta`, or add the header by which the system tracks changes"
                raise Rejected(f"{self._live.host}: gave no delta link with the last page", hint=hint)
            position.start, position.round, over = found.delta, position.round + 1, True
        await self._save(position)
        if over:
            self._seen.clear()
        return bool(found.next) or (after is not None and position.mark != before)

    async def _whole(self, position: Position) -> int:
        """Read the list whole; new are items whose content is not the one that is remembered."""
        total, present, asked, number, skip = 0, dict[str, str](), set[str](), 0, 0
        path, size = self._path(position), self.options.pages.size if self.options.pages is not None else 0
        while True:
            self._refuse_circle(path, asked)
            answer = await self._ask(path, position, conditional=number == 0)
            if answer is None:
                return 0
            found = await self._read(answer, path)
            total += await self._store_changed(found.items, position.round, present)
            number, skip = number + 1, skip + size
            path = self._path(position, skip) if size and len(found.items) >= size else "" if size else found.next
            if not path:
                break
            if self.resting:
                return total
            if number >= self.options.max_pages:
                hint = "raise `max_pages`, or ask for less with `delta` or `after`"
                raise Rejected(f"{self._live.host}: the list has more than {number} pages", hint=hint)
        gone = await self._recall.keep_only(set(present))
        await self._recall.save()
        validators = _validators(answer) if self.options.conditional and number == 1 else {}
        if total or gone or validators != position.validators:
            position.round, position.validators = position.round + 1, validators
            await self._save(position)
        return total

    def _refuse_circle(self, path: str, asked: set[str]) -> None:
        if path in asked:
            raise Rejected(
                f"{self._live.host}: its pages go round in a circle", hint="one page is given twice as the next"
            )
        asked.add(path)

    async def _save(self, position: Position) -> None:
        await self.context.state.put("position", asdict(position))

    def _asked_as(self, position: Position) -> Position:
        """The position in the answers to what is asked now: an edit of the route may ask another question, and then links of the old
        one are not followed, and it is not enough that nothing has changed there."""
        options = self.options
        texts = [options.path.text, *(one.text for one in (options.items, options.next) if one is not None)]
        texts += [f"{name}: {text.text}" for given in (options.query, options.headers) for name, text in given.items()]
        before, position.asked = position.asked, digest(*texts)
        if before not in ("", position.asked):
            if position.start:
                self.context.log("warning", "poll.begins_anew", route=self.context.route)
                self._seen.clear()
                position.round += 1
            position.start, position.next, position.validators = "", "", {}
        return position

    # -- the question -------------------------------------------------------------------------------------------------
    def _scope(self, position: Position) -> dict[str, Any]:
        after = self.options.after
        mark = position.mark if position.mark is not None else after.first if after is not None else None
        return {"site": self.context.site, "meta": {"after": mark}, "body": None, "headers": {}, "vars": {}}

    def _path(self, position: Position, skip: int = 0) -> str:
        """Path and query from the root of the host."""
        scope, pages = self._scope(position), self.options.pages
        fields = [(name, text.render(scope)) for name, text in self.options.query.items()]
        if pages is not None:
            fields += [(pages.skip, str(skip)), (pages.top, str(pages.size))]
        pairs = "&".join(f"{quote(name, safe='$')}={quoted(value, name)}" for name, value in fields)
        path: str = self._root + self.options.path.render(scope)
        return path + ("&" if "?" in path else "?") + pairs if pairs else path

    async def _ask(self, path: str, position: Position, *, conditional: bool = False) -> Answer | None:
        """The page; None where nothing has changed, or where the saved position was refused and is given up."""
        headers = {"Accept": _ACCEPT}
        if self.options.delta and not position.start and not position.next:
            headers["Prefer"] = "odata.track-changes"
        scope = self._scope(position)
        headers |= {name: header_value(name, text.render(scope)) for name, text in self.options.headers.items()}
        known = position.validators if conditional and self.options.conditional else {}
        headers |= known
        answer = await self._exchange(Call("GET", path, headers, None, self.options.max_response, rooted=True))
        if answer.status == 304 and known:
            return None
        if 200 <= answer.status < 300:
            return answer
        if await self._give_up(position, answer):
            return None
        raise self._failure(answer)

    async def _exchange(self, call: Call) -> Answer:
        seconds = self.options.timeout.total_seconds()
        progress = Progress(connect=min(CONNECT, seconds * 0.8))
        try:
            async with asyncio.timeout(seconds):
                return await self._live.exchange(call, self.options.auth, progress)
        except TimeoutError:
            raise Timeout(f"{self._live.host}: {progress.doing} did not come within {seconds:g}s") from None

    async def _give_up(self, position: Position, answer: Answer) -> bool:
        """A page that is gone: the round begins anew. A delta link that is gone (410): everything is read again, as new."""
        if position.next and answer.status in (400, 404, 410):
            position.next = ""
        elif position.start and answer.status == 410:
            position.start, position.round = "", position.round + 1
        else:
            return False
        self.context.log("warning", "poll.position_refused", route=self.context.route, status=answer.status)
        await self._save(position)
        return True

    def _failure(self, answer: Answer) -> MessageError:
        said = clipped(error_words(reply_of(answer).body))
        words = f"{self._live.host}: answered {answer.status}" + (f": {said}" if said else "")
        if answer.status in NOT_NOW or answer.status >= 500:
            wait = retry_after(answer.headers.get("retry-after", ""), self.context.clock.now())
            return Unavailable(words, retry_after=wait)
        moved = 300 <= answer.status < 400
        hint = "redirects are not followed; write the final address" if moved else advice(answer.status)
        return Rejected(words, hint=hint)

    # -- the answer ---------------------------------------------------------------------------------------------------
    async def _read(self, answer: Answer, asked: str) -> Found:
        """Items and links of a page; the links from the root of the host. Raises Unavailable for what cannot be read."""
        options, host = self.options, self._live.host
        if not options.in_parts:
            return Found([answer.content])
        try:
            document = await decoded(JSON, answer.content)
            found = found_in(document, answer.headers)
        except Invalid as error:
            raise Unavailable(f"{host}: answered {answer.status}, but {error.message}") from error
        told = {"body": document, "headers": dict(answer.headers), "meta": {}, "vars": {}, "site": self.context.site}
        items, link = found.items, found.next
        if options.items is not None:
            items = options.items(told)
            if not isinstance(items, list):
                words = f"{host}: the answer has no list at `{options.items.text}`"
                raise Unavailable(words, hint="an empty list is `[]`; check `items`")
        if options.next is not None:
            given = options.next(told)
            link = given if isinstance(given, str) else ""
        links = [same_origin(one, self._origin + asked, self._origin) if one else "" for one in (link, found.delta)]
        return Found(items, *links)

    def _last_mark(self, items: Sequence[Any], before: Any) -> Any:
        """The value of the last item; they must come in its order, or some would be passed by."""
        assert self.options.after is not None
        for item in items:
            mark = self.options.after.value(self._item_scope(self._plain(item)))
            if isinstance(mark, bool) or not isinstance(mark, (str, int, Decimal)):
                raise InternalFault(f"`after.value` of an item is {type(mark).__name__}, not a text or a number")
            if before is not None and (isinstance(mark, str) != isinstance(before, str) or mark < before):
                words = f"{self._live.host}: its items are not in the order of `{self.options.after.value.text}`"
                raise Rejected(words, hint="ask for that order, for example `query: { $orderby: ChangedAt }`")
            before = mark
        return before

    def _item_scope(self, item: Any) -> dict[str, Any]:
        return {"body": item, "headers": {}, "meta": {}, "vars": {}, "site": self.context.site}

    def _plain(self, item: Any) -> Any:
        """The item as the route will see it; as it came where it cannot be read, for its dead letter."""
        if isinstance(self.options.format, OData):
            with suppress(Invalid):
                return self.options.format.plain(item)
        return item

    # -- into the store -----------------------------------------------------------------------------------------------
    def _taken(self, item: Any) -> Taken:
        if isinstance(item, bytes):
            return Taken(item, digest("the answer"), digest(item))
        payload, plain = JSON.encode(item), self._plain(item)
        content = digest(JSON.encode(plain))
        if self.options.id is not None:
            identity = self.options.id(
                {"body": plain, "headers": {}, "meta": {}, "vars": {}, "site": self.context.site}
            )
        else:
            own = item.get("id", item.get("ID")) if isinstance(item, dict) else None
            identity = address_of(item) or own
        if identity is None or identity == "":
            return Taken(payload, content, content)
        return Taken(payload, digest(JSON.encode(identity)), content)

    async def _store(self, items: Sequence[Any], round_: int) -> int:
        """Store what is new in this round, in its order."""
        fresh = {}
        async for item in _each(items):
            taken = self._taken(item)
            key = digest(str(round_), taken.identity, taken.content)
            if key not in self._seen:
                fresh[key] = taken
        stored = await self._accept(fresh)
        self._seen.update(dict.fromkeys(stored))
        while len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        self._hold_if(len(stored) < len(fresh))
        return len(stored)

    async def _store_changed(self, items: Sequence[Any], round_: int, present: dict[str, str]) -> int:
        """Store the items whose content is not the one that is remembered, and remember it."""
        fresh = {}
        async for item in _each(items):
            taken = self._taken(item)
            if present.setdefault(taken.identity, taken.content) != taken.content:
                words = f"{self._live.host}: two items of one list have the same identity and other content"
                raise Rejected(words, hint="set `id` to what tells items apart")
            if not await self._recall.knows(taken.identity, taken.content):
                fresh[digest(str(round_), taken.identity, taken.content)] = taken
        stored = await self._accept(fresh)
        for key in stored:
            await self._recall.note(fresh[key].identity, fresh[key].content)
        await self._recall.save()
        self._hold_if(len(stored) < len(fresh))
        return len(stored)

    async def _accept(self, fresh: Mapping[str, Taken]) -> list[str]:
        """The keys that are safe in the store now: all up to the first that was refused."""
        accepts = (self.context.intake.accept(self._incoming(key, taken)) for key, taken in fresh.items())
        results = await asyncio.gather(*accepts, return_exceptions=True)
        stored: list[str] = []
        for key, result in zip(fresh, results, strict=True):
            if isinstance(result, (StoreError, Unavailable)):
                wait = getattr(result, "retry_after", None)
                self.rest(wait.total_seconds() if wait else 1.0)
                break
            if isinstance(result, BaseException):
                raise result
            stored.append(key)
        return stored

    def _incoming(self, key: str, taken: Taken) -> Incoming:
        options = self.options
        return Incoming(
            payload=taken.payload,
            codec=options.format or JSON,
            content_type=options.format.content_type if options.format is not None else JSON.content_type,
            meta=_META,
            contract=options.contract,
            source_key=f"poll:{key}",
            in_order=True,
        )

    def _hold_if(self, refused: bool) -> None:
        if refused:
            raise Held


async def _each(items: Sequence[Any]) -> AsyncIterator[Any]:
    """The items, with a pause after some: a long list must not hold up the other routes."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


def _validators(answer: Answer) -> dict[str, str]:
    """What to ask with next time, from what the answer says about itself.

    A date that is hardly older than the answer is not used: the list may have changed again within that second.
    """
    tag, date = answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
    if tag:
        return {"If-None-Match": header_value("ETag", tag)}
    try:
        age = parsedate_to_datetime(answer.headers.get("date", "")) - parsedate_to_datetime(date)
    except (ValueError, TypeError):  # no date, or one with a zone and one without
        return {}
    return {"If-Modified-Since": header_value("Last-Modified", date)} if age >= timedelta(seconds=2) else {}
