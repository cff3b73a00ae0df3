"""Clients that go on until they are told to stop or the bus is gone, and remember what they were told."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.torture.account import Sent

#: Seconds after which a client gives a request up; far above what a bus that lives needs.
PATIENCE = 20.0


class Ledger:
    """What was sent over all rounds; for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[str, Sent] = {}

    def sending(self, id_: str, *, wanted: bool = True) -> None:
        with self._lock:
            self._sent.setdefault(id_, Sent(id_, acked=False, wanted=wanted))

    def acked(self, id_: str) -> None:
        with self._lock:
            self._sent[id_] = Sent(id_, acked=True, wanted=self._sent[id_].wanted)

    @property
    def sent(self) -> list[Sent]:
        with self._lock:
            return list(self._sent.values())

    @property
    def count(self) -> int:
        """How many were acknowledged."""
        return sum(one.acked for one in self.sent)


class Load:
    """Client threads that post to one route: ``{"id", "lot", "n", "kind"}``; use it in a ``with`` block.

    One in ten is MINOR, which a route of these tests filters. ``again`` are ids to send first, as a sender does that got no
    answer. One in ten is larger by ``pad`` characters. ``rate`` is how many all clients
    send in a second, 0 as many as they can. A thread ends when the bus hangs up; ``refused`` counts answers other
    than 202.
    """

    def __init__(
        self, url: str, ledger: Ledger, *, name: str, clients: int = 4, lots: int = 7, again: tuple[str, ...] = (),
        patience: float = PATIENCE, pad: int = 0, rate: float = 0.0,
    ) -> None:  # fmt: skip
        self.ledger = ledger
        self.acked = 0
        self.refused = 0
        self.refusal, self.retry_after = "", 0  #: of the last answer that was no 202
        self._url = urlsplit(url)
        self._name, self._lots, self._patience, self._pad = name, lots, patience, pad
        self._pause = clients / rate if rate else 0.0
        self._again = list(again)
        self._ending = threading.Event()
        self._left = clients
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self) -> Load:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Every client ends after its request at hand."""
        self._ending.set()
        for one in self._threads:
            one.join()

    def until(self, condition: Callable[[Load], bool], *, within: float = 60.0) -> None:
        """Wait for something that the counts show. Raises AssertionError."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), within), (self.acked, self.refused)

    @property
    def over(self) -> bool:
        """Whether every client has ended."""
        return self._left == 0

    def _client(self, number: int) -> None:
        chance = random.Random(f"{self._name}/{number}")
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=self._patience)
        count = 0
        try:
            while not self._ending.wait(self._pause) if self._pause else not self._ending.is_set():
                again = self._pop()
                count += again is None
                id_ = again or f"{self._name}-{number}-{count}"
                kind = "MINOR" if id_.endswith("7") else "MAJOR"
                self.ledger.sending(id_, wanted=kind == "MAJOR")
                body = {"id": id_, "lot": f"L{chance.randrange(self._lots)}", "n": count, "kind": kind}
                if self._pad and id_.endswith("3"):
                    body["pad"] = "x" * self._pad
                connection.request("POST", self._url.path, json.dumps(body), {"Content-Type": "application/json"})
                with connection.getresponse() as answer:
                    words = answer.read().decode(errors="replace")
                    self._heard(id_, answer.status, words, int(answer.headers.get("Retry-After", "0")))
        except (OSError, http.client.HTTPException):
            return  # killed, frozen or gone: nobody knows what became of the last one
        finally:
            connection.close()
            with self._changed:
                self._left -= 1
                self._changed.notify_all()

    def _pop(self) -> str | None:
        with self._changed:
            return self._again.pop() if self._again else None

    def _heard(self, id_: str, status: int, words: str, retry_after: int) -> None:
        if status == 202:
            self.ledger.acked(id_)
        with self._changed:
            self.acked += status == 202
            if status != 202:
                self.refused += 1
                self.refusal, self.retry_after = f"{status} {words}", retry_after
            self._changed.notify_all()
