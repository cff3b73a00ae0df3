"""What an endpoint is: sources that hand over deliveries, sinks that send, and what the runtime lends them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from msgspec import Struct

from esb.blob import Blob, Spool
from esb.clock import Clock
from esb.errors import BadRow, ErrorRecord
from esb.formats.base import Codec
from esb.message import EMPTY, Message
from esb.steps.base import Contract, Reply

if TYPE_CHECKING:
    from esb.endpoints.limits import Quotas

# -- sources ------------------------------------------------------------------------------------------------------------


class Incoming(Struct, frozen=True):
    """A delivery as a source hands it to intake: raw payload plus what the source knows about it.

    ``source_key`` is the technical identity (a file's name, size and hash; a client's ``Idempotency-Key`` with the client's
    name; a timer slot): the same key again gives the first message back and stores nothing. ``fingerprint`` is the hash
    of what the key stands for: same key, other fingerprint is a :class:`KeyConflict`, or with ``on_reused="store"`` another
    message, which is stored in its place of the order.
    ``on_invalid``: ``refuse`` raises :class:`~esb.errors.Invalid` and stores nothing (HTTP); ``dead`` stores a dead letter.
    ``in_order``: what the source hands over has an order; it is accepted in the order of the calls, also where one of them
    takes longer to read.
    """

    payload: bytes
    codec: Codec | None = None
    content_type: str = ""
    headers: Mapping[str, str] = EMPTY
    meta: Mapping[str, Any] = EMPTY
    contract: Contract | None = None
    source_key: str | None = None
    fingerprint: str = ""
    correlation_id: str = ""
    on_invalid: Literal["refuse", "dead"] = "dead"
    #: a large payload that the source put into the spool already; ``payload`` is empty then
    blob: Blob | None = None
    #: who sent it by hand, and why: audited together with the message
    by: tuple[str, str] | None = None
    in_order: bool = False
    on_reused: Literal["refuse", "store"] = "refuse"


class Receipt(Struct, frozen=True):
    """What intake answers once the message is committed to the store with an fsync: only now acknowledge.

    ``state`` is ``queued`` (also ``held``), ``duplicate``, ``dead`` (stored as a dead letter) or ``known`` (the same
    ``source_key`` was accepted before; ``message_id`` is the first one's). ``error`` says why it is ``dead``.
    """

    message_id: str
    correlation_id: str
    state: Literal["queued", "duplicate", "dead", "known"]
    duplicate_of: str | None = None
    error: ErrorRecord | None = None
    seq: int = 0  #: its place in the order, where it is queued
    outcome: Outcome | None = None  #: how it ended, where that is known already
    reused: str = ""  #: the first message under its ``source_key``, which had another fingerprint


class Outcome(Struct, frozen=True, gc=False):
    """How a message ended, for ``reply: delivered``. ``response`` is what the ``respond`` step set; of one that was too large to be
    kept for the repeat of a call ``left_out`` is the status."""

    state: str
    error: Mapping[str, Any] | None = None
    response: tuple[int, Mapping[str, str], Any] | None = None
    left_out: int | None = None


class Intake(Protocol):
    """The way into one route.

    ``accept`` returns after the commit; small deliveries are stored in the order in which the calls began. Raises Invalid (``on_invalid="refuse"``), KeyConflict, StoreBusy with
    ``retry_after`` when the queue is full, the route is paused or draining, or the store cannot take more, and
    Unavailable when the route's ``when_down: { reject: … }`` says so.
    """

    async def accept(self, incoming: Incoming) -> Receipt: ...

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        """As ``accept``, without a task for each delivery: ``told`` is called on the loop with the receipt, after the commit,
        or with the error that stands for it. What is known at once is raised.

        False where nothing was done and the delivery needs ``accept``: it is large, slow to read, or behind such a one.
        """
        ...

    async def outcome(self, message_id: str, timeout: float, seq: int = 0) -> Outcome | None:
        """Wait for the end of a message; None when ``timeout`` seconds are up (the message goes on).

        With the ``seq`` of its receipt the store is only asked where the message has left the queue already.
        """
        ...

    def outcome_then(self, message_id: str, timeout: float, seq: int, told: Callable[[Outcome | None], None]) -> None:
        """As ``outcome``, without a task: ``told`` is called once, on a later turn of the loop."""
        ...

    @property
    def open(self) -> bool:
        """False while polling sources must rest: queue full, paused, draining, disk short."""
        ...

    @property
    def behind(self) -> bool:
        """True while so many messages wait for their turn that a source whose own may stay where they are should wait a little."""
        ...


class SourceState(Protocol):
    """A small durable memory of one source (identities seen, last slot). Every write is committed when it returns."""

    async def get(self, name: str) -> Any: ...

    async def put(self, name: str, value: Any) -> None: ...

    async def forget(self, name: str) -> None: ...


Handler = Callable[["Request"], Awaitable["Response"]]
#: Hears the answer to a request, what gives it, or the fault that stands for it.
Tell = Callable[["Response | Awaitable[Response] | Exception"], None]
#: Takes a request without a task of its own: the answer, what gives it, or None where it tells it later.
Soon = Callable[["Request", Tell], "Response | Awaitable[Response] | None"]


class Memo(Struct, eq=False):
    """What a handler has read from the head of a request, kept while the same sender repeats that head."""

    owner: object = None
    value: Any = None


class Request(Struct, frozen=True):
    """One HTTP request on the ingress listener, its head and whole body read under deadlines. Header names are lower-case.

    ``client`` is the peer's address. ``params`` are the ``{names}`` of the path. With a ``memo`` the head may come again,
    but for its ``Content-Length``: what was read from it is found there.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    client: str = ""
    params: Mapping[str, str] = EMPTY
    memo: Memo | None = None


class Response(Struct, frozen=True):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = EMPTY


class Ingress(Protocol):
    """The shared HTTP listener. ``mount`` is atomic; a second handler for the same method and path replaces the first.

    ``admit`` sees method, path params and headers before the body is read (authentication first, S25) and answers a
    Response to refuse; ``max_body`` is in bytes. ``quotas`` are those of the clients of the whole bus. ``soon`` is asked
    instead of the handler where a request came whole.
    """

    @property
    def quotas(self) -> Quotas: ...

    def mount(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        admit: Callable[[Request], Response | None] | None = None,
        max_body: int | None = None,
        soon: Soon | None = None,
    ) -> object:
        """Start to serve; the token it gives is what :meth:`unmount` takes."""
        ...

    def unmount(self, token: object) -> None:
        """Stop to serve; does nothing where another handler has replaced this one."""
        ...


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What the runtime lends a source. ``connection`` is the live connection of its connector, None without one."""

    route: str
    intake: Intake
    clock: Clock
    workspace: Path
    state: SourceState
    ingress: Ingress
    log: Callable[..., None]
    connection: Any = None
    site: Mapping[str, Any] = EMPTY
    timezone: str = "UTC"
    spool: Spool | None = None  #: where large payloads go; None in a test of the source alone


class ReportingSource(Protocol):
    """A running source that can tell the sender which parts of a delivery were not taken, also long after it was accepted."""

    async def report(
        self, meta: Mapping[str, Any], reason: str, rows: Sequence[BadRow], original: bytes | None = None
    ) -> str:
        """Leave a report about the message with this ``meta``; where it lies, empty where none is wanted.

        ``original``: the delivery was refused as a whole, so it is left there, too. Done again after a crash it leaves a
        second one. Raises OSError or EsbError where the place fails.
        """
        ...


class RunningSource(Protocol):
    """A source at work. ``stop`` takes nothing new, ends what it has begun, and returns."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class ClaimingSource(RunningSource, Protocol):
    """A source that puts aside what it takes before that is accepted, so that the end of the process may leave it there."""

    @property
    def place(self) -> str:
        """Where it takes what from, in words that are those of no other place."""
        ...

    async def hand_back(self, known: Callable[[str], str]) -> list[str]:
        """While it does not run: give back what lies aside, and end what is stored; the names of what stays there.

        ``known`` gives the message that was accepted under a ``source_key``, empty where none was. Raises OSError or EsbError
        where the place fails.
        """
        ...


class Source(Protocol):
    """A frozen dataclass of options, registered with ``@source``."""

    def bind(self, context: SourceContext) -> RunningSource: ...


# -- sinks --------------------------------------------------------------------------------------------------------------


class Delivery(Struct, frozen=True):
    """One attempt to send one message to one target.

    ``id`` is stable over retry, restart and replay. ``timeout`` is the total budget in seconds for everything the sink does.
    ``again`` is true where an earlier attempt may have reached the target.
    """

    id: str
    attempt: int
    timeout: float
    scope: Mapping[str, Any]
    clock: Clock
    workspace: Path
    message_id: str = ""
    correlation_id: str = ""
    key: str | None = None
    again: bool = False


class Sink(Protocol):
    """A frozen dataclass of options, registered with ``@sink``.

    ``send`` gives the reply, or raises Rejected, Timeout, Unavailable (with ``retry_after``) or Invalid. It keeps to
    ``delivery.timeout`` in total. ``connection`` is what its connection's ``open`` gave.
    """

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply: ...


#: Hears the reply to a delivery, or the error that stands for it.
Answered = Callable[[Reply | Exception], None]


class BeginsSink(Sink, Protocol):
    """A sink that also sends without a task for each delivery."""

    def begin(
        self, message: Message, delivery: Delivery, connection: Any, answered: Answered
    ) -> Callable[[], None] | None:
        """As ``send``: ``answered`` hears once what it gives or raises, on a later turn of the loop and within
        ``delivery.timeout``. What is known at once is raised.

        Gives what ends the delivery without an answer, as cancelling ``send`` would. None where nothing was done and the
        delivery needs ``send``.
        """
        ...


class LiveConnection(Protocol):
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """What the runtime lends a connection. ``name`` is the connector's, empty for inline endpoints."""

    name: str
    clock: Clock
    workspace: Path
    log: Callable[..., None]


class Connection(Protocol):
    """A frozen dataclass of a connector's transport settings, registered with ``@connection``; drivers load in ``open``."""

    async def open(self, context: ConnectionContext) -> LiveConnection: ...


class KeyConflict(Exception):
    """The same ``source_key`` came with other content."""

    def __init__(self, message_id: str, accepted_at: datetime | None = None) -> None:
        super().__init__(f"this key was used for message {message_id} with other content")
        self.message_id = message_id
        self.accepted_at = accepted_at


__all__ = [
    "Answered",
    "BadRow",
    "BeginsSink",
    "Connection",
    "ConnectionContext",
    "Delivery",
    "Handler",
    "Incoming",
    "Ingress",
    "Intake",
    "KeyConflict",
    "LiveConnection",
    "Memo",
    "Outcome",
    "Receipt",
    "ReportingSource",
    "Request",
    "Response",
    "RunningSource",
    "Sink",
    "Soon",
    "Source",
    "SourceContext",
    "SourceState",
    "Tell",
]
