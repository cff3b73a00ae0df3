"""Hostile names and swapped files: nothing leaves its folder, and the rest flows on.

Every case also checks that what lies outside of the folder is as it was, and that a normal file or message passes after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pytest

from esb.clock import ManualClock
from esb.endpoints.base import Delivery, Incoming, Receipt, SourceContext
from esb.endpoints.file import FileSink, FileSource
from esb.endpoints.file_options import Done, Ready
from esb.endpoints.file_source import FilePoller
from esb.errors import MessageError, Rejected
from esb.formats.json import Json
from esb.language import TextTemplate
from esb.message import Message

NAMES = [
    "../x", "../../x", "../../../../../../etc/passwd", "..", ".", "...", ".. ", " ..", "..\\x", "..\\..\\x", "/etc/passwd",
    "//etc/passwd", "///x", "/", "//", "\\", "\\\\server\\share\\x", "C:\\x", "C:/x", "C:x", "file:///etc/passwd", "~/x", "~root",
    "a/../../x", "a/./b", "a//b", "./x", "x/", "x/..", "x\x00", "\x00", "x\x00.json", "\n", "a\nb", "a\r\nb", "\t", "a\x1b[31mb",
    "\x7f", "\u202egpj.exe", "a\u200bb", "\ufeffx", "a b", "CON", "con", "con.txt", "PRN", "AUX", "NUL", "nul.json",
    "COM1", "LPT9.txt", "COM¹", "CONIN$", "-rf", "--help", "-", ".htaccess", ".esb", ".git/config", "x.", "x ", "x. .",
    "%2e%2e%2f", "%2e%2e/%2e%2e/x", "..%2fx", "..%c0%afx", "x:y", "x::$DATA", "a*b", "a?b", 'a"b', "a<b>c|d", "$(id)", "`id`", "a;b",
    "a&b", "x" * 255, "x" * 300, "é" * 200, "😀" * 80, "x" * 250 + ".json", "名前", "a'b", "{{ 7*7 }}", "${HOME}", "CLOCK$", "\u2215etc\u2215passwd",
    "\uff0e\uff0e\uff0fx", "esb.yaml", "x.part", "",
]  # fmt: skip
UNDECODABLE = [b"\xff.json", b"\xc3\x28.json", b"a\xed\xa0\x80.json", b"latin-\xe9.json", b"\x80"]


def template(text: str) -> TextTemplate:
    compiled = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text)

    def evaluate(scope: Mapping[str, Any]) -> str:
        return compiled.render(**scope)

    return TextTemplate(text, evaluate, constant="{{" not in text)


class Ground:
    """A workspace among other files that must stay as they are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = root / "bus"
        self.clock = ManualClock()
        self.accepted: list[Incoming] = []
        for path in (
            "x",
            "etc/passwd",
            "bus/x",
            "bus/esb.yaml",
            "bus/.esb/bus.db",
            "bus/routes/a.yaml",
            "bus/out/keep",
        ):
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(path)
        (self.workspace / "in").mkdir()
        self.before = self.outside()

    def outside(self) -> dict[str, bytes]:
        """Everything but the folders that the endpoints may use."""
        mine = (self.workspace / "out" / "to", self.workspace / "in")
        found = {}
        for folder, _, files in os.walk(os.fsencode(self.root)):
            for name in files:
                path = folder + b"/" + name
                if not any(path.startswith(os.fsencode(place) + b"/") for place in mine):
                    found[os.fsdecode(path)] = Path(os.fsdecode(path)).read_bytes()
        return found

    def written(self) -> list[str]:
        to = self.workspace / "out" / "to"
        return sorted(path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file())

    def send(self, path: str, body: Any, **options: Any) -> None:
        message = Message(body)
        delivery = Delivery(
            id="0d3b7a52-0000-8000-8000-00000000c0de",
            attempt=1,
            timeout=30.0,
            scope=message.scope(),
            clock=self.clock,
            workspace=self.workspace,
        )
        asyncio.run(FileSink(path=template(path), **options).send(message, delivery, None))

    def poller(self, path: str = "in/*", **options: Any) -> FilePoller:
        source = FileSource(path=template(path), **{"ready": Ready(rename=True), "format": Json(), **options})
        context = SourceContext(
            route="r",
            intake=self,  # type: ignore[arg-type]  # a double, or none
            clock=self.clock,
            workspace=self.workspace,
            state=None,  # type: ignore[arg-type]  # a double, or none
            ingress=None,  # type: ignore[arg-type]  # a double, or none
            log=lambda level, event, **fields: None,
        )
        return source.bind(context)

    open = True

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        return False

    async def accept(self, incoming: Incoming) -> Receipt:
        self.accepted.append(incoming)
        return Receipt("m", "m", "queued")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def is_tame(name: str) -> bool:
    """A name that every system can hold and no tool misreads."""
    return (
        0 < len(name.encode()) <= 255
        and name.isprintable()
        and not set(name) & set('<>:"|?*\\/')
        and name[0] not in "-~. "
        and name[-1] not in ". "
        and name.split(".", maxsplit=1)[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt9")
    )


# -- the sink: names made of values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["out/to/{{ body.name }}", "out/to/{{ body.name }}.json", "out/to/{{ body.name }}/f.json"]
)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_value_stays_one_tame_part_of_the_path(ground: Ground, path: str, name: str) -> None:
    if not name.strip(" ") and ".json" not in path.replace("/f.json", ""):
        with pytest.raises(Rejected, match="empty"):
            ground.send(path, {"name": name})
    else:
        ground.send(path, {"name": name})
        (written,) = ground.written()
        parts = written.split("/")
        assert len(parts) == (2 if path.endswith("/f.json") else 1)
        assert all(is_tame(part) for part in parts)
    assert ground.outside() == ground.before
    ground.send("out/to/{{ body.name }}.json", {"name": "normal"}, exists="replace")
    assert "normal.json" in ground.written()


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_value_next_to_a_dot_or_a_computed_slash_stays_below_the_folder(ground: Ground, name: str) -> None:
    for path in (
        "out/to/.{{ body.name }}/f",
        "out/to/{{ body.name ~ '/' ~ body.name }}",
        "out/to/{% if 1 %}{{ body.name }}{% endif %}/f",
    ):
        try:
            ground.send(path, {"name": name}, exists="replace")
        except MessageError:
            continue
    assert ground.outside() == ground.before


