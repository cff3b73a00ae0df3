"""An SFTP server that misbehaves on demand: bad names, no renames, cuts at a byte, silence. Runs in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

USER, PASSWORD = "graz", "s3cret"


@dataclass
class Misdeeds:
    """What the server does wrong; tests change it while the server runs."""

    #: names that listings of any folder show besides what is there
    names: list[bytes] = field(default_factory=list)
    #: error that every rename gets
    no_rename: type[asyncssh.SFTPError] | None = None
    #: errors for removing and making folders
    no_remove: bool = False
    no_mkdir: bool = False
    #: the connection ends when so many bytes were read or written; counts down, None for never
    cut_after: int | None = None
    #: the connection ends instead of so many next renames
    cut_renames: int = 0
    #: no answer to reads and writes until it is set
    thaw: asyncio.Event | None = None
    #: reads give at most so many bytes
    short_reads: int = 1 << 30
    #: every name that a rename, remove, mkdir or open touched
    touched: list[bytes] = field(default_factory=list)


class HostileServer(asyncssh.SFTPServer):
    def __init__(self, channel: Any, root: Path, misdeeds: Misdeeds) -> None:
        super().__init__(channel, chroot=str(root).encode())
        self._misdeeds = misdeeds

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            yield entry
        for name in self._misdeeds.names:
            attrs = asyncssh.SFTPAttrs(permissions=0o100644, size=2, mtime=1_700_000_000, atime=1_700_000_000)
            yield asyncssh.SFTPName(name, b"", attrs)

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        self._misdeeds.touched.append(path)
        return super().open(path, pflags, attrs)

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        data: Any = super().read(file_obj, offset, min(size, self._misdeeds.short_reads))
        await self._maybe(len(data))
        return bytes(data)

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        left = self._misdeeds.cut_after
        if left is not None and len(data) >= left:
            super().write(file_obj, offset, data[:left])
        await self._maybe(len(data))
        written: Any = super().write(file_obj, offset, data)
        return int(written)

    async def _maybe(self, count: int) -> None:
        if self._misdeeds.thaw is not None:
            await self._misdeeds.thaw.wait()
        left = self._misdeeds.cut_after
        if left is not None:
            self._misdeeds.cut_after = left - count
            if left <= count:
                self._misdeeds.cut_after = None
                self._cut()

    def _cut(self) -> None:
        self.connection.abort()
        raise asyncssh.SFTPConnectionLost("cut")

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        self._may_rename(oldpath, newpath)
        return super().rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> Any:
        self._may_rename(oldpath, newpath)
        return super().posix_rename(oldpath, newpath)

    def _may_rename(self, *paths: bytes) -> None:
        self._misdeeds.touched += paths
        if self._misdeeds.cut_renames:
            self._misdeeds.cut_renames -= 1
            self._cut()
        if self._misdeeds.no_rename is not None:
            raise self._misdeeds.no_rename("not here")

    def remove(self, path: bytes) -> Any:
        self._misdeeds.touched.append(path)
        if self._misdeeds.no_remove:
            raise asyncssh.SFTPPermissionDenied("not here")
        return super().remove(path)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> Any:
        self._misdeeds.touched.append(path)
        if self._misdeeds.no_mkdir:
            raise asyncssh.SFTPPermissionDenied("not here")
        return super().mkdir(path, attrs)


class _Door(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


@dataclass
class Hostile:
    root: Path
    port: int
    key: Any
    misdeeds: Misdeeds
    known_hosts: Path


@asynccontextmanager
async def hostile_sftp(root: Path) -> AsyncIterator[Hostile]:
    """Serve ``root`` as ``/`` on a free loopback port; ``root.parent`` gets the known_hosts file."""
    misdeeds, key = Misdeeds(), asyncssh.generate_private_key("ssh-ed25519")
    root.mkdir(exist_ok=True)
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=_Door,
        server_host_keys=[key],
        sftp_factory=lambda channel: HostileServer(channel, root, misdeeds),
    )
    known = root.parent / "hostile.known_hosts"
    port = listener.get_port()
    known.write_text(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")
    try:
        yield Hostile(root, port, key, misdeeds, known)
    finally:
        listener.close()
        await listener.wait_closed()


__all__ = ["PASSWORD", "USER", "Hostile", "Misdeeds", "hostile_sftp"]
