"""S11, S12, S13: a drop folder into which somebody puts bad names, links and swaps, in front of a running bus."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo.harness import until
from tests.hostile.tools import Listener, Target, attacked

NAMES = [
    b"-rf.json", b"--help.json", b"a b.json", b"a\nb.json", b"a\r\nb.json", b"\x1b[31m.json", b"\x01.json", b"a\tb.json", b"CON.json", b"nul.json", b"..json", b"...json",
    b"%2e%2e%2fx.json", b"..\\x.json", b"C:\\x.json", b"$(id).json", b"`id`.json", b"{{7*7}}.json", b"${HOME}.json", b"'; drop table.json", b"<script>.json", b'a"b.json',
    "\u202egpj.json".encode(), "a\u200b.json".encode(), "\u540d\u524d.json".encode(), "e\u0301.json".encode(), "\u00e9.json".encode(), b"x" * 250 + b".json", b"*.json", b"?.json", b"[a].json", b"a;b.json", b"a|b.json",
    b"\xff.json", b"\xc3\x28.json", b"latin-\xe9.json", b"a\xed\xa0\x80.json", b"\x80.json",
]  # fmt: skip
UNDECODABLE = 5
ROUTES = """
route: dropped
from: {{ file: {{ path: in/*.json, every: 100ms, ready: {{ rename: true }} }} }}
steps:
  - to: {{ http: {{ url: "{sink}/dropped", method: POST, format: json }} }}
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, sink: Listener) -> Iterator[Target]:
    base = tmp_path_factory.mktemp("drop")
    root = base / "bus"
    (root / "in").mkdir(parents=True)
    (base / "outside.json").write_text('{"secret":"outside"}')
    with attacked(root, {"routes/a.yaml": ROUTES.format(sink=sink.url)}, "--no-watch") as found:
        yield found


def drop(folder: Path, name: bytes, content: bytes) -> None:
    place = os.fsencode(folder) + b"/"
    fresh = os.fsencode(folder.parent) + b"/fresh-%d" % threading.get_ident()
    with open(fresh, "wb") as file:
        file.write(content)
    os.rename(fresh, place + name)  # noqa: PTH104 - a Path cannot be made of every name


def arrived(sink: Listener, word: bytes) -> bool:
    return any(word in body for body in sink.bodies("/dropped"))


def test_s11_s13_bad_names_harm_nobody_and_the_rest_flows(target: Target, sink: Listener) -> None:
    folder = target.root / "in"
    before = {
        path: path.read_bytes()
        for path in target.root.parent.rglob("*")
        if path.is_file() and path.suffix in (".yaml", ".json")
    }
    for n, name in enumerate(NAMES):
        drop(folder, name, b'{"bad":%d}' % n)
    for n in range(10):
        drop(folder, b"good-%d.json" % n, b'{"good":%d}' % n)
    for n in range(10):
        until(lambda n=n: arrived(sink, b'"good":%d}' % n), within=60, what="the good files pass")
    # odd but tame names are files like others; those that are no text, or hold control characters, are told and left
    tame = [
        n
        for n, name in enumerate(NAMES)
        if name.isascii() and not name.startswith(b".") and name.decode().isprintable()
    ]
    assert len(tame) > 15
    for n in (tame[0], tame[-1]):
        until(lambda n=n: arrived(sink, b'"bad":%d}' % n), within=60, what="odd names pass, too")
    assert not any(arrived(sink, b'"bad":%d}' % n) for n in range(len(NAMES) - UNDECODABLE, len(NAMES)))
    assert {path: path.read_bytes() for path in before} == before
    assert b"\x1b" not in target.bus.process.log.read_bytes()


def test_s11_s12_links_lead_nowhere(target: Target, sink: Listener) -> None:
    folder, outside = target.root / "in", target.root.parent / "outside.json"
    (folder / "soft.json").symlink_to(outside)
    (folder / "passwd.json").symlink_to("/etc/passwd")
    (folder / "loop.json").symlink_to(folder / "loop.json")
    os.mkfifo(folder / "pipe.json")
    (folder / "dir.json").mkdir()
    drop(folder, b"after-links.json", b'{"after":"links"}')
    until(lambda: arrived(sink, b"links"), within=60, what="a normal file passes")
    assert not arrived(sink, b"outside")
    assert not arrived(sink, b"root:")


def test_s12_a_swapper_at_work_gets_nothing_from_outside(target: Target, sink: Listener) -> None:
    folder, outside = target.root / "in", target.root.parent / "outside.json"
    stop = threading.Event()

    def swap() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            name, link = folder / f"swap-{n % 20}.json", folder.parent / "link"
            with contextlib.suppress(OSError):
                drop(folder, name.name.encode(), b'{"swap":%d}' % n)
                link.unlink(missing_ok=True)
                link.symlink_to(outside)
                link.rename(name)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for n in range(10):
            drop(folder.parent / "in", b"beside-%d.json" % n, b'{"beside":%d}' % n)
            until(lambda n=n: arrived(sink, b'"beside":%d}' % n), within=60, what="others pass meanwhile")
    finally:
        stop.set()
        thread.join()
    assert not arrived(sink, b"outside")
    for path in folder.glob("swap-*"):
        path.unlink()
    assert outside.read_text() == '{"secret":"outside"}'
