"""Files larger than the memory that the bus takes: received, worked through and written in pieces, also over deaths."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from examples.demo.harness import Bus, until
from tests.servers.openssh import openssh
from tests.torture.crash_site import Site, site_of

MB = 1_000_000
#: What the bus may take beyond its size when it is ready, in bytes, whatever the size of the file.
ROOM = 80 * MB

#: Megabytes of a large file; `ESB_LARGE=500` makes it as large as the promise.
SIZE = int(os.environ.get("ESB_LARGE", "200"))

OVER = """
route: over
from:
  sftp: { connector: gate, path: "FILES/**/*.bin", every: 100ms, ready: { rename: true }, max_size: 1GB, format: raw }
steps: [ { to: { sftp: { connector: gate, path: "FILES/out/{{ meta.file_name | replace('.bin', '.dat') }}" } }, timeout: 5m } ]
"""
PASS = """
route: pass
from: { file: { path: "raw/*.bin", every: 100ms, ready: { rename: true }, max_size: 1GB, format: raw } }
steps: [ { to: { file: { path: "out/{{ meta.file_name }}" } } } ]
"""
ROWS = """
route: rows
from:
  file: { path: "in/*", every: 100ms, ready: { rename: true }, max_size: 1GB, format: FORMAT }
steps:
  - split:
      each: EACH
      max_items: 1000000
      steps:
        - filter: "body.n == '7' || body.n == `7` || body.reference == '7' || body.control_number == '7'"
        - to: { file: { path: "out/{{ meta.split.index }}-of-{{ meta.split.count }}.json" } }
