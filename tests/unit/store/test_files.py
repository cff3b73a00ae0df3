"""The files of a store: made whole or not at all, refused where they are not ours, never taken for new when they vanished."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from esb.errors import StoreBusy, StoreCorrupt, StoreError
from esb.message import State
from esb.store import files
from esb.store.base import Filter
from esb.store.codes import APPLICATION_ID, SCHEMA_VERSION


def fill(stores: Any, count: int = 1) -> None:
    async def main() -> None:
        store = await stores.open()
        await asyncio.gather(*[store.accept(stores.new(key=f"k{n}", body=b"x" * 500)) for n in range(count)])
        await store.close()

    asyncio.run(main())


def refused(stores: Any, kind: type[StoreError], match: str) -> StoreError:
    """Opening must fail, and leave the file as it is."""
    before = stores.path.read_bytes() if stores.path.exists() else None
    with pytest.raises(kind, match=match) as caught:
        asyncio.run(stores.open())
    assert (stores.path.read_bytes() if stores.path.exists() else None) == before
    assert caught.value.hint
    return caught.value


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("sqlite:///.esb/bus.db", "/ws/.esb/bus.db"),
            ("sqlite+pysqlite:///bus%20one.db", "/ws/bus one.db"),
            ("sqlite:////var/lib/esb/bus.db", "/var/lib/esb/bus.db"),
        ],
    )
    def test_a_relative_path_starts_at_the_workspace(self, url: str, path: str) -> None:
        assert files.path_of(url, Path("/ws")) == Path(path)

    @pytest.mark.parametrize(
        "url", ["bus.db", "sqlite://", "sqlite:///", "sqlite://host/x", "sqlite:///:memory:", "sqlite:///a?mode=ro"]
    )
    def test_what_is_no_file_is_refused(self, url: str) -> None:
        with pytest.raises(StoreError) as caught:
            files.path_of(url, Path("/ws"))
        assert "sqlite:///" in caught.value.hint


class TestOpening:
    def test_a_new_store_is_private_marked_and_of_this_schema(self, stores: Any) -> None:
        fill(stores)
        if os.name != "nt":
            assert stores.path.stat().st_mode & 0o777 == 0o600
            assert stores.path.parent.stat().st_mode & 0o777 == 0o700
        assert sorted(path.name for path in stores.path.parent.iterdir()) == ["bus.db", "bus.db.exists"]
        with closing(sqlite3.connect(stores.path)) as connection, connection:
            assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
            assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
            assert connection.execute("PRAGMA page_size").fetchone() == (8192,)
        connection.close()

    def test_commits_are_synced_in_full(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            assert store._writer is not None
            execute = store._writer.connection.execute
            assert execute("PRAGMA synchronous").fetchone() == (2,)
            assert execute("PRAGMA journal_mode").fetchone() == ("wal",)
            with pytest.raises(StoreBusy, match="readonly"):
                store._hot.rows("DELETE FROM meta")
            await store.close()

        asyncio.run(main())

    def test_a_file_of_a_newer_program_is_refused_untouched(self, stores: Any) -> None:
        fill(stores)
        with closing(sqlite3.connect(stores.path)) as connection, connection:
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        connection.close()
        assert "newer" in refused(stores, StoreCorrupt, "newer version").hint

    def test_a_file_of_another_program_is_refused_untouched(self, stores: Any) -> None:
        stores.path.parent.mkdir()
        with closing(sqlite3.connect(stores.path)) as connection, connection:
            connection.execute("CREATE TABLE t (x)")
        connection.close()
        refused(stores, StoreCorrupt, "not a store of this program")

    @pytest.mark.parametrize("content", [b"", b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
    def test_a_file_that_is_no_database_is_refused_untouched(self, stores: Any, content: bytes) -> None:
        stores.path.parent.mkdir()
        stores.path.write_bytes(content)
        refused(stores, StoreCorrupt, "damaged|not a store")

    def test_a_damaged_page_is_found_at_the_start(self, stores: Any) -> None:
        fill(stores, 400)
        content = bytearray(stores.path.read_bytes())
        for page in range(len(content) // 8192 // 2, len(content) // 8192):
            content[page * 8192 : page * 8192 + 200] = b"\xa5" * 200
        stores.path.write_bytes(content)
        refused(stores, StoreCorrupt, "damaged")

    def test_a_store_keeps_its_log_from_birth_and_what_a_dead_birth_left_is_removed(self, stores: Any) -> None:
        """Switched over at the first start, a death in between left a journal that no reader can take back."""
        stores.path.parent.mkdir()
        for suffix in (".new", ".new-journal", ".new-wal"):
            stores.path.with_name(f"bus.db{suffix}").write_bytes(b"half")
        files.create(stores.path, datetime(2026, 1, 5, tzinfo=UTC))
        assert [path.name for path in stores.path.parent.iterdir()] == ["bus.db"]
        with closing(sqlite3.connect(f"file:{stores.path}?mode=ro", uri=True)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_a_store_that_has_vanished_is_no_fresh_start(self, stores: Any) -> None:
        fill(stores)
        stores.path.unlink()
        error = refused(stores, StoreCorrupt, "is missing, but bus.db.exists")
        assert "remove bus.db.exists" in error.hint
        files.marker_of(stores.path).unlink()
        fill(stores)

    def test_a_log_without_its_store_is_no_fresh_start(self, stores: Any) -> None:
        stores.path.parent.mkdir()
        stores.path.with_name("bus.db-wal").write_bytes(b"x")
        refused(stores, StoreCorrupt, "bus.db-wal says that there was one")

    def test_a_start_that_was_cut_off_begins_again(self, stores: Any) -> None:
        stores.path.parent.mkdir()
        stores.path.with_name("bus.db.new").write_bytes(b"half a store")
        fill(stores)
        assert not stores.path.with_name("bus.db.new").exists()

    def test_a_missing_marker_is_put_back(self, stores: Any) -> None:
        fill(stores)
        files.marker_of(stores.path).unlink()
        fill(stores)
        assert files.marker_of(stores.path).exists()

    def test_a_store_in_use_for_reading_sees_what_the_other_process_commits(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            await store.accept(stores.new("first"))
            watching = await stores.open(read_only=True)
            accepted = await store.accept(stores.new("second", scope="branch"))
            assert [counts.route for counts in watching.counts()] == ["first", "second"]
            assert watching.get(accepted.id).envelope.scope == "branch"
            assert len(watching.find(Filter(route="second"))) == 1
            assert watching.verify_conservation() == []
            with pytest.raises(StoreError, match="read only"):
                await watching.accept(stores.new())
            await watching.close()
            await store.accept(stores.new("third"))
            await store.close()

        asyncio.run(main())

    def test_a_stopped_store_is_read_without_a_change(self, stores: Any) -> None:
        fill(stores, 3)
        before = stores.path.read_bytes()

        async def main() -> None:
            store = await stores.open(read_only=True)
            assert len(store.pending()) == 3
            await store.close()

        asyncio.run(main())
        assert stores.path.read_bytes() == before

    def test_reading_makes_no_store(self, stores: Any) -> None:
        with pytest.raises(StoreError, match="no store at") as caught:
            asyncio.run(stores.open(read_only=True))
        assert "esb run" in caught.value.hint
        assert list(stores.root.iterdir()) == []

    def test_a_copy_is_a_store_of_its_own(self, stores: Any) -> None:
        fill(stores, 3)
        other = type(stores)(stores.root / "copy")
        other.path.parent.mkdir(parents=True)
        shutil.copy(stores.path, other.path)
        fill(other)

        async def main() -> None:
            store = await other.open()
            assert len(store.find(Filter(states=(State.QUEUED,)))) == 4
            await store.close()

        asyncio.run(main())


class TestDisk:
    def test_a_network_share_is_refused(self, tmp_path: Path) -> None:
        mounts = tmp_path / "mounts"
        mounts.write_text(
            "/dev/vda / ext4 rw 0 0\nsrv:/x /mnt/share nfs4 rw 0 0\n//srv/y /mnt/with\\040blank cifs rw 0 0\n"
            "/dev/vdb /mnt/share/local ext4 rw 0 0\n"
        )
        files.refuse_network(Path("/mnt/share/local/.esb"), mounts)
        files.refuse_network(Path("/mnt/sharex"), mounts)
        files.refuse_network(tmp_path, tmp_path / "nothing here")
        for folder in ("/mnt/share/ws/.esb", "/mnt/with blank/ws"):
            with pytest.raises(StoreError, match="network share") as caught:
                files.refuse_network(Path(folder), mounts)
            assert "local disk" in caught.value.hint

    @pytest.mark.parametrize(
        ("place", "remote"),
        [
            (r"C:\bus\.esb", False),
            (r"Z:\bus\.esb", True),
            (r"\\server\share\bus", True),
            (r"\\?\C:\bus", False),
            (r"\\?\UNC\server\share\bus", True),
        ],
    )
    def test_windows_knows_a_share_by_its_name_or_its_drive(self, place: str, remote: bool) -> None:
        kinds = {"Z:\\": 4}
        assert files.is_remote(PureWindowsPath(place), lambda drive: kinds.get(drive, 3)) is remote

    def test_the_probe_leaves_nothing_behind(self, tmp_path: Path) -> None:
        assert files.probe_sync(tmp_path) > 0
        assert list(tmp_path.iterdir()) == []

    def test_while_space_is_short_nothing_new_is_taken_but_work_goes_on(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            accepted = await store.accept(stores.new(started=True))
            free = store.free_bytes()
            store._min_free = free * 2
            store.clock.advance(1)  # the disk is looked at after a group, twice a second
            queued = await store.accept(stores.new())
            assert not store.open_for_intake
            with pytest.raises(StoreBusy, match="disk space is short"):
                await store.accept(stores.new())
            await store.settle(stores.done(accepted.seq))
            assert await store.start(queued.seq, 1, store.clock.now())
            store._min_free = 0
            assert store.open_for_intake
            await store.accept(stores.new())
            await store.close()

        asyncio.run(main())

    def test_the_watermark_follows_the_size_of_the_disk(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open(min_free=None)
            assert 256 * 1024**2 <= store._min_free <= 5 * 1024**3
            await store.close()

        asyncio.run(main())
