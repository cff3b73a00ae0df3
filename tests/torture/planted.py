"""Bugs that these tests must find: each is planted in a copy of the source tree, and the attack that must find it is run there.

``python -m tests.torture.planted [NAME …]`` plants all of them, or those named; it fails where one stays unnoticed, where
a patch no longer fits the source, or where the attack fails without a bug. A bug in a new part of the program is one more
:class:`Planted` in :data:`PLANTED`: the lines it changes, and the test whose failure must say so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What a copy needs to run the attacks.
PARTS = (
    "esb", "examples", "tests/contracts", "tests/endpoints", "tests/runtime", "tests/servers", "tests/torture", "pyproject.toml",
)  # fmt: skip
POWER_CUT = "tests/torture/test_power_cut.py"
KILL_LOOP = "tests/torture/test_kill_loop.py"
BROKER = "tests/endpoints/test_amqp_broker.py"
FOLDERS = "tests/contracts/test_folder_contracts.py"


@dataclass(frozen=True, slots=True)
class Planted:
    """``old`` must stand exactly once in ``path``; ``test`` must then fail with words that match ``says``."""

    name: str
    what: str
    path: str
    old: str
    new: str
    test: str
    says: str

    def plant(self, tree: Path) -> None:
        """Change the copy. Raises AssertionError where the source has moved on."""
        place = tree / self.path
        text = place.read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.name}: {self.path} holds {text.count(self.old)} times\n{self.old}"
        place.write_text(text.replace(self.old, self.new), encoding="utf-8")


PLANTED = (
    Planted(
        "M1", "the yes goes out before the commit", "esb/runtime/intake.py",
        "            runner.direct.accept(birth, partial(self._stored, birth, told, blob))\n"
        "        except BaseException:\n"
        "            release_all(spool, [blob] if blob is not None else [])\n"
        "            raise\n"
        "        if mine is not None:\n"
        "            _pass_on(mine, taken=True)\n"
        "        accepted = await told\n",
        "            asyncio.get_running_loop().call_later(0.05, lambda: runner.bench.store.accept_then("
        "birth.new, partial(self._stored, birth, told, blob)))\n"
        "        except BaseException:\n"
        "            raise\n"
        "        accepted = Accepted(0, birth.new.envelope.id, State.QUEUED)\n",
        POWER_CUT, r"lost ID|ID were acknowledged",
    ),
    Planted(
        "M2-off", "commits are not synced at all", "esb/store/files.py",
        '"synchronous = FULL",', '"synchronous = OFF",', POWER_CUT, r"lost ID|cannot be opened",
    ),
    Planted(
        "M2-normal", "commits are synced at checkpoints only", "esb/store/files.py",
        '"synchronous = FULL",', '"synchronous = NORMAL",', POWER_CUT, r"lost ID",
    ),
    Planted(
        "M3", "folders are not synced after a name was given", "esb/endpoints/folders.py",
        "        if self._fd is not None:\n            with suppress(OSError):\n                os.fsync(self._fd)\n",
        "        return\n",
        POWER_CUT, r"is done, but its file|vanished|neither taken",
    ),
    Planted(
        "M4", "a message counts as sent before the broker confirms it", "esb/endpoints/_amqp/publish.py",
        "        lane.channel.publish(place, properties_of(message.properties), message.body)\n",
        "        lane.channel.publish(place, properties_of(message.properties), message.body)\n"
        "        self._settle(parcel, None)\n",
        f"{BROKER}::test_a_full_queue_that_refuses_is_tried_again_until_it_has_room", "TimeoutError",
    ),
    Planted(
        "M5", "a message that no queue takes is no matter", "esb/endpoints/_amqp/publish.py",
        "mandatory=parcel.mandatory)", "mandatory=False)",
        f"{BROKER}::test_a_deleted_target_queue_makes_dead_letters_with_the_reason_and_a_missing_exchange_retries",
        "TimeoutError",
    ),
    Planted(
        "M6", "what cannot be read goes back to its queue", "esb/endpoints/_amqp/receive.py",
        "    def _stored(self, epoch: int, arrival: Arrival, incoming: Incoming, receipt: Receipt) -> None:\n",
        "    def _stored(self, epoch: int, arrival: Arrival, incoming: Incoming, receipt: Receipt) -> None:\n"
        '        if receipt.state == "dead":\n'
        "            self._live.consumer.give_back(self._subscription)\n"
        "            self._live.consumer.subscribe(self._subscription)\n            return\n",
        f"{BROKER}::test_hostile_messages_become_dead_letters_and_the_next_one_passes", "TimeoutError",
    ),
    Planted(
        "M7", "known keys are remembered in memory only", "esb/store/accept.py",
        "    if writer.cursor.rowcount == 1:\n        return True\n    if key.space",
        "    known = globals().setdefault('KNOWN', set())\n    if (key.space, key.key) not in known:\n"
        "        known.add((key.space, key.key))\n        return True\n    if key.space",
        KILL_LOOP, r"split \d+|doubled \d+",
    ),
    Planted(
        "M10", "a file is filed away before its message is committed", "esb/endpoints/file_source.py",
        "            receipt = await self._accept(self._incoming(taken))\n",
        "            await self._desk.done(taken, self._scope(self._meta(taken.meta(), 'none')))\n"
        "            receipt = await self._accept(self._incoming(taken))\n",
        FOLDERS, "test_acknowledges_only_what_is_committed|test_a_crash_before_the_commit_loses_nothing",
    ),
    Planted(
        "M11", "every attempt has a delivery id of its own", "esb/runtime/sending.py",
        "delivery_id(run.envelope.origin, (step or run.step) + generation(run.ledger, run.step)),",
        'delivery_id(run.envelope.origin, f"{step or run.step}#{run.entry.attempts}"),',
        KILL_LOOP, r"split \d+|doubled \d+",
    ),
    Planted(
        "M13", "a filter is there but never asked", "esb/steps/filter.py",
        "        if self.when.truth(context.scope(message)):\n", "        if self.when.text:\n",
        KILL_LOOP, r"leaked \d+",
    ),
    Planted(
        "M14-file", "a payload file is not synced before the commit that names it", "esb/store/blobs.py",
        "            os.fsync(self._file)\n            os.close(self._file)\n", "            os.close(self._file)\n",
        POWER_CUT, r"the payload file ID is (missing|damaged)",
    ),
    Planted(
        "M14-folder", "the folder of a payload file is not synced", "esb/store/blobs.py",
        "            files.sync_folder(blob.file.parent)  # also", "            pass  # also",
        POWER_CUT, r"the payload file ID is missing",
    ),
)  # fmt: skip


def copy(tree: Path) -> Path:
    """A copy of the parts that a bug is planted in."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / part, tree / part)
    return tree


