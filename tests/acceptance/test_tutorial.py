"""The tutorial, followed to the letter: every file is written and every command run, and what it says comes true."""

from __future__ import annotations

import json
import re
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from examples.demo.harness import Bus, until
from tests.acceptance.test_program import esb
from tests.servers.require import free_port

pytestmark = pytest.mark.acceptance

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"`((?:routes|schemas)/[\w.-]+)`")


@dataclass
class Reader:
    """Somebody who does what the page says, in its order."""

    root: Path
    erp_port: int
    folder: Path = field(init=False)
    buses: dict[Path, Bus] = field(default_factory=dict)
    said: list[tuple[str, str]] = field(default_factory=list)  #: command and what came of it

    def __post_init__(self) -> None:
        self.folder = self.root / "first"
        self.folder.mkdir()

    # -- files --------------------------------------------------------------------------------------------------------
    def write(self, text: str, before: str) -> None:
        """A block of the page, into the file that the words before it name last; the one of the last time without."""
        names = _NAMED.findall(before)
        if "second folder" in before:
            self.folder = self.root / "erp"
            self.folder.mkdir()
        name = names[-1] if names else "routes/inspection.yaml"
        (self.folder / name).parent.mkdir(exist_ok=True)
        bus = self.buses.get(self.folder)
        lives = bus is not None and name.startswith("routes/") and not name.endswith(".test.yaml")
        swaps = bus.log().count("reload.done") if bus is not None else 0
        fresh = self.folder / f".{Path(name).name}"
        fresh.write_text(text.replace(":9101", f":{self.erp_port}"), encoding="utf-8")
        fresh.replace(self.folder / name)
        if bus is not None and lives:  # "it is live a moment later"
            until(lambda: bus.log().count("reload.done") > swaps, within=30, what="the save goes live")

    # -- commands -----------------------------------------------------------------------------------------------------
    def run(self, block: str) -> None:
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            match words:
                case ["esb", "run", *options]:
                    ports = ["--http", f"127.0.0.1:{self.erp_port}"] if options else []
                    self.buses[self.folder] = Bus(self.folder, environment={}, options=ports).start()
                case ["esb", *rest]:
                    done = esb(*rest, cwd=self.folder, code=None)
                    self.said.append((line, done.stdout + done.stderr))
                    assert done.returncode == 0, self.said[-1]
                case ["curl", *rest]:
                    self.said.append((line, self._curl(rest)))
                case ["cat", name]:
                    place = self.folder / name
                    until(place.exists, within=30, what=f"{name} is written")
                    self.said.append((line, place.read_text(encoding="utf-8")))
                case _:
                    raise AssertionError(f"the test does not know `{line}`")

    def _curl(self, words: list[str]) -> str:
        words = [word for word in words if word != "-i"]
        assert (words[0], len(words)) == ("--json", 3), words
        url = words[2].replace("http://127.0.0.1:8080", self.buses[self.root / "first"].http)
        request = urllib.request.Request(url, words[1].encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return f"{answer.status} {answer.read().decode()}"
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()}"

    def last(self, words: str) -> str:
        return next(said for line, said in reversed(self.said) if words in line)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    one = Reader(tmp_path, free_port())
    yield one
    codes = [bus.stop() for bus in one.buses.values()]
    assert codes == [0] * len(codes)


def sections() -> dict[str, str]:
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part for part in parts}


def follow(reader: Reader, section: str, *, until_block: int = 99, from_block: int = 0) -> None:
    end = 0
    for number, found in enumerate(_BLOCK.finditer(section)):
        before, end = section[end : found.start()], found.end()
        if not from_block <= number < until_block:
            continue
        if found[1] == "sh":
            if "in the folder of the first bus" in before:
                reader.folder = reader.root / "first"
            reader.run(found[2])
        else:
            reader.write(found[2], before)


def states(reader: Reader) -> dict[str, int]:
    return dict(reader.buses[reader.root / "first"].status()["inspection"]["states"])


def test_the_tutorial_can_be_followed_to_the_letter(reader: Reader) -> None:
    page = sections()
    first, contract, decision, down, test, *_ = page.values()

    follow(reader, first)
    assert "no problems in 1 route" in reader.last("esb lint")
    assert reader.last("curl -i").startswith("202 ")
    assert "message_id" in reader.last("curl -i")
    assert json.loads(reader.last("cat"), parse_float=str) == {"id": "I-1", "lot": "0012", "qty": "12.10"}
    assert "inspection" in reader.last("esb status")

    follow(reader, contract)
    answer = reader.last("MAYBE")
    assert answer.startswith("422 ")
    assert "/result" in answer

    follow(reader, decision)
    route = reader.root / "first/routes/inspection.yaml"
    good = route.read_text(encoding="utf-8")
    route.write_text(good.replace("Status: vars.status", "Status: vars.statsu"), encoding="utf-8")
    refused = esb("lint", cwd=reader.root / "first", code=1).stdout
    assert "did you mean `vars.status`?" in refused
    bus = reader.buses[reader.root / "first"]
    until(lambda: "vars.status" in bus.log(), within=30, what="the log says where the mistake is")
    route.write_text(good, encoding="utf-8")
    esb("lint", cwd=reader.root / "first")

    follow(reader, down, until_block=1)
    assert "unavailable" in reader.last("esb trace")
    until(lambda: states(reader)["dead"] == 1, within=60, what="the retries end")
    follow(reader, down, from_block=1, until_block=2)
    assert "exhausted" in reader.last("esb dlq ls")
    assert states(reader)["held"] == 1, "the next message of the lot waits"
    follow(reader, down, from_block=2)
    until(lambda: states(reader)["done"] == 3, within=30, what="all are delivered")
    # the ERP of the tutorial is a bus, too: it says yes when it has a message, and works on it then
    out = reader.root / "erp/out"
    until(lambda: len(list(out.glob("*.json"))) == 2, within=60, what="both in the folder of the ERP")
    taken = [json.loads(one.read_text()) for one in sorted(out.glob("*.json"))]
    assert [one["Status"] for one in taken] == ["BLOCKED", "AVAILABLE"], "in their order"

    follow(reader, test)
    assert "2 passed, 0 failed" in reader.last("esb test")
