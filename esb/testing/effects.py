"""What a target other than HTTP would have had: the file that a sink writes, the rows that it sends to a database.

They are made by the sinks themselves, from the message as it is; only the disk, the server and the database are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from esb.blob import Blob
from esb.endpoints.base import Delivery
from esb.endpoints.file_letter import prepare
from esb.endpoints.file_options import FolderSink
from esb.endpoints.sql import SqlSink
from esb.errors import Invalid, MessageError
from esb.formats.base import Codec
from esb.formats.json import Json
from esb.message import Message
from esb.testing.compare import differences, show
from esb.testing.model import FileWanted, RowsWanted


@dataclass(frozen=True, slots=True)
class Written:
    """A file: its path as the sink names it, its bytes, and what its format reads in them (the text where it has none)."""

    path: str
    data: bytes
    content: Any


@dataclass(frozen=True, slots=True)
class Effects:
    """What one delivery leaves behind."""

    file: Written | None = None
    rows: Sequence[Mapping[str, Any]] = ()


def effects_of(sink: Any, message: Message, delivery: Delivery) -> Effects:
    """The file or the rows of a delivery. Raises what the sink raises for a message that it cannot send (Invalid, Rejected)."""
    if isinstance(sink, FolderSink):
        letter = prepare(sink, message, delivery)
        data = letter.data.read() if isinstance(letter.data, Blob) else letter.data
        return Effects(file=Written(letter.where, data, _read(data, sink.format)))
    if isinstance(sink, SqlSink):
        from esb.endpoints._sql.send import parameters  # noqa: PLC0415 - the library loads when it is used

        return Effects(rows=parameters(sink, delivery.scope, ""))
    return Effects()


def _read(data: bytes, codec: Codec | None) -> Any:
    text = data.decode("utf-8", "replace")
    try:
        return (codec or Json()).decode(data)
    except (Invalid, MessageError, ValueError):
        return text


def file_faults(wanted: FileWanted, file: Written) -> list[str]:
    """How a file differs from one that is expected; nothing where it fits."""
    lines = [] if fnmatchcase(file.path, wanted.path) else [f"path: expected {wanted.path}, got {file.path}"]
    if wanted.json is not None:
        lines += differences(wanted.json, file.content)
    text = file.data.decode("utf-8", "replace")
    if wanted.body is not None and wanted.body not in text:
        lines.append(f"body: expected it to contain {show(wanted.body)}, got {show(text)}")
    return lines


def row_faults(wanted: RowsWanted, row: Mapping[str, Any]) -> list[str]:
    """How a row differs from one that is expected; nothing where it fits."""
    return differences(wanted.json, dict(row)) if wanted.json is not None else []


def nearest(faults: Sequence[list[str]]) -> Iterator[str]:
    """How the one differs that comes next to what is expected."""
    lines = min((lines for lines in faults if lines), key=len, default=[])
    if lines:
        yield "the nearest one differs:"
        yield from (f"  {line}" for line in lines)


__all__ = ["Effects", "Written", "effects_of", "file_faults", "nearest", "row_faults"]
