"""T2: the power goes at many points of a run; only what was synced is left, with any part of the rest. The real store opens it."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from esb.cli.gateway import Gateway
from esb.clock import SystemClock
from esb.errors import StoreError
from esb.message import State
from esb.store import open_store
from esb.store.base import Filter, Store, Stored
from tests.servers.require import program
from tests.torture.conftest import MakeRig
from tests.torture.disk import Disk
from tests.torture.rig import DROP
from tests.torture.tier import LONG, sized
from tests.torture.trace import Step, steps, tracer

pytestmark = pytest.mark.timeout(3600 if LONG else 600)

TO_FILE = """
route: torture
key: body.lot
dedupe: body.id
track: { id: body.id }
from: { http: { path: /torture, method: POST } }
steps:
  - filter: body.kind == 'MAJOR'
  - to: { file: { path: "out/{{ body.lot }}/{{ body.id }}.json", exists: unique } }
"""
#: Characters that make a payload too large for a row: its file is synced before the commit that names it, or it may be gone.
LARGE = 5_000
_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f-]{27}|cut-[0-9-]+|\bf\d+\b|\d+")
_ACK = re.compile(rb'HTTP/1.1 202 .*"message_id": ?"([0-9a-f-]{36})"', re.DOTALL)


@dataclass(slots=True)
class Cut:
    """What is known at one point of the run: who was told yes, and which files had been dropped before it began."""

    acked: list[str]
    dropped: tuple[str, ...]
    faults: list[str] = field(default_factory=list)

    def check(self, root: Path) -> list[str]:
        """Open what is left with the store's own code; gives everything that may not be so."""
        if not (root / ".esb" / "bus.db").exists():
            gone = [f"no store, but {len(self.acked)} were acknowledged"] if self.acked else []
            return gone + self._drops(root, set())
        try:
            asyncio.run(self._store(root))
        except StoreError as error:
            self.faults.append(f"cannot be opened: {error}")
        return self.faults

    async def _store(self, root: Path) -> None:
        store = await open_store("sqlite:///.esb/bus.db", root, clock=SystemClock(), min_free=0, threaded=False)
        try:
            self.faults += [f"lost {id_}" for id_ in self.acked if store.get(id_, trace=False) is None]
            self.faults += store.verify_file() + store.verify_conservation() + store.verify_audit()
            if lost := store.verify_blobs():
                self.faults += lost
                return  # nothing can be read of those
            taken = store.find(Filter(route="drop", limit=10_000))
            names = {id_of(store, one) for one in taken}
            for folder, route in (("out", "torture"), ("dropped", "drop")):
                ended = store.find(Filter(route=route, states=(State.DONE,), limit=10_000))
                for one in ended:
                    id_ = id_of(store, one)
                    if not one.reason and not whole(root / folder, id_):
                        self.faults.append(f"{id_} is done, but its file in {folder}/ is not there or not whole")
            self.faults += self._drops(root, names)
        finally:
            await store.close()

    def _drops(self, root: Path, taken: set[str]) -> list[str]:
        """A dropped file is in the store or still where the source finds it, and in any case somewhere."""
        found = []
        for id_ in self.dropped:
            places = ("in", "in/.esb-claim")
            if id_ not in taken and not any(whole(root / place, id_) for place in places):
                found.append(f"file {id_} is neither taken nor there to be taken")
            if not any(whole(root / place, id_) for place in (*places, "in/.esb-done")):
                found.append(f"file {id_} vanished")
        return found


def id_of(store: Store, message: Stored) -> str:
    """The business id in the payload, which lies in a row or in a file beside the store."""
    envelope, _ = store.payload(message.envelope.seq)
    body = envelope.body if envelope.blob is None else envelope.blob.read()
    return str(json.loads(body)["id"])


def whole(folder: Path, id_: str) -> bool:
    """Whether a file of this id stands there with everything in it."""
    for path in (*folder.glob(f"{id_}.*"), *folder.glob(f"L*/{id_}.*")):
        try:
            return bool(json.loads(path.read_bytes())["id"] == id_)
        except ValueError:
            return False
    return False


def replay(disk: Disk, happened: Iterable[Step], dropped: tuple[str, ...], folder: Path, points: int) -> list[str]:
    """Cut the power at ``points`` places spread over the run, each once without and some times with unsynced parts."""
    run = [step for step in happened if not step.path.endswith(("-shm", "bus.lock", ".probe"))]
    interesting = [n for n, step in enumerate(run) if step.what in ("synced", "answer", "rename", "link", "unlink")]
    chosen = set(interesting[:: max(1, len(interesting) // points)]) | {interesting[-1]}
    acked: list[str] = []
    found: list[str] = []
    for number, step in enumerate(run):
        disk.take(step)
        if match := _ACK.search(step.data) if step.what == "answer" else None:
            acked.append(match[1].decode())
        if number not in chosen:
            continue
        for subset in range(sized(2, 4)):
            target = folder / f"{number}-{subset}"
            disk.cut(target, random.Random(f"{number}/{subset}") if subset else None)
            faults = Cut(list(acked), dropped).check(target)
            found += [f"step {number}, subset {subset}: {fault}" for fault in faults[:3]]
    assert len(acked) >= 20, "the run was too short to say anything"
    return found


def kinds(faults: Iterable[str]) -> Counter[str]:
    """How often each kind of fault was found, without ids and numbers."""
    return Counter(_ID.sub("ID", fault.partition(": ")[2]) for fault in faults)


def test_a_power_cut_at_any_point_loses_nothing_that_was_acknowledged(make_rig: MakeRig, tmp_path: Path) -> None:
    program("strace", package="strace")
    rig = make_rig(routes=(TO_FILE, DROP), settings="bus: torture\nlimits: { blob: 4KB }\n")
    for name in ("out", "dropped"):  # a folder made by the run would be synced, and with it the names beside it
        (rig.root / name).mkdir()
    dropped = tuple(f"f{n}" for n in range(6))
    for number, id_ in enumerate(dropped):
        rig.drop(id_, pad=LARGE * (number % 2))
    disk = Disk(rig.root)
    log = tmp_path / "trace"
    rig.run_under(tracer(log))
    bus = rig.start()
    with rig.load("cut", clients=3, pad=LARGE) as load:
        load.until(lambda load: load.acked >= sized(30, 300, brief=20))
    for verb in ("pause", "resume"):
        Gateway(rig.root).post(f"/routes/torture/{verb}", {"reason": "to have something in the audit"})
    rig.drained()
    assert bus.stop() == 0  # its checkpoint is part of the run
    found = replay(disk, steps(log), dropped, tmp_path / "cuts", sized(60, 1000, brief=25))
    assert kinds(found) == {}, found[:20]
