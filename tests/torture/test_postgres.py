"""A store on PostgreSQL under attack: the bus is killed, the database is killed and comes back; nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request

import pytest

from examples.demo.harness import until
from tests.servers.postgres import Postgres, empty_store
from tests.torture.conftest import MakeRig
from tests.torture.rig import DROP, ROUTE, Rig
from tests.torture.tier import LONG, sized

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL"),
    pytest.mark.timeout(7200 if LONG else 600),
]


@pytest.fixture
def settings(postgres: Postgres) -> str:
    return f"bus: torture\nstore: {empty_store(postgres, 'torture')}\n"


def test_kills_of_the_bus_under_load_lose_nothing_and_double_nothing(make_rig: MakeRig, settings: str) -> None:
    rig = make_rig(routes=(ROUTE, DROP), settings=settings)
    rig.killed(sized(4, 200, brief=2))
    _whole(rig)


def test_a_database_that_dies_under_load_and_comes_back_loses_nothing(
    make_rig: MakeRig, settings: str, postgres: Postgres
) -> None:
    rig = make_rig(routes=(ROUTE, DROP), settings=settings)
    rig.start()
    for round_, how in enumerate((signal.SIGKILL, signal.SIGQUIT, signal.SIGINT)):
        with rig.load(f"r{round_}") as load:
            load.until(lambda load: load.acked >= 30)
            for number in range(5):
                rig.drop(f"f{round_}-{number}")
            with postgres.away(how):
                load.until(lambda load: load.refused >= 5)
                assert load.refusal.startswith("503 "), load.refusal
                assert load.retry_after > 0
                with urllib.request.urlopen(f"{rig.bus.admin}/livez", timeout=10) as answer:
                    assert answer.status == 200  # the bus itself is well, and answers
                before = load.acked
            load.until(lambda load, before=before: load.acked >= before + 20)  # type: ignore[misc]  # a default binds it
    _whole(rig)


def test_a_bus_that_is_stopped_while_its_database_is_away_ends_in_peace(
    make_rig: MakeRig, settings: str, postgres: Postgres
) -> None:
    rig = make_rig(settings=settings + "limits: { drain: 2s }\n")
    rig.start()
    with rig.load("away") as load:
        load.until(lambda load: load.acked >= 30)
        with postgres.away(signal.SIGKILL):
            load.until(lambda load: load.refused >= 5)
            assert rig.bus.stop() == 0, rig.bus.log()[-3000:]
    rig.start()
    _whole(rig)


def test_connections_that_are_cut_cost_no_message(make_rig: MakeRig, settings: str, postgres: Postgres) -> None:
    """As a firewall or an administrator does it."""
    rig = make_rig(settings=settings)
    rig.start()
    with rig.load("cut") as load:
        for wanted in (20, 40, 60, 80):
            load.until(lambda load, wanted=wanted: load.acked >= wanted)  # type: ignore[misc]  # a default binds it
            postgres.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'esb'")
    _whole(rig)


def _ready(rig: Rig) -> bool:
    try:
        with urllib.request.urlopen(f"{rig.bus.admin}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


def _whole(rig: Rig) -> None:
    until(lambda: _ready(rig), within=60, what="the database")
    rig.whole()