def attack(tree: Path, test: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one attack, in brief, against the program of a tree."""
    command = [sys.executable, "-m", "pytest", test, "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [f"--basetemp={folder}"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "ESB_TORTURE": "brief", "COLUMNS": "200"}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=540, check=False
    )  # fmt: skip


def found(bug: Planted, folder: Path) -> str:
    """Plant a bug and attack it; empty where it was found, else what came of it."""
    bug.plant(copy(folder / "tree"))
    done = attack(folder / "tree", bug.test, folder / "temp")
    if done.returncode == 1 and re.search(bug.says, done.stdout):
        return ""
    return f"{bug.name} ({bug.what}) was not found by {bug.test}: exit {done.returncode}\n{done.stdout[-3000:]}"


def main(names: list[str]) -> int:
    wanted = [bug for bug in PLANTED if not names or bug.name in names]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="esb-planted-") as place:
        clean = copy(Path(place) / "clean")
        for test in sorted({bug.test for bug in wanted}):
            done = attack(clean, test, Path(place) / "temp")
            assert done.returncode == 0, f"{test} fails without a planted bug:\n{done.stdout[-3000:]}"
            print(f"{'-':10} nothing planted: {test} passes")
        for bug in wanted:
            complaint = found(bug, Path(place) / bug.name)
            missed += bool(complaint)
            print(complaint or f"{bug.name:10} found by {bug.test}: {bug.what}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
