"""Fixtures that drive the real program from outside: simulated systems, `esb run` as a process, and both together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from examples.demo.harness import Bus, Simulators  # noqa: E402 - the path must be there first
from examples.demo.plant import Plant  # noqa: E402 - the same

StartBus = Callable[..., Bus]


@pytest.fixture(scope="session")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulators]:
    """The simulators, started once for all tests that ask for them."""
    simulators = Simulators(tmp_path_factory.mktemp("systems"))
    simulators.start()
    yield simulators
    simulators.stop()


@pytest.fixture
def simulators(systems: Simulators) -> Simulators:
    """The simulators, all of them running and with nothing in their minds."""
    gone = [name for name in systems.urls if name not in systems.running]
    if gone:
        systems.start(*gone)
    systems.reset()
    return systems


@pytest.fixture
def bus() -> Iterator[StartBus]:
    """``bus(workspace, **environment)`` starts `esb run` there; what still runs at the end must stop with exit code 0."""
    started: list[Bus] = []

    def start(workspace: Path, *options: str, **environment: str) -> Bus:
        one = Bus(workspace, environment=environment, options=options)
        started.append(one)
        return one.start()

    yield start
    running = [one for one in started if one.started and one.process.running]
    codes = [one.stop() for one in running]
    assert codes == [0] * len(running), running[0].log()[-3000:]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """All systems and a bus on the reference workspace, for one module: each test takes a case of its own.

    Timeouts are short, so that a slow system is a system that is too slow.
    """
    short = {f"{name}_TIMEOUT": "700ms" for name in ("ERP", "QMS", "WMS", "MES", "PORTAL", "ANALYTICS")}
    plant = Plant(tmp_path_factory.mktemp("plant"), environment=short)
    try:
        plant.start()
        yield plant
        assert plant.conserved() == []
        assert plant.bus.stop() == 0, plant.bus.log()[-3000:]
        assert "Traceback" not in plant.bus.log()
    finally:
        plant.bus.kill()
        plant.systems.stop()


@pytest.fixture
def calm(plant: Plant) -> Iterator[Plant]:
    """The plant with every system well-behaved again after the test."""
    yield plant
    gone = [name for name in plant.systems.urls if name not in plant.systems.running]
    if gone:
        plant.systems.start(*gone)
    for name in plant.systems.urls:
        plant.systems.behave(name, "ok", idempotent=True)
