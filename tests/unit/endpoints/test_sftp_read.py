"""A large file is read with many requests on their way, and comes whole and in order whatever the server gives at once."""

from __future__ import annotations

import asyncio
import hashlib
import random
from types import SimpleNamespace
from typing import Any

import pytest

from esb.endpoints._sftp.read import FEW, MANY, read_large, read_small


class File:
    """A file of a server that answers in any order, and with as much as it likes."""

    def __init__(self, content: bytes, chance: random.Random, most: int) -> None:
        self.content, self.chance, self.most = content, chance, most
        self.flying = self.highest = 0
        self.closed = False
        self.fails_at = -1

    async def read(self, size: int, offset: int) -> bytes:
        self.flying += 1
        self.highest = max(self.highest, self.flying)
        try:
            for _ in range(self.chance.randrange(4)):
                await asyncio.sleep(0)
            if 0 <= self.fails_at <= offset:
                raise ConnectionResetError("gone")
            return self.content[offset : offset + min(size, self.most)]
        finally:
            self.flying -= 1

    async def close(self) -> None:
        self.closed = True


class Client:
    def __init__(self, content: bytes, *, block: int = 1000, most: int = 1 << 20, seed: int = 1) -> None:
        self.limits = SimpleNamespace(max_read_len=block)
        self.file = File(content, random.Random(seed), most)

    async def open(self, path: bytes, mode: str, block_size: int) -> File:
        assert (path, mode, block_size) == (b"/in/a", "rb", 0)
        return self.file


def large(client: Any, size: int) -> tuple[bytes, str]:
    return asyncio.run(read_large(client, b"/in/a", size))


@pytest.mark.parametrize("most", [1, 7, 999, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 40_000])
def test_the_content_comes_in_order_also_from_short_answers(size: int, most: int) -> None:
    content = random.Random(size).randbytes(size)
    client = Client(content, most=most)
    assert large(client, size) == (content, hashlib.sha256(content).hexdigest())
    assert (client.file.closed, client.file.flying) == (True, 0)


@pytest.mark.parametrize("more", [1, 5000])
def test_a_file_that_has_grown_gives_one_byte_more(more: int) -> None:
    content = bytes(range(256)) * 20
    assert large(Client(content + b"x" * more), len(content))[0] == content + b"x"
    assert asyncio.run(read_small(Client(content + b"x" * more), b"/in/a", 100)) == content[:101]  # type: ignore[arg-type]  # a double, or none


@pytest.mark.parametrize("less", [1, 1000, 4000])
def test_a_file_that_was_cut_ends_where_it_ends(less: int) -> None:
    content = bytes(range(256)) * 20
    client = Client(content[:-less])
    assert large(client, len(content))[0] == content[:-less]
    assert client.file.flying == 0


def test_small_answers_have_more_requests_on_their_way() -> None:
    for block, highest in ((1000, MANY), (200_000, FEW)):
        client = Client(b"x" * block * 300, block=block)
        client.file.chance.randrange = lambda _: 3  # type: ignore[assignment]  # nobody is answered at once
        large(client, block * 300)
        assert client.file.highest == highest


def test_a_fault_ends_all_requests() -> None:
    client = Client(b"x" * 100_000)
    client.file.fails_at = 50_000
    with pytest.raises(ConnectionResetError):
        large(client, 100_000)
    assert client.file.flying == 0
