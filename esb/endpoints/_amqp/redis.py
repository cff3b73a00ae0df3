"""Redis in kombu's layout, so that other programs with kombu can send to it and take from it, without the places where
kombu itself loses or multiplies messages.

kombu takes a message with BRPOP and notes it among the unacknowledged ones afterwards: what dies between the two loses it.
Here one script does both. And kombu gives a message back to every queue of its exchange; here it goes to the queue that it
came from. What is in hand is noted by queue, apart from that of other programs, whose patience may be an hour.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
import uuid
from collections.abc import Sequence
from typing import Any

import kombu.transport.redis as kombu_redis
from kombu.utils.json import loads
from redis import SSLConnection
from redis.exceptions import ResponseError

from esb.endpoints._amqp.consume import Arrival, Subscription
from esb.endpoints._amqp.opened import Opened, RawMessage, arrival_of

#: Most messages of one look, and seconds between two looks at an empty queue.
_AT_ONCE, _IDLE = 100, 0.05
#: Messages that one script puts back after their time.
_LOST_AT_ONCE = 1_000

# KEYS: notes (tag → list|message), index (tag → time), the lists of the queue by priority. A script that fails is not undone:
# what cannot be noted must not have been taken, and a time without a note is forgotten
_TAKE = """
local now, taken, bytes = redis.call('TIME'), {}, 0
for list = 3, #KEYS do
  while #taken < 2 * tonumber(ARGV[1]) and bytes < tonumber(ARGV[2]) do
    local item = redis.call('LINDEX', KEYS[list], -1)
    if not item then break end
    local tag = string.format('%s:%06d', ARGV[3], #taken)
    redis.call('ZADD', KEYS[2], now[1] + now[2] / 1000000, tag)
    redis.call('HSET', KEYS[1], tag, list .. '|' .. item)
    redis.call('RPOP', KEYS[list])
    table.insert(taken, tag)
    table.insert(taken, item)
    bytes = bytes + #item
  end
end
return taken
"""
# whoever lives keeps what it has in hand, in its order
_KEEP = """
local now = redis.call('TIME')
for place, tag in ipairs(ARGV) do
  redis.call('ZADD', KEYS[2], 'XX', now[1] + (now[2] + place) / 1000000, tag)
end
"""
_PUT_BACK = """
local function put_back(tag)
  local noted = redis.call('HGET', KEYS[1], tag)
  if noted then
    local bar = string.find(noted, '|', 1, true)
    redis.call('RPUSH', KEYS[tonumber(string.sub(noted, 1, bar - 1))], string.sub(noted, bar + 1))
    redis.call('HDEL', KEYS[1], tag)
  end
  redis.call('ZREM', KEYS[2], tag)
end
"""
_GIVE_BACK = _PUT_BACK + "for _, tag in ipairs(ARGV) do put_back(tag) end"
# the youngest first: each goes to the front of its queue, so that the oldest is taken first again
_FIND_LOST = f"""{_PUT_BACK}
local now = redis.call('TIME')
local before = now[1] + now[2] / 1000000 - tonumber(ARGV[1])
local lost = redis.call('ZREVRANGEBYSCORE', KEYS[2], before, '-inf', 'LIMIT', 0, {_LOST_AT_ONCE})
for _, tag in ipairs(lost) do put_back(tag) end
return #lost
"""


class CheckedConnection(SSLConnection):
    """TLS by our context. The library makes one of its own, and adds the given authority to those of the system."""

    def __init__(self, *, context: ssl.SSLContext, **more: Any) -> None:
        super().__init__(**more)
        self._context = context

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return self._context.wrap_socket(sock, server_hostname=self.host)


class RedisChannel(kombu_redis.Channel):  # type: ignore[misc]  # kombu has no types
    """kombu's channel, whose exchanges are what Redis has of them: the bindings of their queues."""

    connection_class_ssl = CheckedConnection

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._take_every_key: set[str] = set()

    def exchange_declare(self, exchange: str = "", type: str = "direct", **more: Any) -> None:  # noqa: A002 - kombu's name
        """A `fanout` exchange is bindings that take every key: kombu's own, PUBLISH, forgets what nobody listens to."""
        if type == "fanout":
            self._take_every_key.add(exchange)
        super().exchange_declare(exchange, "topic" if type == "fanout" else type, **(more | {"passive": False}))

    def queue_bind(self, queue: str, exchange: str = "", routing_key: str = "", **more: Any) -> None:
        super().queue_bind(queue, exchange, "#" if exchange in self._take_every_key else routing_key, **more)

    def _has_queue(self, queue: str, **more: Any) -> bool:
        """Redis has no empty lists, so that a queue without messages is there as well."""
        return True

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        """The queues; by the bindings alone, since the type of an exchange is known only where it was declared."""
        if not exchange:
            return [routing_key]
        table = self.get_table(exchange)
        return sorted(
            {
                queue
                for key, pattern, queue in table
                if (re.match(pattern, routing_key) if pattern else key == routing_key)
            }
        )


class RedisOpened(Opened):
    """The queue is looked at again and again; what is taken and what is noted as taken are one step of Redis."""

    drained = False

    def __init__(self, channel: Any, subscription: Subscription, patience: float) -> None:
        super().__init__(channel, subscription)
        queue = subscription.queue
        lists = [channel._q_for_pri(queue, step) for step in channel.priority_steps]
        self._keys = [f"esb.unacked.{queue}", f"esb.unacked_index.{queue}", *lists]
        self._patience = patience
        self._next_look = self._next_search = 0.0
        self._resting = False

    def begin(self) -> None:
        self._resting = False

    def rest(self) -> None:
        self._resting = True

    def bound(self) -> None:
        self.full = self.bytes > self._subscription.most

    def pull(self) -> None:
        now = time.monotonic()
        if now >= self._next_search:
            if self.tags:
                self._run(_KEEP, *self.tags.values())
            # most often a look is too early for all; a tenth of the patience later it is late enough
            found = self._run(_FIND_LOST, self._patience)
            self._next_search = now if found == _LOST_AT_ONCE else now + self._patience / 10
        room = min(self._subscription.prefetch - len(self.tags), _AT_ONCE)
        left = self._subscription.most - self.bytes
        if self._resting or self.full or room <= 0 or left <= 0 or now < self._next_look:
            return
        taken = self._run(_TAKE, room, left, uuid.uuid4().hex)
        if not taken:
            self._next_look = now + _IDLE
        for tag, item in zip(taken[::2], taken[1::2], strict=True):
            self.take(self._arrival(item), tag.decode())

    def acknowledge(self, numbers: Sequence[int]) -> None:
        if not (tags := self._free(numbers)):
            return
        with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.hdel(self._keys[0], *tags)
            pipe.zrem(self._keys[1], *tags)
            pipe.execute()

    def put_back(self) -> None:
        if self.tags:
            self._run(_GIVE_BACK, *reversed(self.tags.values()))
        self.channel.close()

    def _arrival(self, item: bytes) -> Arrival:
        """What is not wrapped as kombu does it, by a program that knows nothing of kombu, is a body."""
        number = self.next_number()
        try:
            return arrival_of(number, RawMessage(loads(item), channel=self.channel))
        except Exception:  # noqa: BLE001 - kombu makes dates, decimals and more of what it reads, each with errors of its own
            return Arrival(tag=number, body=item, properties={}, routing_key=self._subscription.queue)

    def _run(self, script: str, *arguments: Any) -> Any:
        with self.channel.conn_or_acquire() as client:
            return client.register_script(script)(self._keys, arguments)


def what_may_get_lost(channel: Any) -> str:
    """Why this Redis would lose what it has confirmed, empty where it keeps it as well as Redis can, or does not tell."""
    with channel.conn_or_acquire() as client:
        try:
            told: dict[str, Any] = client.info()
        except ResponseError:  # this user may not ask
            return ""
    if not told.get("aof_enabled", 1):
        return "it does not write what it gets to disk at once: set `appendonly yes` and `appendfsync always`"
    if int(told.get("maxmemory", 0)) and str(told.get("maxmemory_policy")).startswith("allkeys"):
        return "it drops messages when its memory is full: set `maxmemory-policy noeviction`"
    return ""