"""


def peak(bus: Bus) -> int:
    """The most memory that the bus has had so far, in bytes."""
    status = Path(f"/proc/{bus.process.popen.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def drop(site: Site, folder: str, name: str, chunks: object) -> None:
    place = site.root / folder
    place.mkdir(exist_ok=True)
    with (place / f".{name}").open("wb") as file:
        file.writelines(chunks)  # type: ignore[arg-type]  # an iterable of bytes
    (place / f".{name}").rename(place / name)


def block_file(place: Path, name: str, blocks: int) -> bytes:
    """A file of so many megabytes that appears whole; its digest."""
    place.mkdir(exist_ok=True)
    block, digest = bytes(range(250)) * 4000, hashlib.sha256()
    with (place / f".{name}").open("wb") as file:
        for _ in range(blocks):
            file.write(block)
            digest.update(block)
    (place / f".{name}").rename(place / name)
    return digest.digest()


def filed(folder: Path, name: str) -> None:
    """Wait until the file is filed away, which its message does not wait for, and lies there alone."""
    done = folder / ".esb-done" / name
    until(lambda: list(folder.rglob(name)) == [done], within=60, what=f"{name} in its place")


def digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_a_file_of_any_size_goes_through_in_constant_memory(tmp_path: Path) -> None:
    with site_of(tmp_path, ()) as site:
        (tmp_path / "routes" / "r.yaml").write_text(PASS, encoding="utf-8")
        site.start()
        before = peak(site.bus)
        digest = block_file(tmp_path / "raw", "large.bin", SIZE)
        site.ends("pass", done=1)
        assert peak(site.bus) - before < ROOM
        assert digest_of(tmp_path / "out" / "large.bin") == digest
        filed(tmp_path / "raw", "large.bin")
        site.whole()


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_a_file_of_any_size_goes_over_sftp_in_constant_memory(tmp_path: Path) -> None:
    with openssh() as server, site_of(tmp_path, ()) as site:
        (tmp_path / "connectors").mkdir()
        (tmp_path / "connectors" / "gate.yaml").write_text(
            "connector: gate\ntype: sftp\nhost: 127.0.0.1\n"
            f"port: {server.port}\nuser: {server.user}\nkey: {server.key}\nknown_hosts: {server.known_hosts}\n",
            encoding="utf-8",
        )
        (tmp_path / "routes" / "r.yaml").write_text(OVER.replace("FILES", str(server.files)), encoding="utf-8")
        site.start()
        block_file(server.files / "small", "first.bin", 2)  # the driver and its buffers are there
        site.ends("over", done=1)
        before = peak(site.bus)
        digest = block_file(server.files / "in", "large.bin", SIZE * 3 // 5)
        site.ends("over", done=2)
        assert peak(site.bus) - before < ROOM
        assert digest_of(server.files / "out" / "large.dat") == digest
        assert not [path for path in (server.files / "out").iterdir() if path.name.endswith(".part")]
        filed(server.files / "in", "large.bin")
        site.whole()


def lines_of(kind: str, count: int) -> tuple[str, str, list[bytes]]:
    """The format, the expression of the list, and the pieces of a file of ``count`` items with something to carry."""
    weight = "x" * 2000
    match kind:
        case "csv":
            return "csv", "body", [b"n,w\n", *(f"{n % 1000},{weight}\n".encode() for n in range(count))]
        case "jsonl":
            return "jsonl", "body", [f'{{"n": {n % 1000}, "w": "{weight}"}}\n'.encode() for n in range(count)]
        case "json":
            items = ",".join(f'{{"n": {n % 1000}, "w": "{weight}"}}' for n in range(count))
            return "json", "body", [f"[{items}]".encode()]
        case "edifact" | "x12":
            return interchange(kind, count, weight)
        case _:
            rows = (f"<i><n>{n % 1000}</n><w>{weight}</w></i>".encode() for n in range(count))
            return "xml", "body.r.i", [b"<r>", *rows, b"</r>"]


def interchange(kind: str, count: int, weight: str) -> tuple[str, str, list[bytes]]:
    """The same for one interchange of ``count`` messages."""
    numbers = (n % 1000 for n in range(count))
    if kind == "edifact":
        rows = (f"UNH+{n}+ORDERS:D:96A:UN'FTX+{weight}'UNT+3+{n}'\n".encode() for n in numbers)
        head, end = b"UNB+UNOC:3+A+B+260101:1200+7'\n", f"UNZ+{count}+7'".encode()
        return kind, "body.messages", [head, *rows, end]
    isa = "ISA*00*          *00*          *ZZ*A              *ZZ*B              *260101*1200*U*00401*000000007*0*P*>~"
    rows = (f"ST*850*{n}~MSG*{weight}~SE*3*{n}~\n".encode() for n in numbers)
    head, end = f"{isa}GS*PO*A*B*20260101*1200*1*X*004010~".encode(), f"GE*{count}*1~IEA*1*000000007~".encode()
    return kind, '"body.interchanges[].groups[].transactions[]"', [head, *rows, end]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "xml", "edifact", "x12"])
def test_a_split_that_dies_between_batches_goes_on_where_it_was(tmp_path: Path, kind: str) -> None:
    format_, each, chunks = lines_of(kind, 1010)
    with site_of(tmp_path, (), "limits: { blob: 100KB }\n") as site:
        (tmp_path / "routes" / "r.yaml").write_text(
            ROWS.replace("FORMAT", format_).replace("EACH", each), encoding="utf-8"
        )
        drop(site, "in", "rows", chunks)
        site.start_to_die("split.batch=kill@4")
        site.died()
        assert [one["accepted"] for one in site.bus.json("status")] == [201]
        site.start()
        site.ends("rows", done=1011)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1007-of-1010.json", "7-of-1010.json"]
        site.whole()


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("kind", ["edifact", "x12"])
def test_an_interchange_of_any_size_is_worked_off_and_answered_in_constant_memory(tmp_path: Path, kind: str) -> None:
    count = SIZE * 5 // 2  # messages of 100 KB
    format_, each, _ = lines_of(kind, 1)
    with site_of(tmp_path, ()) as site:
        route = ROWS.replace("FORMAT", format_).replace("EACH", each)
        parts = each.strip('"').removesuffix("[]") + "[].segments"
        route += f'  - remove: ["{parts}"]\n'
        route += f"  - to: {{ file: {{ path: 'out/{{{{ meta.file_name }}}}.answer', format: {{ {kind}: {{}} }} }} }}\n"
        (tmp_path / "routes" / "r.yaml").write_text(route, encoding="utf-8")
        site.start()
        drop(site, "in", "first", interchange(kind, 40, "x" * 100_000)[2])
        site.ends("rows", done=41)
        before = peak(site.bus)
        drop(site, "in", "large", interchange(kind, count, "x" * 100_000)[2])
        site.ends("rows", done=count + 42)
        assert peak(site.bus) - before < ROOM
        answered = (tmp_path / "out" / "large.answer").read_text(encoding="utf-8")
        assert answered.count("UNH+" if kind == "edifact" else "ST*850") == count
        site.whole()


ITEMS = """
route: rows
KEY
from:
  file: { path: "in/*", every: 100ms, ready: { rename: true }, failed: { move: ../bad/, report: true }, format: csv }
steps:
  - split: { each: body, max_items: 1000000, steps: [ { filter: "body.n == '7'" } ] }
