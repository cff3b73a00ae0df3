"""A bus in a folder of its own, the systems behind it, and the account of what went through; nothing in it is faked."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from examples.demo.harness import Bus, Process, until
from tests.torture.account import Seen, Verdict, judge
from tests.torture.load import Ledger, Load
from tests.torture.tier import rounds

#: One key, one dedupe, a filter, and two sinks: one that honours the delivery id, one whose file names carry it. However long
#: a test keeps a sink down, on whatever machine, no message dies of it.
ROUTE = """
route: torture
key: body.lot
dedupe: body.id
track: { lot: body.lot }
from: { http: { path: /torture, method: POST } }
retry: { max: 10000, backoff: 20ms..500ms }
steps:
  - filter: body.kind == 'MAJOR'
  - to: { http: { url: "${SINK_URL}/http?busy=9&mute=11&down=1", method: POST } }
    timeout: 5s
  - to: { file: { path: "out/{{ body.id }}.json", exists: unique } }
"""
#: Files that somebody drops, each of them to be found again under its name.
DROP = """
route: drop
from: { file: { path: "in/*.json", every: 200ms, ready: { rename: true } } }
retry: { max: 10000, backoff: 20ms..500ms }
steps:
  - to: { file: { path: "dropped/{{ body.id }}.json", exists: unique } }
