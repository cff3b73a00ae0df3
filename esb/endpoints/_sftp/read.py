"""Reading files from an SFTP server: a small one in one request, a large one with many requests on their way."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from esb.blob import Blob, Spool
from esb.endpoints._sftp.session import opened
from esb.endpoints.folders import apart

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SFTPClientFile

#: requests for parts of one file that are on their way, fewer of large ones, and bytes of one at most
FEW, MANY, LARGEST = 24, 128, 261_120
#: bytes that are handed on together
GROUP = 2_000_000


async def read_small(client: SFTPClient, place: bytes, size: int) -> bytes:
    """The content, one byte more than ``size`` where the file has grown."""
    async with opened(client, place, "rb", block_size=0) as file:
        content: bytes = await file.read(size + 1, 0)
        while len(content) < size:
            more: bytes = await file.read(size + 1 - len(content), len(content))
            if not more:
                break
            content += more
        return content


async def read_large(client: SFTPClient, place: bytes, size: int) -> tuple[bytes, str]:
    """The same with its SHA-256, which is made in a thread while more is on its way."""
    digest, parts = hashlib.sha256(), list[bytes]()
    async with aclosing(_groups(client, place, size)) as groups:
        async for group in groups:
            parts += group
            await apart(partial(_each, digest.update, group))
    return b"".join(parts), digest.hexdigest()


async def read_aside(client: SFTPClient, place: bytes, size: int, spool: Spool) -> Blob | None:
    """The file as a blob; None where it has not the size that was seen. More is on its way while a part is written."""
    writer, at = await apart(partial(spool.writer, size)), 0
    try:
        async with aclosing(_groups(client, place, size)) as groups:
            async for group in groups:
                at += sum(map(len, group))
                await apart(partial(_each, writer.write, group))
        return await apart(writer.finish) if at == size else None
    finally:
        await apart(writer.close)


def _each(take: Any, parts: Sequence[bytes]) -> None:
    for part in parts:
        take(part)


async def _groups(client: SFTPClient, place: bytes, size: int) -> AsyncGenerator[list[bytes], None]:
    """The parts of a file in groups, up to one byte more than ``size`` where it has grown.

    Each request asks for as much as the server gives in one answer, and the next ones are sent before it comes.
    """
    block, asked, at = min(LARGEST, client.limits.max_read_len or LARGEST), 0, 0
    ahead = min(MANY, max(FEW, 2 * GROUP // block))
    flying: deque[tuple[int, asyncio.Future[bytes]]] = deque()
    async with opened(client, place, "rb", block_size=0) as file:
        group, grouped = list[bytes](), 0
        try:
            while True:
                while asked <= size and len(flying) < ahead:
                    length = min(block, size + 1 - asked)
                    flying.append((length, asyncio.ensure_future(file.read(length, asked))))
                    asked += length
                if not flying:
                    break
                length, answer = flying.popleft()
                part = await answer
                if 0 < len(part) < length:
                    part = await _whole(file, part, at, length)
                at += len(part)
                if part:
                    group.append(part)
                    grouped += len(part)
                if grouped >= GROUP:
                    yield group
                    group, grouped = [], 0
                if len(part) < length:  # the end
                    break
            if group:
                yield group
        finally:
            for _, answer in flying:
                answer.cancel()
            await asyncio.gather(*(answer for _, answer in flying), return_exceptions=True)


async def _whole(file: SFTPClientFile, part: bytes, at: int, length: int) -> bytes:
    """A part that came short, with what is left of it: a server may give less than it is asked for."""
    while len(part) < length:
        more: bytes = await file.read(length - len(part), at + len(part))
        if not more:
            break
        part += more
    return part


__all__ = ["read_aside", "read_large", "read_small"]
