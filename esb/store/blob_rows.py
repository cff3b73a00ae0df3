"""Which messages keep which payload files: the rows of ``blob``, and how a message names its payload."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from esb.blob import Blob
from esb.store.reader import Reader
from esb.store.writer import Writer

_KEEP = "INSERT INTO blob (seq, sha, size) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_KEEP_TOO = (
    "INSERT INTO blob (seq, sha, size) SELECT ?, sha, size FROM blob WHERE sha = ? ORDER BY seq LIMIT 1"
    " ON CONFLICT DO NOTHING"
)
#: What every claim check begins with.
CLAIM_CHECK = b"claim:sha256:"
_CLAIMS = re.compile(CLAIM_CHECK + rb"([0-9a-f]{64})")
#: Claim checks of one message that are followed.
MOST_CLAIMS = 1000
#: ``content`` of a message whose body lies in a file begins with this.
_MARK = "blob/"


# -- the body of a message ----------------------------------------------------------------------------------------------
def content_of(content: str, blob: Blob | None) -> str:
    """The column ``content``: with the place of the payload where it lies in a file."""
    return content if blob is None else f"{_MARK}{content}/{blob.sha256}/{blob.size}"


def split_content(content: str, at: Callable[[str, int], Blob]) -> tuple[str, Blob | None]:
    """The word of :attr:`Envelope.content`, and the payload file where there is one."""
    if not content.startswith(_MARK):
        return content, None
    _, word, sha256, size = content.split("/")
    return word, at(sha256, int(size))


# -- rows ---------------------------------------------------------------------------------------------------------------
def keep(writer: Writer, seq: int, blob: Blob) -> None:
    """The message keeps the file until retention removes it."""
    writer.execute(_KEEP, (seq, bytes.fromhex(blob.sha256), blob.size))


def claims_in(*parts: bytes | None) -> list[bytes]:
    """The files that claim checks in a message name; at most ``MOST_CLAIMS``."""
    named = [part for part in parts if part and CLAIM_CHECK in part]
    if not named:
        return []
    found = {sha for part in named for sha in _CLAIMS.findall(part)}
    return [bytes.fromhex(sha.decode()) for sha in sorted(found)[:MOST_CLAIMS]]


def keep_claimed(writer: Writer, seq: int, claimed: Sequence[bytes]) -> None:
    """The message keeps what its claim checks name, where another message keeps it, too; a made-up one names nothing."""
    writer.cursor.executemany(_KEEP_TOO, [(seq, sha) for sha in claimed])


def unused(reader: Reader, names: Sequence[str]) -> Iterable[str]:
    """Which of some files no message keeps."""
    return [
        name for name in names if reader.row("SELECT 1 FROM blob WHERE sha = ? LIMIT 1", (bytes.fromhex(name),)) is None
    ]


def kept(reader: Reader) -> list[tuple[str, int]]:
    """Every file that a message keeps, with its size in bytes."""
    rows = reader.unlimited("SELECT sha, max(size) FROM blob GROUP BY sha ORDER BY sha")
    return [(sha.hex(), size) for sha, size in rows]


__all__ = ["CLAIM_CHECK", "claims_in", "content_of", "keep", "keep_claimed", "kept", "split_content", "unused"]