@pytest.mark.parametrize(
    "path", ["{{ body.name }}/x.json", "{{ body.name }}.yaml", "{{ body.name }}", "./{{ body.name }}"]
)
@pytest.mark.parametrize(
    "name", ["routes", ".esb", "esb", "esb.yaml", "", "..", "/etc", "schemas", "ROUTES", "connectors"]
)
def test_the_files_of_the_bus_are_out_of_reach(ground: Ground, path: str, name: str) -> None:
    with contextlib.suppress(Rejected):
        ground.send(path, {"name": name}, exists="replace")
    after = ground.outside()
    assert {path: after.get(path) for path in ground.before} == ground.before
    new = {Path(path).relative_to(ground.workspace).parts[0] for path in after if path not in ground.before}
    assert not new & {"routes", ".esb", "schemas", "connectors", "ROUTES", "esb.yaml"}


def test_a_link_in_a_folder_made_of_values_is_not_followed(ground: Ground) -> None:
    (ground.workspace / "out/to").mkdir()
    (ground.workspace / "out/to/away").symlink_to(ground.root / "etc")
    with pytest.raises(Rejected, match="stands in the way"):
        ground.send("out/to/{{ body.name }}/passwd", {"name": "away"}, exists="replace")
    assert ground.outside() == ground.before


@pytest.mark.parametrize("exists", ["fail", "replace", "append", "unique"])
def test_a_link_in_place_of_the_file_is_not_followed(ground: Ground, exists: str) -> None:
    (ground.workspace / "out/to").mkdir()
    (ground.workspace / "out/to/f.json").symlink_to(ground.root / "etc/passwd")
    try:
        ground.send("out/to/f.json", {"a": 1}, exists=exists)
    except Rejected:
        assert exists in ("fail", "append")
    assert ground.outside() == ground.before


def test_a_pipe_in_place_of_the_file_does_not_hang(ground: Ground) -> None:
    (ground.workspace / "out/to").mkdir()
    os.mkfifo(ground.workspace / "out/to/f.json")
    for exists in ("fail", "append"):
        with pytest.raises(Rejected):
            ground.send("out/to/f.json", {"a": 1}, exists=exists)


# -- the source: names found in a folder ----------------------------------------------------------------------------------


def put_named(folder: Path, name: bytes) -> bool:
    try:
        fd = os.open(os.fsencode(folder) + b"/" + name, os.O_CREAT | os.O_WRONLY)
    except (OSError, ValueError):
        return False  # the file system cannot hold it either
    os.write(fd, b"{}")
    os.close(fd)
    return True


