"""The file source: which files it takes, when, in which order, and what becomes of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.endpoints.file import Done, Failed, FileSource, Ready
from esb.endpoints.file_source import FilePoller
from esb.errors import ErrorRecord, Invalid, StoreBusy, Unavailable, Violation
from esb.formats.json import Json
from esb.language import TextTemplate

Template = Callable[[str], TextTemplate]
NOW = Ready(rename=True)


class Drop:
    """A watched folder with a source over it."""

    def __init__(self, bench: Any, template: Template) -> None:
        self.bench, self.template = bench, template
        self.folder = bench.workspace / "inbox"
        self.folder.mkdir()

    def put(self, name: str, content: str | bytes = b"{}", *, at: int | None = None) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if at is not None:
            os.utime(path, (at, at))
        return path

    def source(self, path: str = "inbox/*", *, site: dict[str, Any] | None = None, **options: Any) -> FilePoller:
        given: dict[str, Any] = {"ready": NOW, "format": Json(), **options}
        source = FileSource(path=self.template(path), **given)
        return FilePoller(source, self.bench.context(site=site))

    def poll(self, source: FilePoller) -> int:
        return asyncio.run(source.poll_once())

    def tree(self) -> list[str]:
        """Every file below the workspace."""
        root = self.bench.workspace
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())

    @property
    def names(self) -> list[str]:
        return [incoming.meta["file_name"] for incoming in self.bench.intake.accepted]


@pytest.fixture
def drop(bench: Any, template: Template) -> Drop:
    return Drop(bench, template)


# -- the message ----------------------------------------------------------------------------------------------------------


def test_a_file_becomes_one_message_with_what_is_known_of_it(drop: Drop) -> None:
    drop.put("orders.json", '{"a": 1}', at=1_700_000_000)
    drop.poll(drop.source())
    (incoming,) = drop.bench.intake.accepted
    digest = hashlib.sha256(b'{"a": 1}').hexdigest()
    assert incoming.payload == b'{"a": 1}'
    assert incoming.meta == {
        "file_name": "orders.json",
        "file_path": "orders.json",
        "file_size": 8,
        "file_modified": "2023-11-14T22:13:20Z",
        "source": {"type": "file"},
    }
    assert incoming.fingerprint == digest
    assert incoming.source_key == f"file:orders.json|8|{digest}"
    assert incoming.on_invalid == "dead"
    assert isinstance(incoming.codec, Json)


def test_the_content_type_follows_the_suffix_where_no_format_is_given(drop: Drop) -> None:
    for name in ("a.json", "b.txt", "c.XYZ"):
        drop.put(name, name)
    drop.poll(drop.source(format=None))
    types = [(incoming.codec, incoming.content_type) for incoming in drop.bench.intake.accepted]
    assert types == [(None, "application/json"), (None, "text/plain"), (None, "application/octet-stream")]


def test_an_empty_file_is_a_message_too(drop: Drop) -> None:
    drop.put("empty.json", b"")
    drop.poll(drop.source())
    assert drop.bench.intake.payloads == [b""]


def test_the_contract_goes_along(drop: Drop) -> None:
    contract = object()
    drop.put("a.json")
    drop.poll(drop.source(contract=contract))
    assert drop.bench.intake.accepted[0].contract is contract


@pytest.mark.parametrize(
    ("seen_by", "key"),
    [
        (("name",), "file:a.json"),
        (("name", "size"), "file:a.json|2"),
        (("sha256",), f"file:{hashlib.sha256(b'{}').hexdigest()}"),
        (("name", "modified"), "file:a.json|2023-11-14T22:13:20Z"),
    ],
)
def test_seen_by_makes_the_identity(drop: Drop, seen_by: tuple[str, ...], key: str) -> None:
    drop.put("a.json", at=1_700_000_000)
    drop.poll(drop.source(seen_by=seen_by))
    assert drop.bench.intake.accepted[0].source_key == key


# -- which files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("inbox/*.json", ["a.json", "b.json"]),
        ("inbox/?.json", ["a.json", "b.json"]),
        ("inbox/a.json", ["a.json"]),
        ("./inbox/a.json", ["a.json"]),
        ("inbox/*", ["a.json", "b.json", "c[1].csv"]),
        ("inbox/c[1].csv", ["c[1].csv"]),
        ("inbox/*/*.json", ["sub/d.json"]),
        ("inbox/**/*.json", ["a.json", "b.json", "sub/d.json", "sub/deep/e.json"]),
        ("inbox/**", ["a.json", "b.json", "c[1].csv", "sub/d.json", "sub/deep/e.json"]),
        ("inbox/s*/**/*.json", ["sub/d.json", "sub/deep/e.json"]),
        ("inbox/**/deep/*.json", ["sub/deep/e.json"]),
        ("inbox/*.JSON", []),
        ("nowhere/*.json", []),
    ],
)
def test_a_pattern_takes_what_it_names(drop: Drop, path: str, taken: list[str]) -> None:
    for name in ("a.json", "b.json", "c[1].csv", "sub/d.json", "sub/deep/e.json"):
        drop.put(name, name)
    drop.poll(drop.source(path))
    assert [incoming.meta["file_path"] for incoming in drop.bench.intake.accepted] == taken


def test_an_absolute_path_and_site_values_are_understood(drop: Drop) -> None:
    drop.put("P10/a.json")
    drop.poll(drop.source(f"{drop.folder}/{{{{ site.plant }}}}/*.json", site={"plant": "P10"}))
    assert drop.names == ["a.json"]


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.json",
        "a.part",
        "a.json.part",
        "a.tmp",
        "a.TMP",
        "a.json~",
        "upload.filepart",
        "x.crdownload",
        ".a.json.swp",
    ],
)
def test_hidden_and_unfinished_names_are_left_alone(drop: Drop, name: str) -> None:
    drop.put(name)
    assert drop.poll(drop.source()) == 0
    assert drop.tree() == [f"inbox/{name}"]


def test_links_pipes_and_folders_are_left_alone(drop: Drop, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("outside")
    (drop.folder / "link.json").symlink_to(secret)
    (drop.folder / "folder-link").symlink_to(tmp_path)
    (drop.folder / "dir.json").mkdir()
    os.mkfifo(drop.folder / "pipe.json")
    assert drop.poll(drop.source("inbox/**/*.json")) == 0
    assert drop.bench.intake.accepted == []


def test_a_file_with_another_hard_link_waits_and_is_told_once(drop: Drop, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    os.link(outside, drop.folder / "a.json")
    source = drop.source()
    assert drop.poll(source) == drop.poll(source) == 0
    assert [event["file"] for event in drop.bench.events("file.linked")] == ["a.json"]
    outside.unlink()
    assert drop.poll(source) == 1


def test_the_files_of_the_bus_are_never_taken(drop: Drop) -> None:
    root = drop.bench.workspace
    for folder in ("routes", "schemas", "connectors", ".esb"):
        (root / folder).mkdir()
        (root / folder / "x.json").write_text("{}")
    drop.put("a.json")
    drop.poll(drop.source("**/*.json"))
    assert drop.names == ["a.json"]


# -- when a file is complete ----------------------------------------------------------------------------------------------


def test_a_file_is_stable_after_two_equal_looks_far_enough_apart(drop: Drop) -> None:
    drop.put("a.json", "half")
    source = drop.source(ready=Ready(stable_for=timedelta(seconds=20)))
    assert drop.poll(source) == 0
    drop.bench.clock.advance(19)
    assert drop.poll(source) == 0
    drop.bench.clock.advance(1)
    assert drop.poll(source) == 1


def test_a_file_that_grows_starts_to_rest_anew(drop: Drop) -> None:
    drop.put("a.json", "half")
    source = drop.source(ready=Ready(stable_for=timedelta(seconds=20)))
    drop.poll(source)
    drop.bench.clock.advance(15)
    drop.put("a.json", "half and half")
    assert drop.poll(source) == 0
    drop.bench.clock.advance(15)
    assert drop.poll(source) == 0
    drop.bench.clock.advance(5)
    assert drop.poll(source) == 1
    assert drop.bench.intake.payloads == [b"half and half"]


def test_a_file_of_the_same_size_with_a_new_time_is_not_stable(drop: Drop) -> None:
    drop.put("a.json", "one", at=1_000)
    source = drop.source(ready=Ready(stable_for=timedelta(seconds=2)))
    drop.poll(source)
    drop.bench.clock.advance(2)
    drop.put("a.json", "two", at=2_000)
    assert drop.poll(source) == 0


def test_the_default_waits_two_seconds(drop: Drop) -> None:
    drop.put("a.json")
    source = drop.source(ready=FileSource(path=drop.template("x")).ready)
    assert drop.poll(source) == 0
    drop.bench.clock.advance(2)
    assert drop.poll(source) == 1


@pytest.mark.parametrize(
    ("marker", "name"),
    [(".done", "a.json.done"), ("_ok", "a.json_ok"), ("{stem}.ok", "a.ok"), ("ready-{name}", "ready-a.json")],
)
def test_a_marker_makes_a_file_complete_and_goes_with_it(drop: Drop, marker: str, name: str) -> None:
    drop.put("a.json")
    source = drop.source(ready=Ready(marker=marker))
    assert drop.poll(source) == 0
    drop.put(name, b"")
    assert drop.poll(source) == 1
    assert drop.names == ["a.json"]
    assert drop.tree() == ["inbox/.esb-done/a.json"]


def test_a_marker_of_two_files_stays_until_both_are_taken(drop: Drop) -> None:
    for name in ("a.csv", "a.xml", "a.ok"):
        drop.put(name)
    source = drop.source("inbox/a.*", ready=Ready(marker="{stem}.ok"), batch=1)
    drop.poll(source)
    assert "inbox/a.ok" in drop.tree()
    drop.poll(source)
    assert drop.names == ["a.csv", "a.xml"]
    assert "inbox/a.ok" not in drop.tree()


def test_a_marker_without_its_file_does_nothing(drop: Drop) -> None:
    drop.put("a.json.done", b"")
    assert drop.poll(drop.source(ready=Ready(marker=".done"))) == 0
    assert drop.tree() == ["inbox/a.json.done"]


def test_a_file_that_changes_between_look_and_claim_is_put_back(drop: Drop) -> None:
    path = drop.put("a.json", "half")
    source = drop.source()
    look = source._scanner.look

    def look_and_write(now: float) -> Any:
        found = look(now)
        path.write_text("whole file")
        return found

    source._scanner.look = look_and_write  # type: ignore[method-assign]
    drop.poll(source)
    assert drop.bench.intake.accepted == []
    assert drop.tree() == ["inbox/a.json"]


# -- order and batches ----------------------------------------------------------------------------------------------------


def test_files_are_taken_by_name_or_by_time(drop: Drop) -> None:
    drop.put("a.json", "1", at=3_000)
    drop.put("b.json", "2", at=1_000)
    drop.put("c.json", "3", at=2_000)
    drop.poll(drop.source("inbox/*", order="modified"))
    assert drop.names == ["b.json", "c.json", "a.json"]
    for name in ("z.json", "y.json"):
        drop.put(name)
    drop.poll(drop.source())
    assert drop.names[3:] == ["y.json", "z.json"]


def test_a_batch_bounds_one_poll(drop: Drop) -> None:
    for number in range(5):
        drop.put(f"{number}.json", str(number))
    source = drop.source(batch=2)
    assert [drop.poll(source) for _ in range(4)] == [2, 2, 1, 0]
    assert drop.names == [f"{number}.json" for number in range(5)]


def test_a_running_source_takes_all_batches_without_a_pause(drop: Drop) -> None:
    for number in range(7):
        drop.put(f"{number}.json", str(number))

    async def scenario() -> None:
        source = drop.source(batch=2)
        await source.start()
        await drop.bench.until(lambda: len(drop.bench.intake.accepted) == 7)  # the clock stands still: no pause fits in
        await source.stop()

    asyncio.run(scenario())


# -- what becomes of a file -------------------------------------------------------------------------------------------------


def test_by_default_a_file_moves_into_a_hidden_folder_beside_it(drop: Drop) -> None:
    drop.put("a.json")
    drop.put("sub/b.json")
    source = drop.source("inbox/**/*.json")
    drop.poll(source)
    assert drop.tree() == ["inbox/.esb-done/a.json", "inbox/sub/.esb-done/b.json"]
    assert drop.poll(source) == 0


def test_done_moves_relative_to_the_file_with_rendered_names(drop: Drop) -> None:
    drop.put("a.json")
    move = drop.template("archive/{{ meta.received_at | date_format('%Y/%m') }}/{{ site.plant }}/")
    drop.poll(drop.source(done=Done(move=move), site={"plant": "P10"}))
    assert drop.tree() == ["inbox/archive/2026/11/P10/a.json"]


@pytest.mark.parametrize("move", ["../archive/", "../archive", "{root}/archive", "{root}/archive/"])
def test_done_moves_beside_the_folder_or_anywhere_absolute(drop: Drop, move: str) -> None:
    drop.put("a.json")
    drop.poll(drop.source(done=Done(move=drop.template(move.replace("{root}", str(drop.bench.workspace))))))
    assert drop.tree() == ["archive/a.json"]


def test_done_can_delete(drop: Drop) -> None:
    drop.put("a.json")
    drop.poll(drop.source(done=Done(delete=True)))
    assert drop.tree() == []


def test_a_move_never_overwrites(drop: Drop) -> None:
    source = drop.source()
    for number in range(3):
        drop.put("a.tar.gz", str(number))
        drop.poll(source)
    kept = {name: (drop.bench.workspace / name).read_text() for name in drop.tree()}
    folder = "inbox/.esb-done"
    assert kept == {f"{folder}/a.tar.gz": "0", f"{folder}/a.tar.1.gz": "1", f"{folder}/a.tar.2.gz": "2"}


def test_a_corrected_file_of_the_same_name_is_a_new_message(drop: Drop) -> None:
    source = drop.source()
    drop.put("a.json", "wrong")
    drop.poll(source)
    drop.put("a.json", "right")
    drop.poll(source)
    assert drop.bench.intake.payloads == [b"wrong", b"right"]


def test_the_same_file_again_is_told_and_filed_away(drop: Drop) -> None:
    source = drop.source()
    for _ in range(2):
        drop.put("a.json", "same")
        drop.poll(source)
    assert drop.bench.intake.payloads == [b"same"]
    assert [event["file"] for event in drop.bench.events("file.duplicate")] == ["a.json"]
    assert drop.tree() == ["inbox/.esb-done/a.1.json", "inbox/.esb-done/a.json"]


def test_a_message_that_repeats_another_ends_like_any_other(drop: Drop) -> None:
    drop.bench.intake.state = "duplicate"
    drop.put("a.json")
    drop.poll(drop.source())
    assert drop.tree() == ["inbox/.esb-done/a.json"]


def test_a_dead_letter_moves_its_file_to_failed(drop: Drop) -> None:
    drop.bench.intake.state = "dead"
    drop.put("a.json", "no json")
    drop.poll(drop.source())
    assert drop.tree() == ["inbox/.esb-failed/a.json"]
    assert drop.bench.events("file.failed")[0]["message"] == "m1"


def test_a_report_says_what_is_wrong_with_a_dead_letter(drop: Drop) -> None:
    drop.bench.intake.state = "dead"
    drop.bench.intake.error = ErrorRecord("invalid", "2 faults", violations=(Violation("/0/qty", "=not a number"),))
    drop.put("a.json", "[]")
    drop.poll(drop.source(failed=Failed(move=drop.template("bad/"), report=True)))
    report = json.loads((drop.folder / "bad/a.json.error.json").read_text())
    assert report["file"] == "a.json"
    assert report["message_id"] == "m1"
    assert report["error"]["errors"] == [{"pointer": "/0/qty", "detail": "=not a number"}]
    drop.put("b.json", "[1]")
    drop.poll(drop.source(failed=Failed(move=drop.template("bad/"), report="errors.csv")))
    text = (drop.folder / "bad/b.json.errors.csv").read_text()
    assert text == '"pointer","detail"\n"/0/qty","\'=not a number"\n'


def test_a_file_above_max_size_is_refused_unread(drop: Drop) -> None:
    drop.put("big.json", b"x" * 101)
    drop.put("fits.json", b"x" * 100)
    drop.poll(drop.source(max_size=100))
    assert drop.names == ["fits.json"]
    assert drop.tree() == [
        "inbox/.esb-done/fits.json",
        "inbox/.esb-failed/big.json",
        "inbox/.esb-failed/big.json.error.json",
    ]
    assert "max_size 100" in drop.bench.events("file.failed")[0]["error"]


def test_a_name_that_stands_for_other_content_is_refused(drop: Drop) -> None:
    source = drop.source(seen_by=("name",))
    drop.put("a.json", "one")
    drop.poll(source)
    drop.put("a.json", "two")
    drop.poll(source)
    assert drop.bench.intake.payloads == [b"one"]
    assert "inbox/.esb-failed/a.json" in drop.tree()
    assert "seen_by" in drop.bench.events("file.failed")[0]["error"]


def test_content_that_intake_refuses_goes_to_failed(drop: Drop) -> None:
    def refuse(_: object) -> None:
        raise Invalid("not JSON")

    drop.bench.intake.before = refuse
    drop.put("a.json")
    drop.poll(drop.source())
    assert drop.tree() == ["inbox/.esb-failed/a.json", "inbox/.esb-failed/a.json.error.json"]


# -- back-pressure and trouble --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [StoreBusy("full", retry_after=timedelta(seconds=7)), Unavailable("target down")])
def test_a_busy_store_puts_the_file_back_and_rests(drop: Drop, error: Exception) -> None:
    def busy(_: object) -> None:
        raise error

    drop.put("a.json")
    drop.put("b.json", "2")
    drop.bench.intake.before = busy
    source = drop.source()
    assert drop.poll(source) == 1
    assert drop.tree() == ["inbox/a.json", "inbox/b.json"]
    drop.bench.intake.before = lambda incoming: None
    assert drop.poll(source) == 0
    drop.bench.clock.advance(7)
    assert drop.poll(source) == 2


def test_polling_rests_while_intake_is_closed(drop: Drop) -> None:
    drop.put("a.json")
    drop.bench.intake.open = False
    source = drop.source()
    assert drop.poll(source) == 0
    drop.bench.intake.open = True
    assert drop.poll(source) == 1


def test_a_queue_that_fills_stops_the_poll_between_two_files(drop: Drop) -> None:
    def close(_: object) -> None:
        drop.bench.intake.open = False

    drop.bench.intake.after = close
    for name in ("a.json", "b.json"):
        drop.put(name, name)
    assert drop.poll(drop.source()) == 1
    assert drop.tree() == ["inbox/.esb-done/a.json", "inbox/b.json"]


def test_one_bad_file_does_not_stop_the_others(drop: Drop) -> None:
    def breaks(incoming: Any) -> None:
        if incoming.meta["file_name"] == "b.json":
            raise RuntimeError("boom")

    drop.bench.intake.before = breaks
    for name in ("a.json", "b.json", "c.json"):
        drop.put(name, name)
    drop.poll(drop.source())
    assert drop.names == ["a.json", "c.json"]
    assert "inbox/b.json" in drop.tree()
    assert "boom" in drop.bench.events("file.not_accepted")[0]["error"]


def test_a_move_that_fails_is_tried_again_and_told_once(drop: Drop) -> None:
    (drop.folder / "archive").write_text("a file where a folder should be")
    drop.put("a.json")
    source = drop.source("inbox/*.json", done=Done(move=drop.template("archive/")))
    drop.poll(source)
    drop.poll(source)
    assert drop.bench.intake.payloads == [b"{}"]
    assert "inbox/.esb-claim/a.json" in drop.tree()
    assert len(drop.bench.events("file.trouble")) == 1
    (drop.folder / "archive").unlink()
    drop.poll(source)
    assert drop.tree() == ["inbox/archive/a.json"]
    assert drop.bench.events("file.duplicate") == []


def test_a_missing_folder_is_told_once_and_waited_for(drop: Drop, tmp_path: Path) -> None:
    source = drop.source(f"{tmp_path}/mount/*.json")
    assert drop.poll(source) == drop.poll(source) == 0
    assert len(drop.bench.events("file.folder_trouble")) == 1
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount/a.json").write_text("{}")
    assert drop.poll(source) == 1
    assert len(drop.bench.events("file.folder_back")) == 1


def test_starting_makes_a_folder_of_the_workspace_but_not_a_mount(drop: Drop, tmp_path: Path) -> None:
    async def scenario() -> None:
        for source in (drop.source("in/new/*.json"), drop.source(f"{tmp_path}/mount/*.json")):
            await source.start()
            await source.stop()

    asyncio.run(scenario())
    assert (drop.bench.workspace / "in/new").is_dir()
    assert not (tmp_path / "mount").exists()


def test_a_running_source_looks_again_when_the_clock_says_so(drop: Drop) -> None:
    async def scenario() -> None:
        source = drop.source(every=timedelta(seconds=30))
        await source.start()
        await drop.bench.until(lambda: drop.bench.clock._sleepers)
        drop.put("a.json")
        drop.bench.clock.advance(30)
        await drop.bench.until(lambda: drop.names)
        await source.stop()

    asyncio.run(scenario())
    assert drop.tree() == ["inbox/.esb-done/a.json"]


def test_stop_ends_the_file_in_hand_and_takes_no_other(drop: Drop) -> None:
    async def scenario() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        accept = drop.bench.intake.accept

        async def slow(incoming: Any) -> Any:
            entered.set()
            await leave.wait()
            return await accept(incoming)

        drop.bench.intake.accept = slow
        for name in ("a.json", "b.json"):
            drop.put(name, name)
        source = drop.source()
        await source.start()
        await entered.wait()
        stopping = asyncio.create_task(source.stop())
        await asyncio.sleep(0)
        leave.set()
        await stopping

    asyncio.run(scenario())
    assert drop.tree() == ["inbox/.esb-done/a.json", "inbox/b.json"]


def test_files_that_were_moved_are_not_found_by_a_deep_pattern(drop: Drop) -> None:
    drop.put("a.json")
    drop.put("sub/b.json", "2")
    source = drop.source("inbox/**/*.json", done=Done(move=drop.template("done/{{ site.x }}/")), site={"x": "y"})
    assert drop.poll(source) == 2
    assert drop.poll(source) == 0
    assert drop.tree() == ["inbox/done/y/a.json", "inbox/sub/done/y/b.json"]


def test_a_sibling_archive_is_not_found_by_a_deep_pattern(drop: Drop) -> None:
    drop.put("a/x.json")
    source = drop.source("inbox/*/*.json", done=Done(move=drop.template("../archive/")))
    assert [drop.poll(source), drop.poll(source)] == [1, 0]
    assert drop.tree() == ["inbox/archive/x.json"]
