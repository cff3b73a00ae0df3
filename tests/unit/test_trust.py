"""A client believes the authority of a plant that lacks what RFC 5280 asks for, also where Python's own default does not."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from esb.endpoints.webserver import server_tls
from esb.trust import trusting
from tests.servers.certificates import make_certificates


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Raises SSLError where one of them does not believe the other."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there, server_hostname="127.0.0.1"),
        server.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(4):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert ends == []


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of Python 3.13, in every Python."""
    made = ssl.create_default_context

    def as_in_3_13(*args: object, cafile: str | None = None) -> ssl.SSLContext:
        context = made(cafile=cafile)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", as_in_3_13)


def test_an_old_authority_is_believed_where_the_default_refuses_it(strict: None, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    server = server_tls(tmp_path / "server.crt", tmp_path / "server.key", None)
    authority = str(tmp_path / "ca.crt")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ssl.create_default_context(cafile=authority), server)
    shake_hands(trusting(authority), server)


def test_a_foreign_authority_is_not_believed(strict: None, tmp_path: Path) -> None:
    for name in ("own", "foreign"):
        (tmp_path / name).mkdir()
        make_certificates(tmp_path / name)
    server = server_tls(tmp_path / "foreign" / "server.crt", tmp_path / "foreign" / "server.key", None)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusting(str(tmp_path / "own" / "ca.crt")), server)
