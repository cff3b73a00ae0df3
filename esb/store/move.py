"""A store in a file moves to a database on a server: all of it in one transaction, and nothing of it is changed.

Sequence numbers, ids, states, the audit and its chain stay as they are, so what was open goes on there, and a key that was
taken stays taken.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from esb.errors import StoreError
from esb.failpoints import hit
from esb.store import blobs, files

if TYPE_CHECKING:
    from esb.store.pgwire import Connection
    from esb.store.postgres import Postgres

#: Types of the columns, as the server calls them.
_TYPES = {"BigInteger": "int8", "Text": "text", "LargeBinary": "bytea"}
#: What a store says of itself and not of its messages.
_OWN = ("schema_version", "store_id", "owner")
_NOTED = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def move(path: Path, server: Postgres, now: datetime) -> Mapping[str, int]:
    """Write the store of the file ``path`` to the server, where there must be none yet; gives the rows of each table.

    Call it under the lock of the workspace, for a store that was opened there before: that checked it and brought it to this program's tables. The file stays as it is, its payload files are shared by hard links where the disk is the same.
    Raises StoreCorrupt where the file cannot be read, StoreError and StoreBusy for the server.
    """
    moved: dict[str, int] = {}
    with files.explained(path), contextlib.closing(files.connect_reader(path)) as reader:

        def fill(writer: Connection) -> None:
            moved.update(_rows(reader, writer))
            source = blobs.folder_of(path)
            blobs.copy_all(source, blobs.folder_of(server.path), blobs.Blobs(source).names())
            work = path.with_name(path.name + ".work")
            if work.exists():
                shutil.copy2(work, server.path.with_name(server.path.name + ".work"))
            hit("move.filled")

        server.take_over(now, fill)
        hit("move.committed")
    return moved


def _rows(reader: files.Connection, writer: Connection) -> dict[str, int]:
    from esb.store.tables import metadata  # noqa: PLC0415 - see esb.store.tables

    moved = {}
    for table in metadata.sorted_tables:
        if table.name == "meta":
            continue
        columns = {column.name: _TYPES[type(column.type).__name__] for column in table.columns}
        beyond = " WHERE id > 0" if table.name == "word" else ""  # the empty text is there already
        query = f"SELECT {', '.join(columns)} FROM {table.name}{beyond}"  # noqa: S608 - names of our own
        moved[table.name] = writer.fill(table.name, columns, reader.execute(query))
        (there,) = reader.execute(f"SELECT count(*) FROM {table.name}{beyond}").fetchone()  # noqa: S608 - the same
        if there != moved[table.name]:
            raise StoreError(f"{table.name}: {moved[table.name]} of {there} rows arrived; nothing was moved")
    noted = [row for row in reader.execute("SELECT name, value FROM meta") if row[0] not in _OWN]
    writer.cursor().executemany(_NOTED, noted)
    return moved
