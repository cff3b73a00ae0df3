"""The store in a process of its own that dies: nothing that was acknowledged is lost, everything is accounted for."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest

from esb.message import State
from esb.store.base import Filter

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")

#: Writes `accepted ID` and `done ID` after each commit, until it is killed. Six clients; one in five messages fails.
VICTIM = """
import asyncio, random, sys
from datetime import timedelta
from pathlib import Path
from esb.clock import SystemClock
from esb.errors import ErrorRecord, StoreBusy
from esb.message import Envelope, State, new_id
from esb.store import open_store
from esb.store.base import AuditEntry, Confirmed, DedupeKey, NewMessage, Settlement

async def client(store, clock, name, chance):
    while True:
        id_, now = new_id(), clock.now()
        key = chance.choice([f"L{name}", None])  # a lane has one message at work
        envelope = Envelope(id=id_, origin=id_, correlation_id=id_, route=f"r{chance.randrange(3)}", body=b"x" * 800,
                            content="json", accepted_at=now, key=key, track={"lot": key or "none"})
        try:
            accepted = await store.accept(NewMessage(envelope, started=chance.random() < 0.5,
                                                     dedupe=DedupeKey("dedupe", id_, now + timedelta(days=1))))
            print("accepted", id_, flush=True)
            if chance.random() < 0.3:
                continue
            if accepted.state is State.HELD:  # behind a dead one whose retry was refused
                continue
            if accepted.state is State.QUEUED:
                store.start(accepted.seq, 1, now)
            dead = chance.random() < 0.2
            child = NewMessage(Envelope(id=new_id(), route="child", body=b"", content="json", accepted_at=now, parent_id=id_))
            await store.settle(Settlement(accepted.seq, State.DEAD if dead else State.DONE, 1, now,
                                          error=ErrorRecord("rejected", "no") if dead else None, trace=[{"step": "a"}],
                                          ledger=[Confirmed("to", {"status": 200})], children=[child],
                                          hold_lane=dead))
            print("dead" if dead else "done", id_, flush=True)
            if dead:
                await store.retry(accepted.seq, AuditEntry("mia", "dlq.retry", id_, "why"), now)
                print("retried", id_, flush=True)
        except StoreBusy as error:
            print("refused", id_, error, flush=True)
            await asyncio.sleep(0.01)

async def main():
    clock = SystemClock()
    store = await open_store("sqlite:///.esb/bus.db", Path(sys.argv[1]), clock=clock, min_free=0,
                             threaded=sys.argv[2] == "thread")
    print("ready", flush=True)
    limit = int(sys.argv[3])
    if limit:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    await asyncio.gather(*[client(store, clock, n, random.Random(f"{sys.argv[4]}/{n}")) for n in range(6)])

asyncio.run(main())
"""


class Victim:
    """One process that stores messages as fast as it can; ``said`` is what it acknowledged."""

    def __init__(
        self, root: Path, *, seed: int, thread: bool = False, file_limit: int = 0, failpoints: str = ""
    ) -> None:
        environment = {**os.environ, "ESB_TEST": "1", "ESB_FAILPOINTS": failpoints}
        how = "thread" if thread else "loop"
        command = [sys.executable, "-c", VICTIM, str(root), how, str(file_limit), str(seed)]
        self.said: list[list[str]] = []
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def read(self, lines: int) -> None:
        """Take in so many words, or all there are."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            words = line.split()
            if line.endswith("\n") and words != ["ready"]:
                self.said.append(words)
            if len(self.said) >= lines:
                return

    def kill(self) -> int:
        """SIGKILL; what it had said already still counts."""
        self.process.kill()
        self.read(10**9)
        return self.process.wait()


def check(stores: Any, said: list[list[str]]) -> None:
    """Nothing acknowledged is lost, every message is in one state, the audit is whole."""

    async def main() -> None:
        store = await stores.open()
        assert not store.clean_start
        assert store.verify_file() == []
        assert store.verify_conservation() == []
        assert store.verify_audit() == []
        retried = {words[1] for words in said if words[0] == "retried"}
        for word, id_, *_ in said:
            stored = store.get(id_) if word != "refused" else None
            if word == "accepted":
                assert stored is not None, f"{id_} was acknowledged and is lost"
                assert len(stored.envelope.body) == 800
            elif word == "done":
                assert stored.state is State.DONE
                assert store.children([id_])
                assert store.payload(stored.envelope.seq)[1] == {"to": {"status": 200}}
            elif word == "dead":
                assert stored.trace
                assert stored.state is State.DEAD or stored.state in (State.QUEUED, State.HELD)
            elif word == "retried":
                assert stored.state in (State.QUEUED, State.HELD, State.RUNNING)
        audited = {entry["object"] for entry in store.audit_entries(100_000)}
        assert retried <= audited
        assert store.find(Filter(states=(State.RUNNING,))) == []
        # as after a crash of the checking process: the next victim must find an untidy store, too
        for part in (store._hot, store._search, store._writer):
            part.close()
        stores.opened.remove(store)

    asyncio.run(main())


def test_twenty_kills_lose_nothing_that_was_acknowledged(stores: Any) -> None:
    """Killed at random from outside, or by itself just before and just after a commit."""
    chance = random.Random(4711)
    said: list[list[str]] = []
    for round_ in range(20):
        point = chance.choice(["", "store.before_commit", "store.after_commit"])
        failpoints = f"{point}=kill@{chance.randrange(2, 40)}" if point else ""
        with Victim(stores.root, seed=round_, thread=round_ % 2 == 1, failpoints=failpoints) as victim:
            victim.read(10**9 if point else chance.randrange(1, 150))
            assert victim.kill() == -signal.SIGKILL
        said += victim.said
        check(stores, said[-2000:])
    assert len(said) > 500


def test_a_disk_that_stops_taking_bytes_refuses_and_goes_on_later(stores: Any) -> None:
    """RLIMIT_FSIZE: every write behind the limit fails, in the middle of whatever commit it is."""
    with Victim(stores.root, seed=1, file_limit=600_000) as victim:
        victim.read(400)
        victim.kill()
    words = {words[0] for words in victim.said}
    assert {"accepted", "refused"} <= words
    check(stores, victim.said)
    with Victim(stores.root, seed=2) as again:
        again.read(50)
        again.kill()
    assert "refused" not in {words[0] for words in again.said}
    check(stores, victim.said + again.said)


@pytest.mark.parametrize("thread", [False, True])
def test_an_io_error_at_a_commit_is_answered_and_survived(stores: Any, thread: bool) -> None:
    with Victim(stores.root, seed=3, thread=thread, failpoints="store.commit_error=error@3") as victim:
        victim.read(100)
        victim.kill()
    words = [words[0] for words in victim.said]
    assert 1 <= words.count("refused") <= 12
    assert words.index("refused") < len(words) - 20
    check(stores, victim.said)
