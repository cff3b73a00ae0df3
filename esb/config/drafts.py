"""Writing files of a workspace: each appears whole under its name, or what was there stays, on a full disk, too."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

#: Windows replaces no file that somebody reads just then: the bus that hears of a change, an editor, a search for viruses.
_TRIES = 20 if os.name == "nt" else 1
_BETWEEN_TRIES = 0.05


@dataclass(frozen=True, slots=True)
class Draft:
    """A file beside its place, written to its end."""

    place: Path
    fresh: Path

    def publish(self) -> None:
        """Take the place. Raises OSError."""
        with _named(self.place):
            for _ in range(_TRIES - 1):
                with suppress(PermissionError):
                    self.fresh.replace(self.place)
                    return
                time.sleep(_BETWEEN_TRIES)
            self.fresh.replace(self.place)

    def drop(self) -> None:
        self.fresh.unlink(missing_ok=True)


def draft(place: Path, data: bytes, *, mode: int | None = None, synced: bool = False) -> Draft:
    """``mode`` is the file's from its first byte on; without it that of the file that is there, else what a new file has.

    A link stays one: what it leads to is written. Raises OSError with the name of the file, nothing left behind.
    """
    place = Path(os.path.realpath(place))
    one = Draft(place, place.with_name(f".{place.name}.{os.getpid()}.new"))
    with _named(place):
        try:
            one.drop()  # of a process that died
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(one.fresh, flags, 0o666 if mode is None else mode), "wb") as file:
                file.write(data)
                file.flush()
                if synced:
                    os.fsync(file.fileno())
            if mode is None and place.exists():
                one.fresh.chmod(place.stat().st_mode & 0o7777)
        except BaseException:
            one.drop()
            raise
    return one


def drafts(files: Mapping[Path, bytes], *, synced: bool = False) -> list[Draft]:
    """A draft of each file, or of none. Raises OSError."""
    made: list[Draft] = []
    try:
        for place, data in files.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            made.append(draft(place, data, synced=synced))
    except BaseException:
        for one in made:
            one.drop()
        raise
    return made


def write_whole(place: Path, data: bytes | str, *, mode: int | None = None, synced: bool = False) -> None:
    """As :func:`draft`, and at once under its name. What is no file, such as ``/dev/stdout``, is written to."""
    content = data.encode() if isinstance(data, str) else data
    if place.exists() and not place.is_file():
        place.write_bytes(content)
        return
    one = draft(place, content, mode=mode, synced=synced)
    try:
        one.publish()
    except BaseException:
        one.drop()
        raise


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """An error of a write names no file by itself, and that of a draft one that nobody knows."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from error