@pytest.mark.parametrize("name", [n.encode() for n in NAMES] + UNDECODABLE, ids=ascii)
def test_a_name_found_in_a_folder_harms_nobody(ground: Ground, name: bytes) -> None:
    folder = ground.workspace / "in"
    there = b"/" not in name and put_named(folder, name)
    (folder / "normal.json").write_text("1")
    asyncio.run(ground.poller(done=Done(move=template("done/{{ meta.file_name }}/"))).poll_once())
    assert ground.outside() == ground.before
    names = [incoming.meta["file_name"] for incoming in ground.accepted]
    assert "normal.json" in names
    if not there or name.startswith(b".") or name.endswith((b".part", b"~")):
        assert names == ["normal.json"]
        return
    shown = os.fsdecode(name)
    if shown in names:
        assert shown.isprintable()
        assert "\\" not in shown
    else:  # put aside under a tame name, with a report
        kept = sorted(path.name for path in (folder / ".esb-failed").iterdir())
        assert len(kept) == 2
        assert all(is_tame(part) for part in kept)
        assert kept[1].endswith(".error.json")


def test_many_bad_names_do_not_hold_up_the_good_ones(ground: Ground) -> None:
    folder = ground.workspace / "in"
    for number, name in enumerate(UNDECODABLE * 4):
        put_named(folder, b"%d" % number + name)
    for number in range(20):
        (folder / f"good-{number}.json").write_text(str(number))
    asyncio.run(ground.poller().poll_once())
    assert len(ground.accepted) == 20


# -- swaps between check and use ------------------------------------------------------------------------------------------


def test_a_file_that_is_swapped_for_a_link_after_the_look_is_not_read(ground: Ground) -> None:
    victim = ground.workspace / "in/a.json"
    victim.write_text("{}")
    poller = ground.poller()
    look = poller._desk.look

    async def look_then_swap(now: float) -> Any:
        found = await look(now)
        victim.unlink()
        victim.symlink_to(ground.root / "etc/passwd")
        return found

    poller._desk.look = look_then_swap  # type: ignore[method-assign]  # for this test
    asyncio.run(poller.poll_once())
    assert ground.accepted == []
    assert victim.is_symlink()
    assert ground.outside() == ground.before


def test_a_pipe_or_folder_swapped_in_does_not_hang_the_source(ground: Ground) -> None:
    for make in (os.mkfifo, os.mkdir):
        victim = ground.workspace / "in/a.json"
        victim.write_text("{}")
        poller = ground.poller()
        look = poller._desk.look

        async def look_then_swap(now: float, look: Any = look, victim: Path = victim, make: Any = make) -> Any:
            found = await look(now)
            victim.unlink()
            make(victim)
            return found

        poller._desk.look = look_then_swap  # type: ignore[method-assign]  # for this test
        asyncio.run(poller.poll_once())
        assert ground.accepted == []
        if victim.is_fifo():
            victim.unlink()


@pytest.mark.parametrize("name", [".esb-claim", ".esb-done", ".esb-failed"])
def test_a_link_in_place_of_our_own_folders_leads_nowhere(ground: Ground, name: str) -> None:
    (ground.workspace / "in/a.json").write_text("{}")
    (ground.workspace / "in" / name).symlink_to(ground.root / "etc")
    asyncio.run(ground.poller(max_size=1 if name == ".esb-failed" else 100).poll_once())
    assert ground.outside() == ground.before


def test_a_folder_swapped_for_a_link_is_not_entered(ground: Ground) -> None:
    (ground.workspace / "in/sub").mkdir()
    (ground.workspace / "in/sub/passwd").write_text("{}")
    poller = ground.poller("in/*/*")
    look = poller._desk.look

    async def look_then_swap(now: float) -> Any:
        found = await look(now)
        (ground.workspace / "in/sub").rename(ground.workspace / "in/was")
        (ground.workspace / "in/sub").symlink_to(ground.root / "etc")
        return found

    poller._desk.look = look_then_swap  # type: ignore[method-assign]  # for this test
    asyncio.run(poller.poll_once())
    assert ground.accepted == []
    assert ground.outside() == ground.before


def test_a_swapper_at_work_gets_nothing_from_outside(ground: Ground) -> None:
    """Another thread swaps file and link as fast as it can while the source polls."""
    folder, stop = ground.workspace / "in", threading.Event()
    secret = ground.root / "etc/passwd"

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            temporary = folder / ".swap"
            if turn % 2:
                temporary.symlink_to(secret)
            else:
                temporary.write_text("{}")
            temporary.replace(folder / "a.json")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        poller = ground.poller(done=Done(delete=True))
        for _ in range(300):
            asyncio.run(poller.poll_once())
    finally:
        stop.set()
        swapper.join()
    assert {incoming.payload for incoming in ground.accepted} <= {b"{}", b""}
    assert ground.outside() == ground.before
