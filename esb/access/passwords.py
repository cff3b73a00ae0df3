"""Passwords: argon2id with the parameters of RFC 9106 for little memory, in a thread, at most two at once."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from esb.errors import EsbError

#: Shortest and longest password, in characters; length counts for more than kinds of characters (NIST SP 800-63B).
SHORTEST, LONGEST = 10, 256
#: Hashing takes 64 MiB each; more at once would let a stranger take the memory of the bus.
_AT_ONCE = 2


class WeakPassword(EsbError):
    """A password that is too easy."""


def check_strength(password: str, name: str) -> None:
    """Raises WeakPassword with what to change."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise WeakPassword(f"a password has {SHORTEST} to {LONGEST} characters", hint="a short sentence is good")
    if len(set(password)) < 5:
        raise WeakPassword("the password repeats too few characters", hint="a short sentence is good")
    if name.lower() in password.lower():
        raise WeakPassword("the password holds the user's name", hint="take something that has nothing to do with it")


def made_up(name: str) -> str:
    """A password of 144 random bits, one that the user of that name may have."""
    while True:
        password = secrets.token_urlsafe(18)
        with suppress(WeakPassword):  # `mia` stands in one of some thousand
            check_strength(password, name)
            return password


class Passwords:
    """Makes and checks hashes without holding up the loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._nobody = ""

    async def hash(self, password: str) -> str:
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, hashed: str | None, password: str) -> bool:
        """Whether the password is the one; ``hashed`` None (no such user) takes as long, and is never right."""
        if not self._nobody:
            self._nobody = await self.hash("nobody has this one")
        async with self._turns:
            right = await asyncio.to_thread(self._verify, hashed or self._nobody, password[:LONGEST])
        return right and hashed is not None

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (Argon2Error, InvalidHashError):
            return False