"""
OPEN = ("queued", "running", "waiting")


class Sink:
    """:mod:`tests.torture.sink` as a process; its journal outlives it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.journal = folder / "sink.jsonl"
        command = [sys.executable, "-m", "tests.torture.sink", str(self.journal)]
        self.process = Process(command, environment=os.environ, log=folder / "sink.log")
        self.url = self.process.line("listening ", within=30).split()[1]

    @property
    def seen(self) -> list[Seen]:
        """Every arrival, oldest first."""
        return [Seen(one["sink"], one["id"], one["key"], one["applied"]) for one in self.entries]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The journal as it is written; a line that is being written is none yet."""
        whole, _, _ = self.journal.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def seen_at(self, sink: str) -> list[Seen]:
        """What came under one path."""
        return [one for one in self.seen if one.sink == sink]

    def close(self, *, down: bool) -> None:
        """Refuse everything on paths with ``?down=1``, or stop refusing."""
        mark = self.journal.with_suffix(".down")
        mark.touch() if down else mark.unlink(missing_ok=True)


class Rig:
    """One workspace with one bus. ``ledger`` and the sinks remember over all its lives."""

    def __init__(self, folder: Path, *, routes: Iterable[str] = (ROUTE,), settings: str = "bus: torture\n") -> None:
        self.folder = folder
        self.root = folder / "workspace"
        (self.root / "routes").mkdir(parents=True)
        (self.root / "esb.yaml").write_text(settings, encoding="utf-8")
        for number, text in enumerate(routes):
            (self.root / "routes" / f"r{number}.yaml").write_text(text, encoding="utf-8")
        self.sink = Sink(folder / "sink")
        self.environment = {"SINK_URL": self.sink.url, "PYTHONDONTWRITEBYTECODE": "1"}
        self.bus = Bus(self.root, environment=self.environment, options=("--no-watch",))
        self.ledger = Ledger()
        self.dropped = Ledger()

    def start(self) -> Bus:
        """Start the bus, or start it again. Raises TooLate with the end of its log."""
        return self.bus.start()

    def run_under(self, words: Iterable[str], **environment: str) -> None:
        """From the next start on, have the bus run by another program, or with more in its environment."""
        more = {**self.environment, **environment}
        self.bus = Bus(self.root, environment=more, options=("--no-watch",), under=words)

    def load(self, name: str, path: str = "/torture", **options: Any) -> Load:
        """Clients of the route `torture` (or of another ``path``); what got no answer so far is sent again first, and some of what did."""
        sent = self.ledger.sent if path == "/torture" else []
        again = (*(one.id for one in sent if not one.acked), *[one.id for one in sent if one.acked and one.wanted][-5:])
        return Load(self.bus.http + path, self.ledger, name=name, again=again, **options)

    def drop(self, id_: str, *, pad: int = 0) -> None:
        """Put a whole file where the route `drop` takes it, larger by ``pad`` characters; that it lies there is its acknowledgement."""
        folder = self.root / "in"
        folder.mkdir(exist_ok=True)
        self.dropped.sending(id_)
        fresh = folder / f"{id_}.tmp"
        fresh.write_text(json.dumps({"id": id_, "pad": "x" * pad}), encoding="utf-8")
        fresh.rename(folder / f"{id_}.json")
        self.dropped.acked(id_)

    # -- what may be said about it --------------------------------------------------------------------------------------
    def open_messages(self) -> int:
        return sum(item["states"][state] for item in self.bus.status().values() for state in OPEN)

    def untaken(self) -> list[Path]:
        """Files that the route `drop` has not accepted yet; where they lie, they are not lost, it may rest after a refusal."""
        places = (self.root / "in", self.root / "in" / ".esb-claim")
        return [path for place in places if place.is_dir() for path in place.glob("*.json")]

    def drained(self, *, within: float = 60.0) -> None:
        """Wait until every file is taken and nothing is open any more; the bus must live and get there by itself."""
        # in this order: a file leaves its place only after its message is there
        until(lambda: not self.untaken() and not self.open_messages(), within=within, what="the drain")

    def files(self, folder: str) -> list[Seen]:
        """What a file sink made with ``exists: unique``: the name is ``ID.MARK.json``, the mark made of the delivery id."""
        place = self.root / folder
        names = [path.name for path in place.iterdir() if not path.name.startswith(".")] if place.is_dir() else []
        return [Seen(folder, *name.removesuffix(".json").rsplit(".", 1)) for name in names]

    def verdict(self, without: Iterable[str] = ()) -> Verdict:
        """The account of the route `torture` at both of its sinks; ``without`` are ids that went to other routes."""
        left_out = set(without)
        sent = [one for one in self.ledger.sent if one.id not in left_out]
        return judge(sent, [*self.sink.seen, *self.files("out")], ("http", "out"))

    def verdict_of_files(self) -> Verdict:
        """The account of the route `drop`."""
        return judge(self.dropped.sent, self.files("dropped"), ("dropped",))

    def conserved(self) -> list[str]:
        """Routes whose counts do not add up, asked of the running bus."""
        return [
            f"{name}: accepted {item['accepted']}, states {item['states']}, purged {item['purged']}"
            for name, item in self.bus.status().items()
            if item["accepted"] != sum(item["states"].values()) + item["purged"]
        ]

    def killed(self, kills: int) -> int:
        """Kill the bus that often, each time at another moment under load, and start it again; gives how often it was.

        ``ESB_TORTURE_SEED`` draws the moments.
        """
        done = 0
        seed = os.environ.get("ESB_TORTURE_SEED", "4711")
        chance = random.Random(seed)
        for round_ in rounds(kills):
            bus = self.start()
            for number in range(5):
                self.drop(f"f{round_}-{number}")
            with self.load(f"s{seed}r{round_}") as load:
                enough = chance.randrange(1, 150)
                load.until(lambda load, enough=enough: load.acked >= enough)  # type: ignore[misc]  # a default binds it
                bus.kill()
            done += 1
        self.start()
        return done

    def whole(self) -> None:
        """Nothing is lost or doubled, the bus still works, and it ends in peace; asserts all of it."""
        self.drained(within=120)
        self.faultless()
        with self.load("after") as load:
            load.until(lambda load: load.acked >= 20)
        self.drained()
        self.faultless()
        self.settled()

    def faultless(self) -> None:
        """Asserts that both accounts and the counts are right; says what is not, since :mod:`tests.torture.planted` reads it."""
        faults = self.verdict().faults + self.verdict_of_files().faults + self.conserved()
        assert not faults, "\n".join(faults)

    def settled(self) -> None:
        """Stop the bus in peace and have its store verified: file, conservation, audit chain."""
        code = self.bus.stop()
        assert code == 0, f"exit code {code}\n{self.bus.log()[-3000:]}"
        for words in (("db", "verify"), ("audit", "verify")):
            done = self.bus.run(*words)
            assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in self.bus.log()

    def close(self) -> None:
        """End what still runs."""
        self.bus.kill()
        self.sink.process.kill()
