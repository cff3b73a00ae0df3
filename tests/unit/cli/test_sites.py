"""`esb sites` on the example with three plants."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from esb.cli import cli

PLANTS = Path(__file__).parents[3] / "examples" / "plants"


@pytest.fixture
def plants(tmp_path: Path) -> Path:
    root = tmp_path / "plants"
    shutil.copytree(PLANTS, root, ignore=shutil.ignore_patterns(".esb", "var", "qualification"))
    return root


def esb(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["sites", *words])
    assert done.exit_code == code, done.output + done.stderr
    return done


def items(*words: str, code: int = 0) -> list[dict[str, Any]]:
    return list(json.loads(esb(*words, "--json", code=code).stdout)["items"])


def test_every_plant_is_listed(plants: Path) -> None:
    found = {site["site"]: [route["route"] for route in site["routes"]] for site in items("ls", "-C", str(plants))}
    assert found == {"C05": ["results-c05", "hold-notices-c05"], "P10": ["hold-p10"], "P20": ["hold-p20"]}
    assert "1 stopped" in esb("ls", "-C", str(plants)).stdout


def test_a_plant_is_added_and_lints(plants: Path) -> None:
    words = ["add", "P30", "--template", "hold-sync", "-C", str(plants), "--locale", "fr-FR", "--value", "line=7"]
    given = [
        "--param",
        "werks=0030",
        "--param",
        "erp.url=https://erp30.example",
        "--table",
        "defect-codes=defect-codes-p20",
    ]
    missing = esb(*words, code=2)
    assert "werks=…  (Plant in the ERP; like ^[0-9]{4}$)" in missing.stderr
    assert "erp.url=…  (Base URL of the plant's system)" in missing.stderr
    path = plants / "routes" / "sites" / "P30.yaml"
    assert not path.exists()
    unfinished = esb(*words, "--stdout").stdout
    assert "werks:   # TODO: Plant in the ERP; like ^[0-9]{4}$" in unfinished
    path.write_text(unfinished, encoding="utf-8")
    refused = CliRunner().invoke(cli, ["lint", str(plants)])
    for name in ("werks", "url"):  # the one of which only the type is said as well
        assert f"parameter `{name}` must be a text, not null" in refused.output
    path.unlink()
    assert "ESB316" in esb(*words, *given, "--param", "werks=30", code=1).stderr
    assert not path.exists()
    esb(*words, *given)
    text = path.read_text(encoding="utf-8")
    assert 'werks: "0030"   # Plant in the ERP; like ^[0-9]{4}$' in text
    assert "# max_wait: 1m   # Longest wait between two attempts" in text
    assert "line: 7" in text
    lint = CliRunner().invoke(cli, ["lint", str(plants), "--strict"])
    assert lint.exit_code == 0, lint.output
    assert "exists already" in esb(*words, *given, code=1).stderr


def test_a_plant_with_another_kind_of_system_is_added(plants: Path) -> None:
    words = ["--template", "hold-sync", "--param", "werks=0030", "--param", "erp_map=hold_to_ecc.jmes"]
    words += ["--connector", "erp=erp-ecc", "--param", "erp.url=https://erp30.example", "--param", "erp.client=300"]
    esb("add", "P30", *words, "-C", str(plants))
    text = (plants / "routes" / "sites" / "P30.yaml").read_text(encoding="utf-8")
    assert '  erp:\n    connector: erp-ecc\n    params:\n      url: "https://erp30.example"' in text
    assert [i["route"] for s in items("ls", "-C", str(plants)) if s["site"] == "P30" for i in s["routes"]] == [
        "hold-p30"
    ]
    assert "ESB110" in esb("add", "../P31", *words, "-C", str(plants), code=1).stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--template", "hold-snyc"), 66, "no template hold-snyc"),
        (("--template", "hold-sync", "--param", "wreks=1"), 2, "nothing has the parameter wreks"),
        (("--template", "hold-sync", "--param", "werks"), 2, "name=value"),
        (("--template", "hold-sync", "--connector", "erp=nothing"), 66, "no connector nothing"),
    ],
)
def test_what_cannot_be_added_is_said(plants: Path, words: tuple[str, ...], code: int, said: str) -> None:
    assert said in esb("add", "P30", *words, "-C", str(plants), code=code).stderr


def test_a_plant_is_proved_and_the_record_says_on_what(plants: Path, tmp_path: Path) -> None:
    out = tmp_path / "records"
    record = items("check", "C05", "-C", str(plants), "--out", str(out))[0]
    assert record["verdict"] == "passed"
    verdicts = {one["check"]: one["verdict"] for one in record["checks"]}
    assert verdicts == {
        "configuration": "passed", "parameters": "passed", "tables": "passed", "tests": "passed", "endpoints": "open",
    }  # fmt: skip
    assert json.loads((out / "C05.json").read_text(encoding="utf-8"))["items"][0]["files"] == record["files"]
    assert set(record["files"]) >= {"routes/sites/C05.yaml", "transforms/tables/defect-codes-c05.csv"}
    sample = plants / "samples" / "C05" / "results" / "results.csv"
    assert record["files"]["samples/C05/results/results.csv"] == hashlib.sha256(sample.read_bytes()).hexdigest()
    page = (out / "C05.html").read_text(encoding="utf-8")
    assert '<span class="passed">passed</span>' in page
    assert "http" not in page.replace("http-equiv", "")[: page.index("<h1>")]  # nothing from elsewhere
    assert items("check", "C05", "-C", str(plants), "--out", str(out), "--strict", code=1)[0]["verdict"] == "open"


def test_every_value_without_a_row_is_named(plants: Path, tmp_path: Path) -> None:
    rows = "lot;defect;value;taken\n1;K7;1,5;02.03.2026 10:30\n2;K1;1,5;02.03.2026 10:30\n3;<b>;2;02.03.2026 10:30\n"
    (plants / "samples" / "C05" / "results" / "new.csv").write_text(rows, encoding="utf-8")
    bad = tmp_path / "bad.csv"
    bad.write_text("lot;defect;value;taken\n1;K1;1,5;yesterday\n", encoding="utf-8")
    done = esb("check", "C05", "-C", str(plants), "--out", str(tmp_path), "--samples", f"results={bad}", code=1)
    assert "transforms/tables/defect-codes-c05.csv has no row for 'K7': samples/C05/results/new.csv" in done.stdout
    assert "has no row for '<b>'" in done.stdout
    assert "has no row for 'K1'" not in done.stdout
    assert "bad.csv did not get through" in done.stdout
    assert "&lt;b&gt;" in (tmp_path / "C05.html").read_text(encoding="utf-8")


def test_a_plant_with_a_fault_is_not_proved(plants: Path, tmp_path: Path) -> None:
    site = plants / "routes" / "sites" / "P20.yaml"
    site.write_text(site.read_text(encoding="utf-8").replace('client: "200"', 'client: "2"'), encoding="utf-8")
    record = items("check", "P20", "-C", str(plants), "--out", str(tmp_path), code=1)[0]
    assert [(one["check"], one["verdict"]) for one in record["checks"]] == [("configuration", "failed")]
    assert record["checks"][0]["items"][0]["code"] == "ESB316"
    assert "no site P99" in esb("check", "P99", "-C", str(PLANTS), "--out", str(tmp_path), code=66).stderr


def test_plants_are_compared(plants: Path) -> None:
    found = {item["what"]: (item["first"], item["second"]) for item in items("diff", "P10", "P20", "-C", str(plants))}
    assert found["timezone"] == ("Europe/Vienna", "America/New_York")
    assert found["templates.hold-sync.werks"] == ("1000", "2000")
    assert found["tables.defect-codes"] == (None, "defect-codes-p20")
    assert "values.plant" not in found


def test_overrides_are_drift(plants: Path) -> None:
    assert "no drift" in esb("drift", "-C", str(plants)).stdout
    site = plants / "routes" / "sites" / "P10.yaml"
    site.write_text(site.read_text(encoding="utf-8") + "overrides: { hold: { retry: { max: 3 } } }\n", encoding="utf-8")
    found = items("drift", "-C", str(plants))
    assert [(item["route"], item["kind"], item["what"], item["template"], item["here"]) for item in found] == [
        ("hold-p10", "override", "retry.max", None, 3)
    ]
    esb("drift", "P10", "--strict", "-C", str(plants), code=1)
    esb("drift", "P20", "--strict", "-C", str(plants))
    site.write_text("site: P10\nuse: [ nothing ]\n", encoding="utf-8")
    assert [item["kind"] for item in items("drift", "-C", str(plants), code=1)] == ["faulty"]


def test_a_secret_of_a_site_is_in_no_record(plants: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESB_SECRET_ERP10", "sesame-123")
    connector = plants / "connectors" / "erp.yaml"
    text = connector.read_text(encoding="utf-8").replace("params:", "params:\n  key: { type: string }")
    connector.write_text(text + 'auth: { api_key: { key: "{{ params.key }}" } }\n', encoding="utf-8")
    site = plants / "routes" / "sites" / "P10.yaml"
    site.write_text(
        site.read_text(encoding="utf-8").replace("erp: {", 'erp: { key: "${secret:erp10}", '), encoding="utf-8"
    )
    esb("check", "P10", "-C", str(plants), "--out", str(tmp_path))
    shown = "".join((tmp_path / name).read_text(encoding="utf-8") for name in ("P10.json", "P10.html"))
    shown += esb("ls", "-C", str(plants), "--json").stdout + esb("diff", "P10", "P20", "-C", str(plants)).stdout
    assert "sesame" not in shown
    assert "***" in shown
