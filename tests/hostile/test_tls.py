"""S49: targets that show a certificate which proves nothing, or speak a TLS that hides nothing."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.tools import Listener, Target, attacked, listening
from tests.servers.certificates import make_authority, make_certificate

#: The certificate that a target shows, and what the dead letter says of it; empty where it is believed.
SHOWN = {
    "good": "",
    "expired": "certificate is not trusted",
    "elsewhere": "certificate is not trusted",
    "foreign": "certificate is not trusted",
    "itself": "certificate is not trusted",
    "old": "TLS",
}
CONNECTOR = """
connector: {name}
type: http
base_url: {url}
tls: {{ ca: ca.crt }}
operations: {{ order: {{ path: /order, method: POST }} }}
"""
ROUTE = """
route: {name}
from: {{ http: {{ path: /{name}, method: POST }} }}
retry: {{ max: 0 }}
steps: [ {{ to: {name}.order, timeout: 5s }} ]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates."""
    place = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other", "itself"):
        make_authority(place, name)
    for name in ("good", "old"):
        make_certificate(place, name)
    make_certificate(place, "expired", days=-1)
    make_certificate(place, "elsewhere", of="DNS:elsewhere.example")
    make_certificate(place, "foreign", authority="other")
    return place


def served(folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if name == "old":
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


@pytest.fixture(scope="module")
def targets(folder: Path) -> Iterator[dict[str, Listener]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(listening(served(folder, name))) for name in SHOWN}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, folder: Path, targets: dict[str, Listener]) -> Iterator[Target]:
    files: dict[str, str | bytes] = {"ca.crt": (folder / "ca.crt").read_bytes()}
    for name, one in targets.items():
        files[f"connectors/{name}.yaml"] = CONNECTOR.format(name=name, url=one.url)
        files[f"routes/{name}.yaml"] = ROUTE.format(name=name)
    with attacked(tmp_path_factory.mktemp("tls"), files, "--no-watch") as found:
        yield found


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("name", SHOWN)
def test_s49_a_target_that_cannot_prove_itself_is_told_nothing(
    target: Target, targets: dict[str, Listener], name: str
) -> None:
    assert target.http.post_json(f"/{name}", {"secret": "x"}).status == 202
    found = target.drained(name)
    if not SHOWN[name]:
        assert (found["done"], len(targets[name].got)) == (1, 1)
        return
    assert (found["dead"], targets[name].got) == (1, [])
    (dead,) = target.bus.json("dlq", "ls", "--route", name)
    assert SHOWN[name] in dead["error"]["message"], dead["error"]
