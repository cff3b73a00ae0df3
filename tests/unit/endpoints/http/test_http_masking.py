"""A target that repeats the credentials it was given does not get them into log, trace and store."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from esb.endpoints._http.masking import masked, masked_bytes, needles
from esb.secret import Secret


@dataclass(frozen=True)
class Login:
    user: str
    password: Secret


def test_every_spelling_of_a_credential_is_masked() -> None:
    pair = base64.b64encode(b"esb:s3cr t/key").decode()
    hidden = needles(Login("esb", Secret("s3cr t/key")), {"Authorization": f"Basic {pair}"}, "a-bearer-token")
    echo = f"got s3cr t/key, s3cr%20t%2Fkey, Basic {pair}, {pair} and a-bearer-token for lot 0012"
    assert masked(echo, hidden) == "got ***, ***, ***, *** and *** for lot 0012"
    assert masked_bytes(echo.encode(), hidden) == masked(echo, hidden).encode()


def test_an_answer_without_credentials_is_left_alone() -> None:
    hidden = needles(Login("esb", Secret("s3cr t/key")), {})
    assert masked_bytes(b"\xff\xfe lot 0012", hidden) == b"\xff\xfe lot 0012"


def test_a_credential_too_short_to_tell_is_not_searched_for() -> None:
    assert needles(Login("esb", Secret("12")), {}) == ()