"""


def test_a_key_of_the_body_refuses_what_cannot_be_held_in_memory_and_says_what_to_write(tmp_path: Path) -> None:
    chunks = lines_of("csv", 1010)[2]
    with site_of(tmp_path, (), "limits: { blob: 100KB, in_memory: 1MB }\n") as site:
        (tmp_path / "routes" / "r.yaml").write_text(ITEMS.replace("KEY", "key: body[0].n"), encoding="utf-8")
        drop(site, "in", "rows.csv", chunks)
        site.start()
        site.ends("rows", dead=1)
        (dead,) = site.bus.json("dlq", "ls")
        assert dead["error"]["class"] == "invalid"
        assert (
            "more than can be held in memory as a whole (1000000), and `key: body[0].n` needs all of it"
            in dead["error"]["message"]
        )
        report = json.loads((tmp_path / "bad" / "rows.csv.error.json").read_text(encoding="utf-8"))
        assert "such as `meta.file_name`; a `split` may have a `key` of its own" in json.dumps(report)
        assert site.bus.stop() == 0
        (tmp_path / "routes" / "r.yaml").write_text(
            ITEMS.replace("KEY", "key: meta.file_name\ndedupe: meta.file_name\ntrack: { file: meta.file_name }"),
            encoding="utf-8",
        )
        site.start()
        drop(site, "in", "again.csv", chunks)
        site.ends("rows", dead=1, done=1011)
        assert site.bus.json("messages", "ls", "--track", "file=again.csv")
        site.whole()


def test_a_broken_file_has_no_effect_and_may_be_mended(tmp_path: Path) -> None:
    _, each, chunks = lines_of("csv", 1010)
    with site_of(tmp_path, (), "limits: { blob: 100KB }\n") as site:
        (tmp_path / "routes" / "r.yaml").write_text(
            ROWS.replace("FORMAT", "csv").replace("EACH", each), encoding="utf-8"
        )
        drop(site, "in", "rows", [*chunks, b'7,"open\n'])
        site.start()
        site.ends("rows", dead=1)
        (dead,) = site.bus.json("dlq", "ls")
        assert dead["error"]["class"] == "invalid"
        assert "line 1012: a quote is opened" in dead["error"]["message"]
        shown = site.bus.json("messages", "show", dead["id"])[0]["body"]
        assert shown["bytes"] == sum(map(len, chunks)) + 8
        site.whole()


CLAIM = PASS.replace(
    "steps: [",
    "steps: [ { set: { vars.note: '`[\"a note\", 1]`' } }, { claim: vars.note }, { claim: body }, { fetch: body },",
)


@pytest.mark.parametrize(
    "point", ["blob.written=kill@1", "blob.named=kill@1", "file.accepted=kill@1", "claim.held=kill@1"]
)
def test_a_large_file_is_taken_once_whenever_the_bus_dies(tmp_path: Path, point: str) -> None:
    route = PASS if "claim" not in point else CLAIM
    with site_of(tmp_path, (), "limits: { blob: 100KB }\n") as site:
        (tmp_path / "routes" / "r.yaml").write_text(route, encoding="utf-8")
        drop(site, "raw", "a.bin", [b"a" * MB])
        site.start_to_die(point)
        site.died()
        site.start()
        site.ends("pass", done=1)
        assert (tmp_path / "out" / "a.bin").read_bytes() == b"a" * MB
        until(
            lambda: len(blobs(tmp_path)) == (2 if "claim" in point else 1),
            within=60,
            what="its files",
            alive=lambda: None,
        )
        site.whole()


def test_a_payload_whose_message_never_came_is_removed(tmp_path: Path) -> None:
    """C8: the bus dies between a payload's file and its commit, and the sender takes back what it had put there."""
    with site_of(tmp_path, (), "limits: { blob: 100KB }\n") as site:
        (tmp_path / "routes" / "r.yaml").write_text(PASS, encoding="utf-8")
        drop(site, "raw", "a.bin", [b"a" * MB])
        site.start_to_die("blob.named=kill@1")
        site.died()
        assert len(blobs(tmp_path)) == 1
        for place in (tmp_path / "raw").rglob("a.bin"):
            place.unlink()
        site.start()
        until(lambda: not blobs(tmp_path), within=60, what="the end of the orphan", alive=lambda: None)
        assert [one["accepted"] for one in site.bus.json("status")] == [0]
        site.whole()


def test_a_disk_that_takes_no_payload_costs_a_file_a_second_look(tmp_path: Path) -> None:
    with site_of(tmp_path, (), "limits: { blob: 100KB }\n") as site:
        (tmp_path / "routes" / "r.yaml").write_text(PASS, encoding="utf-8")
        drop(site, "raw", "a.bin", [b"a" * MB])
        site.start("blob.written=error@1")
        site.ends("pass", done=1)
        assert "the payload could not be written" in site.bus.log()
        assert (tmp_path / "out" / "a.bin").read_bytes() == b"a" * MB
        assert len(blobs(tmp_path)) == 1
        site.whole()


def blobs(root: Path) -> list[str]:
    return [path.name for path in (root / ".esb" / "bus.db.blobs").rglob("*") if path.is_file()]
