"""A plant that has not installed a client library is told what to install, and by the doctor before it starts."""

from __future__ import annotations

import asyncio
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from esb.clock import SystemClock
from esb.doctor import DRIVERS
from esb.endpoints.base import ConnectionContext
from esb.endpoints.mqtt import MqttConnection
from esb.endpoints.sftp import SftpConnection
from esb.errors import EsbError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("module", "extra", "connection"),
    [
        ("paho", "mqtt", MqttConnection(url="mqtt://broker")),
        ("asyncssh", "sftp", SftpConnection(host="gate", user="esb", known_hosts="x")),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(
    module: str, extra: str, connection: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    context = ConnectionContext("gate", SystemClock(), tmp_path, lambda *_a, **_k: None)
    with pytest.raises(EsbError, match=f"connector `gate` needs {module}") as told:
        asyncio.run(connection.open(context))
    assert told.value.hint == f"pip install 'plantbus[{extra}]'"


def test_the_doctor_looks_for_what_the_extras_install() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    from_ = packages_distributions()
    for extra, (module, _) in DRIVERS.items():
        wanted = {line.partition(">")[0].partition("[")[0].lower() for line in extras[extra]}
        assert wanted & {name.lower() for name in from_.get(module, (module.replace("_", "-"),))}, (extra, module)
