"""What the store asks of a connection to a database, in the words of ``sqlite3``: statements with ``?``, rows as tuples.

One text of SQL serves every database; what each does in its own way stands behind these few methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack

if TYPE_CHECKING:
    from sqlalchemy.sql import ClauseElement

    from esb.store.committer import Committer
    from esb.store.reader import Reader
    from esb.store.writer import Writer


class Cursor(Protocol):
    """``rowcount`` is what the last statement changed, of ``executemany`` all of it together."""

    @property
    def rowcount(self) -> int: ...

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Cursor: ...

    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]], /) -> Any: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """Raises ``sqlite3.Error`` or ``OSError`` for faults of the database itself."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Cursor: ...

    def cursor(self) -> Cursor: ...

    def close(self) -> None: ...

    def limit(self, seconds: float) -> None:
        """Statements that take longer from now on are stopped; ``inf``: none is."""
        ...

    def select(self, query: ClauseElement) -> tuple[str, Mapping[str, Any]]:
        """A query of SQLAlchemy Core as a statement of this database and its values."""
        ...

    def put_away(self) -> bool:
        """Bring what is only in the log into the tables' own files; false where a reader stands in the way."""
        ...

    def used_bytes(self) -> int:
        """Bytes that hold something."""
        ...

    def faults(self) -> list[str]:
        """What the database finds wrong with its own files and indexes, in words; may read all of them."""
        ...


class Hooks(TypedDict):
    """Whom a committer calls, on the loop; see :class:`esb.store.committer.Committer`."""

    before_group: Callable[[], None]
    after_group: Callable[[], None]
    in_doubt: Callable[[], None]


class Answers(Protocol):
    """What is asked whether it is there before others rely on it."""

    async def answering(self) -> None:
        """Return once the database has answered. Raises StoreBusy where it does not within seconds; the loop goes on meanwhile."""
        ...


class Database(Answers, Protocol):
    """The database of one store: how to come to it, and who commits there."""

    @property
    def path(self) -> Path:
        """What stands beside the store is named after it: payload files, the note of who is at work."""
        ...

    def writer(self) -> Connection:
        """The one connection that writes. Raises StoreBusy where another process has the store."""
        ...

    def reader(self) -> Reader: ...

    def committer(self, writer: Writer, *, threaded: bool | None, **hooks: Unpack[Hooks]) -> Committer: ...

    def explained(self) -> AbstractContextManager[None]:
        """Faults while the store is opened, in words that say what to do."""
        ...

    @property
    def away(self) -> str:
        """Why the database cannot be reached; empty while it can."""
        ...

    def close(self) -> None:
        """Called when every connection is closed."""
        ...
