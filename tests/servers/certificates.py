"""An authority of our own, with a certificate for a server on 127.0.0.1 and one for a client.

They lack extensions of RFC 5280, as those of plants do: see ``esb.trust``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Server(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


S = TypeVar("S", bound=Server)


@contextmanager
def with_certificates(kind: Callable[[Path], S], folder: Path) -> Iterator[S]:
    """A started server of ``kind`` that has certificates in ``folder``."""
    make_certificates(folder)
    server = kind(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


def make_certificates(folder: Path) -> None:
    """Write ``ca``, ``server`` and ``client`` as ``.crt`` and ``.key`` into ``folder``."""
    make_authority(folder)
    for name in ("server", "client"):
        make_certificate(folder, name)


def make_authority(folder: Path, name: str = "ca") -> None:
    """Write a certificate that signs itself; also what a server shows that has no other."""
    names = ("-subj", f"/CN=test {name}", "-addext", "subjectAltName=IP:127.0.0.1")
    _openssl(folder, "req", "-x509", *_KEY, "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.crt", *names)


def make_certificate(
    folder: Path, name: str, *, authority: str = "ca", of: str = "IP:127.0.0.1", days: int = 2
) -> None:
    """Write a certificate that ``authority`` signs for the host ``of``; negative ``days``: it has ended."""
    names = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={of}")
    _openssl(folder, "req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", *names)
    signed_by = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial")
    _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed_by, "-days", str(days), "-copy_extensions", "copy",
             "-out", f"{name}.crt")  # fmt: skip


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
