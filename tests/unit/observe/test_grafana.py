"""Dashboard and rules name metrics that the bus has, and stay the same for the same workspace."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from esb.cli import cli

ROOT = Path(__file__).parents[3]
METRIC = re.compile(r"\besb_[a-z_]+")


def made(what: str) -> str:
    done = CliRunner().invoke(cli, ["metrics", what, "-C", str(ROOT)])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(cli, ["metrics", what, "-C", str(ROOT)]).output == done.output
    return done.output


def test_the_dashboard_has_a_panel_for_each_indicator_and_no_two_overlap() -> None:
    board = json.loads(made("dashboard"))
    titles = " ".join(panel["title"] for panel in board["panels"])
    for name in ("blocked-inventory", "hold-propagation", "delayed-releases", "supplier-defects", "scrap-posting", "exception-rate", "replay-activity"):  # fmt: skip
        assert name in titles
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_the_rules_are_what_prometheus_reads() -> None:
    (group,) = yaml.safe_load(made("rules"))["groups"]
    for rule in group["rules"]:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
    assert 'esb_kpi_overdue{kpi="hold-propagation"} > 0' in {rule["expr"] for rule in group["rules"]}


@pytest.mark.parametrize("what", ["dashboard", "rules"])
def test_names_are_those_of_the_metrics_of_a_bus(what: str) -> None:
    """The acceptance tests hold them against a running bus; here they are held against what the code can tell."""
    code = "".join(path.read_text() for path in (ROOT / "esb" / "observe").glob("*.py") if path.name != "grafana.py")
    code += (ROOT / "esb" / "admin" / "insight.py").read_text()
    for name in set(METRIC.findall(made(what))):
        assert name.removesuffix("_bucket") in code, name
