"""The file source: which files it takes, when, in which order, and what becomes of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.endpoints.base import BadRow
from esb.endpoints.file import FileSource
from esb.endpoints.file_options import Failed, Ready
from esb.endpoints.file_source import FilePoller
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
        return source.bind(self.bench.context(site=site))

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
    look = source._desk.look

    async def look_and_write(now: float) -> Any:
        found = await look(now)
        path.write_text("whole file")
        return found

    source._desk.look = look_and_write  # type: ignore[method-assign]  # for this test
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
    move = drop.template(f"{drop.bench.workspace}/bad/{{{{ meta.message_id }}}}/")
    source = drop.source("inbox/**/*.json", failed=Failed(move=move, report="errors.csv"))
    meta = {"file_path": "sub/a.json", "file_name": "a.json", "message_id": "m7"}
    rows = [BadRow(2, "not a quantity", "/qty", "4711;=x"), BadRow(9, "no lot")]
    asyncio.run(source.report(meta, "2 rows are bad", rows))
    place = drop.bench.workspace / "bad/m7/a.json.errors.csv"
    assert place.read_text().splitlines() == [
        '"row","pointer","reason","original"',
        '"2","/qty","not a quantity","4711;=x"',
        '"9","","no lot",""',
    ]
    asyncio.run(source.report(meta, "2 rows are bad", rows))
    assert (place.parent / "a.json.errors.1.csv").exists()
