"""Large payloads lie in files beside the store, exactly as long as a message keeps them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.blob import Blob
from esb.errors import StoreBusy, StoreCorrupt
from esb.message import State
from esb.store import backup
from esb.store.base import AuditEntry
from esb.store.blobs import Blobs, folder_of
from tests.unit.store.conftest import NOW

LARGE = bytes(range(256)) * 5000


def names(path: Path) -> list[str]:
    """The payload files of a store, unfinished ones too."""
    return sorted(file.name for file in folder_of(path).rglob("*") if file.is_file())


def put(store: Any, data: bytes = LARGE) -> Blob:
    blob: Blob = store.blobs.put([data[:1000], data[1000:]], len(data))
    return blob


async def keep(stores: Any, store: Any, blob: Blob, **parts: Any) -> Any:
    """A committed message whose body is ``blob``."""
    accepted = await store.accept(stores.new(body=b"", content="source", blob=blob, **parts))
    store.blobs.release(blob)
    return accepted


class TestFiles:
    def test_a_payload_is_named_by_its_content_and_private(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            blob = put(store)
            assert (blob.sha256, blob.size) == (hashlib.sha256(LARGE).hexdigest(), len(LARGE))
            assert blob.read() == b"".join(blob.chunks()) == LARGE
            assert put(store).file == blob.file, "the same content is kept once"
            assert names(stores.path) == [blob.sha256]
            if os.name != "nt":
                assert blob.file.stat().st_mode & 0o777 == 0o600
                assert folder_of(stores.path).stat().st_mode & 0o777 == 0o700
            await store.close()

        asyncio.run(main())

    def test_what_was_not_finished_leaves_nothing(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            writer = store.blobs.writer(10)
            writer.write(b"half")
            writer.close()
            assert names(stores.path) == []
            await store.close()

        asyncio.run(main())

    def test_a_payload_for_which_there_is_no_room_is_not_begun(self, tmp_path: Path) -> None:
        with pytest.raises(StoreBusy, match="disk space is short"):
            Blobs(tmp_path / "b", min_free=1 << 60).writer(1)

    def test_a_disk_that_takes_no_more_bytes_keeps_the_store_busy(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            writer = store.blobs.writer(10)
            os.close(writer._file)
            with pytest.raises(StoreBusy, match="could not be written"):
                writer.write(b"x")
            writer._file = -1
            writer.close()
            assert names(stores.path) == []
            await store.close()

        asyncio.run(main())


class TestMessages:
    def test_a_message_comes_back_with_its_payload_after_a_restart(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            blob = put(store)
            accepted = await keep(stores, store, blob)
            assert store.sweep() == 0, "a message keeps it"
            await store.close()
            store = await stores.open()
            envelope, _ = store.payload(accepted.seq)
            assert (envelope.blob, envelope.body, envelope.content) == (blob, b"", "source")
            assert (envelope.payload(), envelope.size) == (LARGE, len(LARGE))
            assert store.get(accepted.id).envelope.blob == blob
            assert store.verify_blobs() == store.verify_conservation() == []
            await store.close()

        asyncio.run(main())

    def test_the_file_goes_with_the_last_message_that_keeps_it(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            first, second = [await keep(stores, store, put(store)) for _ in range(2)]
            late = NOW + timedelta(days=9)
            await store.settle(stores.done(first.seq))
            assert await store.purge(late, [State.DONE]) == 1
            assert store.sweep() == 0
            assert len(names(stores.path)) == 1
            await store.settle(stores.done(second.seq))
            assert await store.purge(late, [State.DONE]) == 1
            assert store.sweep() == 1
            assert names(stores.path) == []
            assert store.verify_conservation() == []
            await store.close()

        asyncio.run(main())

    def test_what_waits_for_its_commit_is_pinned_and_an_orphan_is_swept(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            blob = put(store)
            assert store.sweep() == 0
            store.blobs.release(blob)
            assert store.sweep() == 1, "no message came"
            left = folder_of(stores.path) / ".new" / "1-1"
            left.write_bytes(b"of a process that died")
            busy = store.blobs.writer(4)
            store.sweep()
            assert not left.exists()
            busy.write(b"more")
            assert busy.finish().read() == b"more", "what is being written stays"
            await store.close()

        asyncio.run(main())

    def test_an_edited_message_has_its_new_body_and_its_trace_names_the_file(self, stores: Any) -> None:
        async def main() -> None:
            store = await stores.open()
            blob = put(store)
            accepted = await keep(stores, store, blob, state=State.DEAD)
            assert await store.edit(accepted.seq, b"[]", AuditEntry("me", "dlq.edit", accepted.id, "why"), NOW)
            found = store.get(accepted.id)
            assert (found.envelope.blob, found.envelope.body, found.envelope.content) == (None, b"[]", "source")
            assert blob.sha256 in found.trace[0]["content"]
            assert store.sweep() == 0, "the original can still be looked at"
            assert store.verify_audit() == []
            await store.close()

        asyncio.run(main())


class TestCopies:
    def test_a_backup_holds_the_payloads_of_its_messages_and_no_others(self, stores: Any, tmp_path: Path) -> None:
        async def main() -> None:
            store = await stores.open()
            accepted = await keep(stores, store, put(store))
            store.blobs.release(put(store, b"nobody's" * 1000))
            copy = tmp_path / "copy.db"
            assert backup.copy(stores.path, copy) > len(LARGE)
            assert names(copy) == [hashlib.sha256(LARGE).hexdigest()]
            with pytest.raises(FileExistsError):
                backup.copy(stores.path, copy)
            await store.settle(stores.done(accepted.seq))
            await store.purge(NOW + timedelta(days=9), [State.DONE])
            store.sweep()
            await store.close()

            aside = backup.restore(copy, stores.path, NOW)
            assert aside is not None
            store = await stores.open()
            assert store.payload(accepted.seq)[0].payload() == LARGE
            assert store.verify_blobs() == []
            await store.close()

        asyncio.run(main())

    def test_what_is_missing_or_damaged_is_found_and_is_not_copied(self, stores: Any, tmp_path: Path) -> None:
        async def main() -> None:
            store = await stores.open()
            blob = put(store)
            await keep(stores, store, blob)
            blob.file.write_bytes(LARGE[:-1] + b"?")
            assert store.verify_blobs() == [f"the payload file {blob.sha256} is damaged"]
            blob.file.unlink()
            assert store.verify_blobs() == [f"the payload file {blob.sha256} is missing"]
            with pytest.raises(StoreCorrupt, match="missing"):
                backup.copy(stores.path, tmp_path / "copy.db")
            assert not (tmp_path / "copy.db").exists()
            assert not folder_of(tmp_path / "copy.db").exists()
            await store.close()

        asyncio.run(main())


def test_a_store_of_an_older_program_gets_the_table(stores: Any) -> None:
    async def main() -> None:
        await (await stores.open()).close()
        with contextlib.closing(sqlite3.connect(stores.path)) as connection, connection:
            connection.execute("DROP TABLE blob")
            connection.execute("PRAGMA user_version = 1")
        connection.close()
        store = await stores.open()
        await keep(stores, store, put(store))
        assert store.verify_conservation() == store.verify_blobs() == []
        await store.close()

    asyncio.run(main())
