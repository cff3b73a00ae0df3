"""What every file sink does before and after it writes: the name, the bytes, the words of a fault."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from esb.blob import Blob
from esb.endpoints.base import Delivery
from esb.endpoints.file_options import FolderSink
from esb.endpoints.folders import OPEN_FILES_STAY, REMOTE_FAULT
from esb.endpoints.paths import clean_name, render_path, with_mark
from esb.errors import Invalid, MessageError, Rejected, Unavailable
from esb.formats.json import Json
from esb.formats.unread import Unread
from esb.message import Message
from esb.steps.base import Reply

_JSON = Json()

#: faults of the place that pass, or that an operator mends; everything else is a no for good
_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN",
        "ENETUNREACH", "ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "ENOTCONN", "ENODEV", "EBUSY", "EAGAIN", "EINTR", "ENOLCK",
        "EDEADLK",
    )
    if hasattr(errno, name)
) | {REMOTE_FAULT}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Letter:
    """A file to be: ``base`` is the author's own folder, ``folders`` the clean names below it."""

    base: str
    folders: tuple[str, ...]
    name: str
    data: bytes | Blob

    @property
    def where(self) -> str:
        return self.base + "/".join((*self.folders, self.name))

    @property
    def sha256(self) -> str:
        return self.data.sha256 if isinstance(self.data, Blob) else hashlib.sha256(self.data).hexdigest()

    @property
    def size(self) -> int:
        return self.data.size if isinstance(self.data, Blob) else len(self.data)

    def chunks(self) -> Iterable[bytes]:
        """The content, a large one piece by piece."""
        return self.data.chunks() if isinstance(self.data, Blob) else (self.data,)

    def block(self) -> bytes:
        """The content as one block that ends in a line break, to be added to a file."""
        data = self.data.read() if isinstance(self.data, Blob) else self.data
        return data if data.endswith(b"\n") else data + b"\n"

    def reply(self, path: str) -> Reply:
        return Reply(status=None, body={"path": path, "bytes": self.size, "sha256": self.sha256})


def prepare(sink: FolderSink, message: Message, delivery: Delivery) -> Letter:
    """The file that a delivery writes. Raises Rejected, Invalid and InternalFault."""
    meta = {**delivery.scope.get("meta", {}), "delivery_id": delivery.id}
    scope = {**delivery.scope, "meta": meta}
    data = _content(sink, message, scope)
    path = render_path(sink.path, scope)
    *folders, name = path.parts
    if sink.exists == "unique":
        name = with_mark(name, delivery.id.replace("-", "")[:12])
    return Letter(path.base, tuple(folders), name, data)


def part_names(letter: Letter, delivery: Delivery) -> list[str]:
    """The temporary names of this attempt (the last one) and of those that may have been cut off before it."""
    first = max(1, delivery.attempt - 20) if delivery.again or delivery.attempt > 1 else delivery.attempt
    start = letter.name.encode()[:120].decode(errors="ignore")
    return [
        clean_name(f".{start}.{delivery.id}.{attempt}.part", hidden=True)
        for attempt in range(first, delivery.attempt + 1)
    ]


def _content(sink: FolderSink, message: Message, scope: dict[str, Any]) -> bytes | Blob:
    body = sink.body(scope) if sink.body is not None else message.body
    if isinstance(body, Unread):
        return body.blob
    if sink.format is not None:
        return sink.format.encode(body)
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"the text cannot be written as UTF-8: {error.reason} at {error.start}") from error
    return _JSON.encode(body)


@contextmanager
def told(where: str) -> Iterator[None]:
    """System errors in the words of the bus."""
    try:
        yield
    except MessageError:
        raise
    except FileExistsError as error:
        raise Rejected(
            f"{where!r} exists already with other content",
            hint="choose `exists: replace`, `append` or `unique`, or put something unique into `path`",
            reply={"status": None, "headers": {}, "body": {"path": where, "conflict": True}},
        ) from error
    except PermissionError as error:
        if OPEN_FILES_STAY:
            raise Unavailable(
                f"may not write {where!r} now",
                hint="does another program have it open? else give the bus's user the right to write in that folder",
            ) from error
        raise Rejected(
            f"may not write {where!r}", hint="give the bus's user the right to write in that folder"
        ) from error
    except FileNotFoundError as error:
        raise Rejected(f"no folder for {where!r}", hint="make it, or set `mkdirs: true`") from error
    except OSError as error:
        text = f"cannot write {where!r}: {error.strerror or error}"
        if error.errno in _PASSING:
            raise Unavailable(text, hint="is there room, is the share there?") from error
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            text = f"a link or a file stands in the way of {where!r}"
        raise Rejected(text, hint="look at the folder named in `path`") from error
