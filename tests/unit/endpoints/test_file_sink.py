"""The file sink: where it writes, what it writes, and what it answers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from esb.endpoints.file import FileSink
from esb.errors import InternalFault, Invalid, MessageError, Rejected, Timeout, Unavailable
from esb.formats.json import Json
from esb.language import Expression, TextTemplate
from esb.message import Message
from esb.steps.base import Reply

Template = Callable[[str], TextTemplate]
Send = Callable[..., Reply]


@pytest.fixture
def send(bench: Any, template: Template) -> Send:
    def run(path: str, body: Any = None, *, meta: Any = None, delivery: Any = None, **options: Any) -> Reply:
        message = Message({} if body is None else body, meta=meta or {})
        sink = FileSink(path=template(path), **options)
        return asyncio.run(sink.send(message, bench.delivery(message, **(delivery or {})), None))

    return run


def tree(bench: Any) -> dict[str, str]:
    root = bench.workspace
    return {p.relative_to(root).as_posix(): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}


# -- what is written --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content"),
    [
        ({"qty": Decimal("12.10"), "lot": "0012"}, b'{"qty":12.10,"lot":"0012"}'),
        ([1, None], b"[1,null]"),
        ("plain \u00e9", "plain \u00e9".encode()),
        (b"\x00\xff", b"\x00\xff"),
        (Decimal("1.50"), b"1.50"),
    ],
)
def test_without_a_format_text_and_bytes_are_kept_and_the_rest_is_json(
    bench: Any, send: Send, body: Any, content: bytes
) -> None:
    reply = send("out/a", body)
    assert (bench.workspace / "out/a").read_bytes() == content
    assert reply.status is None
    assert reply.body == {"path": "out/a", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_a_format_writes_the_body(bench: Any, send: Send) -> None:
    send("out/a", "text", format=Json())
    assert tree(bench) == {"out/a": '"text"'}


def test_a_part_of_the_message_can_be_written(
    bench: Any, template: Template, expression: Callable[[str], Expression]
) -> None:
    message = Message({"document": "inner"})
    sink = FileSink(path=template("out/a"), body=expression("body.document"))
    asyncio.run(sink.send(message, bench.delivery(message), None))
    assert tree(bench) == {"out/a": "inner"}


def test_a_body_that_cannot_be_written_is_invalid(bench: Any, send: Send) -> None:
    with pytest.raises(Invalid):
        send("out/a", "\ud800")
    with pytest.raises(Invalid):
        send("out/a", {"x": object()})
    assert tree(bench) == {}


# -- where it is written ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "written"),
    [
        ("out/{{ body.id }}.json", {"id": "4711"}, "out/4711.json"),
        ("out/{{ body.id }}.json", {"id": "4500/10"}, "out/4500_10.json"),
        ("out/{{ body.id }}.json", {"id": 7}, "out/7.json"),
        ("out/{{ body.plant }}/{{ body.id }}.json", {"plant": "P10", "id": "a:b"}, "out/P10/a_b.json"),
        ("out/{{ body.at | date_format('%Y/%m') }}/x", {"at": "2026-11-24T10:00:00"}, "out/2026/11/x"),
        ("out/{{ body.day | date_parse('%d/%m/%Y') | date_format('%Y-%m') }}", {"day": "24/11/2026"}, "out/2026-11"),
        ("out/{{ body.a ~ '/' ~ body.b }}", {"a": "x/y", "b": "z"}, "out/x_y/z"),
        ("out/{% if body.a %}{{ body.a }}{% endif %}/x", {"a": "p/q"}, "out/p_q/x"),
        ("out/{{ body.list[0] }}", {"list": ["../up"]}, "out/_._up"),
        ("out/.staged/{{ body.id }}", {"id": "1"}, "out/.staged/1"),
        ("out/{{ meta.delivery_id }}", {}, "out/0d3b7a52-0000-8000-8000-00000000c0de"),
        ("a.txt", {}, "a.txt"),
    ],
)
def test_values_fill_parts_of_names_only(bench: Any, send: Send, path: str, body: Any, written: str) -> None:
    assert send(path, body).body["path"] == written
    assert list(tree(bench)) == [written]


def test_a_value_with_a_separator_that_the_template_itself_needs_is_refused(send: Send) -> None:
    with pytest.raises(Rejected, match="separator") as caught:
        send("out/{{ body.day | date_parse('%d/%m/%Y') | date_format('%Y/%m') }}", {"day": "24/11/2026"})
    assert "set" in caught.value.hint


@pytest.mark.parametrize("path", ["out/{{ body.id }}/x.json", "{{ body.id }}/x.json", "out/{{ body.id }}"])
def test_an_empty_part_is_refused(bench: Any, send: Send, path: str) -> None:
    with pytest.raises(Rejected, match="empty"):
        send(path, {"id": ""})
    assert tree(bench) == {}


def test_a_missing_value_is_a_fault_of_the_route(send: Send) -> None:
    with pytest.raises(InternalFault, match="nothing"):
        send("out/{{ body.nothing }}", {})


def test_the_site_may_name_a_folder_anywhere(bench: Any, send: Send, tmp_path: Path) -> None:
    site = {"outbox": str(tmp_path / "mount" / "p10")}
    reply = send("{{ site.outbox }}/{{ body.id }}.txt", {"id": "../1"}, delivery={"site": site})
    assert reply.body["path"] == f"{tmp_path}/mount/p10/_._1.txt"
    assert (tmp_path / "mount/p10/_._1.txt").exists()


def test_a_long_name_is_cut_and_stays_its_own(bench: Any, send: Send) -> None:
    first = send("out/{{ body.n }}.json", {"n": "x" * 300}).body["path"]
    second = send("out/{{ body.n }}.json", {"n": "x" * 299 + "y"}).body["path"]
    assert first != second
    for path in (first, second):
        name = path.removeprefix("out/")
        assert len(name.encode()) == 255
        assert name.endswith(".json")


@pytest.mark.parametrize("path", ["routes/x.yaml", ".esb/bus.db", "esb.yaml", "Routes/x.yaml", "schemas/new/x.json"])
def test_the_files_of_the_bus_are_refused_at_run_time_too(bench: Any, send: Send, path: str) -> None:
    for start in ("", f"{bench.workspace}/"):
        with pytest.raises(Rejected, match="bus itself"):
            send(start + path, {}, exists="replace")
    assert tree(bench) == {}
    assert list(bench.workspace.iterdir()) == []


# -- a name that is taken ---------------------------------------------------------------------------------------------------


def test_fail_keeps_what_is_there(bench: Any, send: Send) -> None:
    send("out/a", "one")
    with pytest.raises(Rejected, match="exists already") as caught:
        send("out/a", "two")
    assert "replace" in caught.value.hint
    assert caught.value.reply is not None
    assert caught.value.reply["body"] == {"path": "out/a", "conflict": True}
    assert tree(bench) == {"out/a": "one"}


def test_fail_is_done_where_the_same_content_stands(send: Send) -> None:
    assert send("out/a", "one") == send("out/a", "one")


def test_replace_takes_the_place_in_one_step(bench: Any, send: Send) -> None:
    send("out/a", "one", exists="replace")
    reader = os.open(bench.workspace / "out/a", os.O_RDONLY)
    send("out/a", "two", exists="replace")
    assert os.read(reader, 10) == b"one"  # who had it open still reads the old file whole
    os.close(reader)
    assert tree(bench) == {"out/a": "two"}


def test_append_adds_lines(bench: Any, send: Send) -> None:
    for body in ({"a": 1}, {"a": 2}, "text\n"):
        send("out/log", body, exists="append")
    assert tree(bench) == {"out/log": '{"a":1}\n{"a":2}\ntext\n'}


def test_append_leaves_the_file_as_it_was_where_the_disk_is_full(
    bench: Any, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    send("out/log", "first", exists="append")
    write = os.write

    def half(fd: int, data: Any) -> int:
        if len(data) < 4:
            raise OSError(28, "No space left on device")
        return write(fd, data[:-3])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(Unavailable):
            send("out/log", "second", exists="append")
    assert tree(bench) == {"out/log": "first\n"}


def test_unique_puts_the_delivery_into_the_name(bench: Any, send: Send) -> None:
    send("out/a.json", "same", exists="unique")
    send("out/a.json", "same", exists="unique", delivery={"id": "ffffffff-ffff-8000-8000-000000000000"})
    assert list(tree(bench)) == ["out/a.0d3b7a520000.json", "out/a.ffffffffffff.json"]


# -- folders and faults -------------------------------------------------------------------------------------------------------


def test_folders_are_made_unless_told_otherwise(bench: Any, send: Send) -> None:
    with pytest.raises(Unavailable, match="does not exist"):
        send("out/a", "x", mkdirs=False)
    (bench.workspace / "out").mkdir()
    with pytest.raises(Rejected, match="no folder") as caught:
        send("out/{{ body.p }}/a", {"p": "P10"}, mkdirs=False)
    assert "mkdirs" in caught.value.hint
    send("out/a", "x", mkdirs=False)
    send("out/{{ body.p }}/a", {"p": "P10"})
    assert list(tree(bench)) == ["out/P10/a", "out/a"]


def test_a_folder_in_place_of_the_file_is_refused(bench: Any, send: Send) -> None:
    (bench.workspace / "out/a").mkdir(parents=True)
    for exists in ("fail", "replace", "append"):
        with pytest.raises(Rejected):
            send("out/a", "x", exists=exists)
    assert list(tree(bench)) == []


def test_a_file_in_place_of_the_folder_is_refused(bench: Any, send: Send) -> None:
    (bench.workspace / "out").write_text("file")
    with pytest.raises(Rejected):
        send("out/a", "x")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (13, Rejected),
        (28, Unavailable),
        (122, Unavailable),
        (5, Unavailable),
        (30, Unavailable),
        (116, Unavailable),
        (36, Rejected),
    ],
)
def test_a_fault_of_the_system_gets_its_class(
    bench: Any, send: Send, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[MessageError]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", fails)
    with pytest.raises(kind) as caught:
        send("out/a", "x")
    monkeypatch.undo()
    assert "out/a" in caught.value.message
    assert caught.value.hint
    assert tree(bench) == {}


def test_a_share_that_hangs_is_a_timeout_and_its_late_thread_changes_nothing(
    bench: Any, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, stands, hangs = os.fsync, threading.Event(), threading.Event()
    (bench.workspace / "out").mkdir()

    def slow(fd: int) -> None:
        stands.set()
        hangs.wait()
        fsync(fd)

    async def scenario() -> None:
        message = Message("old")
        sink = FileSink(path=template("out/a"), exists="replace")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", slow)
            while not stands.is_set():  # on a busy machine the time may be over before the thread gets there
                with pytest.raises(Timeout, match="longer than"):
                    await sink.send(message, bench.delivery(message, timeout=0.05), None)
        newer = Message("new")
        await sink.send(newer, bench.delivery(newer, attempt=2, again=True), None)
        hangs.set()
        await bench.until(lambda: not any(t.name == "esb-file" for t in threading.enumerate()))

    asyncio.run(scenario())
    assert tree(bench) == {"out/a": "new"}


def test_what_an_earlier_attempt_left_is_removed(bench: Any, send: Send) -> None:
    (bench.workspace / "out").mkdir()
    left = bench.workspace / "out/.a.0d3b7a52-0000-8000-8000-00000000c0de.1.part"
    left.write_text("half")
    send("out/a", "whole", delivery={"attempt": 3, "again": True})
    assert tree(bench) == {"out/a": "whole"}
