"""Route tests as items of pytest, and a route as its fixture: pytest itself is run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SETTINGS = "[pytest]\nesb_workspaces = plant\naddopts = -p no:cacheprovider\n"
ROUTE = """route: lots
from: { http: { path: /lots } }
steps:
  - map: { Lot: body.lot, Quantity: body.qty }
  - to: erp.hold
"""
ERP = """connector: erp
type: http
base_url: https://erp.invalid
operations: { hold: { path: /hold } }
"""
SUITE = """route: lots
cases:
  - name: a lot is held
    send: { json: { lot: "0012", qty: 12.10 } }
    stubs: { erp.hold: { status: 201 } }
    expect: { state: done, sent: { to: erp.hold, json: { Lot: "0012", Quantity: 12.10 } } }
  - name: never
    send: { json: { lot: "1" } }
    stubs: { erp.hold: { status: 400 } }
    expect: { state: done }
"""
PYTHON = """from decimal import Decimal

import pytest

from esb.errors import ConfigError
from esb.testing.plugin import RouteFailed


def test_what_the_target_got(esb_route):
    result = esb_route("lots", "plant")(
        send={"json": {"lot": "0012", "qty": Decimal("12.10")}}, stubs={"erp.hold": {"status": 201}}
    )
    assert result.facts.taken[0].body == {"Lot": "0012", "Quantity": Decimal("12.10")}


def test_what_goes_wrong(esb_route):
    lots = esb_route("lots", "plant")
    with pytest.raises(RouteFailed, match="expected state `done`, got `dead`"):
        lots(send={"json": {"lot": "1"}}, stubs={"erp.hold": {"status": 400}}, expect={"state": "done"})
    with pytest.raises(ConfigError, match="ESB320"):
        lots(send={"json": {"lot": "1"}}, stubs={"erp.hald": {"status": 400}})
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of a folder with a workspace, its tests, tests in Python, and tests of nobody's workspace."""
    root = tmp_path_factory.mktemp("project")
    files = {
        "pytest.ini": SETTINGS,
        "plant/esb.yaml": "bus: plant\n",
        "plant/routes/lots.yaml": ROUTE,
        "plant/routes/lots.test.yaml": SUITE,
        "plant/routes/broken.test.yaml": "route: lotz\ncases: []\n",
        "plant/connectors/erp.yaml": ERP,
        "elsewhere/routes/x.test.yaml": SUITE,
        "test_lots.py": PYTHON,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = ["-m", "pytest", "-p", "esb.testing.plugin", "-v", "--continue-on-collection-errors", "--color=no"]
    done = subprocess.run(
        [sys.executable, *words], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_cases_are_items_and_tell_what_happened(report: str) -> None:
    assert "plant/routes/lots.test.yaml::lots::a lot is held PASSED" in report
    assert "plant/routes/lots.test.yaml::lots::never FAILED" in report
    assert "expected state `done`, got `dead`" in report
    assert "what happened:" in report
    assert "routes/lots.test.yaml:10:" in report, "the line of the expectation"
    assert "elsewhere" not in report


def test_a_file_with_faults_is_an_error_of_its_own(report: str) -> None:
    assert "routes/broken.test.yaml:1:8: ESB320 there is no route `lotz`" in report


def test_routes_run_in_tests_written_in_python(report: str) -> None:
    assert "test_lots.py::test_what_the_target_got PASSED" in report
    assert "test_lots.py::test_what_goes_wrong PASSED" in report
    assert "3 passed" in report or "1 failed, 3 passed" in report
