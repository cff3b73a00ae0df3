"""The key that signs archives of evidence (Ed25519): made once in the workspace, so that anybody with its public half can check them offline."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esb.config.drafts import write_whole
from esb.errors import EsbError
from esb.store.chain import canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: In ``.esb`` of the workspace.
KEY_FILE = "evidence.key"
#: What a signature of a seal does not cover: itself.
_OWN = "signature"


class CannotSign(EsbError):
    """The library is missing, or the key cannot be read."""


@dataclass(frozen=True, slots=True)
class SealKey:
    """The private key in a file that only the bus's user can read."""

    path: Path

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def make(self) -> None:
        """A new key, whole or not at all. One process at a time: the one that owns the store."""
        ed25519, serialization = _library()
        key = ed25519.Ed25519PrivateKey.generate()
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_whole(self.path, text, mode=0o600, synced=True)

    def public(self) -> str:
        """The public key, in base64. Raises CannotSign."""
        _, serialization = _library()
        raw = self._private().public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    def sign(self, seal: Mapping[str, Any]) -> dict[str, Any]:
        """The seal with the public key, and a signature over all of it. Raises CannotSign."""
        whole = {**seal, "public_key": self.public()}
        return {**whole, _OWN: base64.b64encode(self._private().sign(_signed(whole))).decode()}

    def _private(self) -> Ed25519PrivateKey:
        ed25519, serialization = _library()
        try:
            key = serialization.load_pem_private_key(self.path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise CannotSign(
                f"the key in {self.path} cannot be read: {error}", hint="restore it, or move it away"
            ) from None
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise CannotSign(f"the key in {self.path} is no Ed25519 key", hint="restore it, or move it away")
        found: Ed25519PrivateKey = key
        return found


def is_signed(seal: Mapping[str, Any]) -> bool:
    """Whether the signature of a seal was made by the key that it names. Raises CannotSign without the library."""
    ed25519, _ = _library()
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra

    try:
        raw, signature = (base64.b64decode(str(seal.get(name, "")), validate=True) for name in ("public_key", _OWN))
        ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(signature, _signed(seal))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def fingerprint(public_key: str) -> str:
    """A public key as people compare it: the beginning of its SHA-256, in groups of four."""
    digest = hashlib.sha256(public_key.encode()).hexdigest()[:32]
    return " ".join(digest[at : at + 4] for at in range(0, 32, 4))


def _signed(seal: Mapping[str, Any]) -> bytes:
    return b"esb evidence seal\n" + canonical({name: value for name, value in seal.items() if name != _OWN}).encode()


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - an extra
    except ImportError:
        raise CannotSign("archives of evidence are signed with the evidence extra", hint="pip install 'plantbus[evidence]'") from None  # fmt: skip
    return ed25519, serialization
