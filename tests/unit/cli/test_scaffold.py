"""``esb init``, ``new``, ``graph``, ``config``, ``ping``: what they make lints, what exists is never touched."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from esb.cli import cli
from esb.cli.scaffold import BEGINNINGS, CONNECTORS, SOURCES
from esb.config.loader import read_workspace


def esb(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    esb("init", tmp_path / "bus", "--empty")
    return tmp_path / "bus"


def items(*arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
    return list(json.loads(esb(*arguments, code=code).stdout)["items"])


def test_the_name_of_a_bus_is_the_one_of_its_folder_in_plain_letters(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["init", "--template", "empty", str(tmp_path / "Werk Süd Évry")])
    assert done.exit_code == 0, done.output
    assert "bus: werk-sued-evry\n" in (tmp_path / "Werk Süd Évry" / "esb.yaml").read_text()


def test_an_empty_workspace_lints(bus: Path) -> None:
    assert "no problems in 1 route" in esb("lint", bus).output


def test_an_empty_workspace_has_a_test_that_passes_and_the_line_of_the_editor(bus: Path) -> None:
    assert "2 passed, 0 failed" in esb("test", bus).output
    esb("fmt", "--check", bus)
    assert (
        (bus / "routes/hello.yaml")
        .read_text()
        .startswith("# yaml-language-server: $schema=../.vscode/esb.schema.json\n")
    )
    assert (bus / "esb.yaml").read_text().startswith("# yaml-language-server: $schema=.vscode/esb.schema.json\n")
    assert json.loads((bus / ".vscode/esb.schema.json").read_text())["title"] == "esb workspace"
    workflow = (bus / ".github/workflows/esb.yml").read_text()
    for command in re.findall(r"run: esb (\w+)", workflow):
        esb(command, "--help")


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_whatever_a_workspace_begins_with_it_lints_passes_its_tests_and_is_laid_out(begin: str, tmp_path: Path) -> None:
    esb("init", tmp_path / "bus", "--template", begin)
    assert "no problems" in esb("lint", "--strict", tmp_path / "bus").output
    assert ", 0 failed" in esb("test", tmp_path / "bus").output
    esb("fmt", "--check", tmp_path / "bus")


def test_files_from_a_folder_go_row_by_row_to_one_system(tmp_path: Path) -> None:
    esb("init", tmp_path / "drop", "--template", "file-drop")
    said = esb("test", tmp_path / "drop").output
    assert "✓ good rows go to the ERP, a bad one is set aside" in said
    assert "steps covered 5/5" in said
    assert (tmp_path / "drop/esb.yaml").read_text().splitlines()[2] == "bus: drop"
    assert (tmp_path / "drop/samples/lots.csv").is_file()


def test_empty_is_one_of_the_templates_and_goes_with_no_other(tmp_path: Path) -> None:
    esb("init", tmp_path / "a", "--empty")
    esb("init", tmp_path / "b", "--template", "empty")
    esb("init", tmp_path / "c", "--empty", "--template", "empty")
    files = {
        name: sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*") if path.is_file())
        for name in "abc"
    }
    assert files["a"] == files["b"] == files["c"]
    assert "leave one of them out" in esb("init", tmp_path / "d", "--empty", "--template", "file-drop", code=2).output
    assert not (tmp_path / "d").exists()
    assert "'file-drop'" in esb("init", tmp_path / "d", "--template", "files", code=2).output


def test_a_folder_that_a_template_brings_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    assert "samples exists already" in esb("init", tmp_path, "--template", "file-drop", code=1).output
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]


def test_what_is_made_later_has_the_line_of_the_editor_too(bus: Path) -> None:
    (bus / ".vscode/esb.schema.json").unlink()
    esb("new", "route", "lots", "--dir", bus)
    esb("new", "connector", "erp", "--dir", bus)
    for path in ("routes/lots.yaml", "connectors/erp.yaml"):
        assert "$schema=../.vscode/esb.schema.json" in (bus / path).read_text().splitlines()[0]
    assert (bus / ".vscode/esb.schema.json").is_file()


def test_a_route_like_another_a_test_and_a_mapping(bus: Path) -> None:
    esb("new", "route", "bye", "--like", "hello", "--dir", bus)
    assert "path: /bye" in (bus / "routes/bye.yaml").read_text()
    esb("new", "connector", "erp", "--dir", bus)
    esb("new", "route", "out", "--to", "erp.post", "--dir", bus)
    esb("new", "test", "out", "--dir", bus)
    assert "erp.post: { status: 200 }" in (bus / "routes/out.test.yaml").read_text()
    esb("new", "map", "lot-to-erp", "--dir", bus)
    assert "no problems in 3 routes" in esb("lint", bus).output
    assert "3 passed" in esb("test", bus).output
    out = esb("try", "lot-to-erp.jmes", "--data", '{"lot": "1", "qty": 2}', "-C", bus).output
    assert json.loads(out) == {"lot": "1", "quantity": 2}
    assert "did you mean `hello`?" in esb("new", "route", "x", "--like", "helo", "--dir", bus, code=66).output
    assert "did you mean `out`?" in esb("new", "test", "outt", "--dir", bus, code=66).output


def test_the_reference_workspace_comes_with_secrets_of_its_own(tmp_path: Path) -> None:
    esb("init", tmp_path / "bus")
    assert "no problems" in esb("lint", tmp_path / "bus").output
    made = list((tmp_path / "bus" / ".secrets").iterdir())
    assert made
    assert ".secrets/" in (tmp_path / "bus" / ".gitignore").read_text()
    if os.name == "posix":
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in made)


def test_what_exists_is_never_touched(bus: Path) -> None:
    before = (bus / "esb.yaml").read_text()
    assert "exists already" in esb("init", bus, code=1).output
    assert "exists already" in esb("new", "route", "hello", "--dir", bus, code=1).output
    assert (bus / "esb.yaml").read_text() == before


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_a_new_route_lints_and_is_laid_out_whatever_it_begins_with(bus: Path, source: str) -> None:
    more: list[str] = []
    if source in CONNECTORS and source != "http":
        esb("new", "connector", "there", "--type", source, "--dir", bus)
        more = ["--connector", "there"]
        (bus / ".secrets").mkdir(exist_ok=True)
        (bus / ".secrets" / "there").write_text("x")
    esb("new", "route", "my-route", "--from", source, *more, "--dir", bus)
    problems = json.loads(esb("lint", bus, "--format", "json").stdout)["items"]
    assert not [one for one in problems if one["severity"] == "error"], problems
    esb("fmt", "--check", bus)


@pytest.mark.parametrize("kind", sorted(CONNECTORS))
def test_a_new_connector_lints(bus: Path, kind: str) -> None:
    esb("new", "connector", "there", "--type", kind, "--dir", bus)
    problems = json.loads(esb("lint", bus, "--format", "json").stdout)["items"]
    assert not [one for one in problems if one["severity"] == "error"], problems


def test_a_source_that_needs_a_connector_says_so(bus: Path) -> None:
    assert "needs a connector" in esb("new", "route", "r", "--from", "amqp", "--dir", bus, code=2).output


def test_a_bad_name_is_told_a_good_one(bus: Path) -> None:
    assert "lot-hold" in esb("new", "route", "Lot_Hold", "--dir", bus, code=2).output


def test_a_contract_is_at_hand(bus: Path) -> None:
    esb("new", "schema", "lot", "--dir", bus)
    assert (bus / "schemas" / "lot.v1.json").is_file()
    assert "no problems" in esb("lint", bus).output


def test_the_graph_shows_who_hands_to_whom(bus: Path) -> None:
    (bus / "routes" / "b.yaml").write_text(
        "route: b\nfrom: { topic: lots }\nsteps:\n  - to: { route: c }\n---\nroute: c\nfrom: { route: {} }\nsteps:\n  - publish: lots\n"
    )
    edges = {(edge["from"], edge["to"]) for edge in items("graph", bus, "--format", "json")}
    assert {("topic lots", "route b"), ("route b", "route c"), ("route c", "topic lots")} <= edges
    assert ("http POST /hello", "route hello") in edges
    drawn = esb("graph", bus, "--format", "mermaid").output
    assert drawn.startswith("flowchart LR\n")
    assert drawn.count("-->") == len(edges)


def test_the_configuration_shows_no_secret(bus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESB_SECRET_ADMIN", "geheim-4711")
    with (bus / "esb.yaml").open("a") as file:
        file.write("admin: { token: '${secret:admin}' }\n")
    shown = esb("config", bus).output
    assert "admin.token" in shown
    assert "geheim" not in shown
    assert {"name": "admin.port", "value": "8081"} in items("config", bus, "--json")


def test_ping_tells_who_answers(bus: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (bus / "connectors").mkdir()
        (bus / "connectors" / "up.yaml").write_text(f"connector: up\ntype: http\nbase_url: http://127.0.0.1:{port}\n")
        (bus / "connectors" / "db.yaml").write_text("connector: db\ntype: sql\nurl: sqlite:///var/x.db\n")
        assert [item["reached"] for item in items("ping", "--dir", bus, "--json")] == [True, True]
    assert items("ping", "up", "--dir", bus, "--json", code=69)[0]["reached"] is False
    assert "no connector" in esb("ping", "nobody", "--dir", bus, code=66).output


def test_every_system_of_the_reference_workspace_says_yes_in_esb_dev() -> None:
    """Whoever tries it out without a system behind it sees messages that are done."""
    loaded = read_workspace(Path(__file__).parents[3], need_secrets=False)
    assert loaded.workspace is not None
    asked = 0
    for name, system in loaded.workspace.connectors.items():
        for operation, sink in system.operations.items():
            (stub,) = system.settings.stub[operation]
            reply = {"status": stub.status or 200, "headers": {}, "body": stub.json}
            scope = {"body": {}, "headers": {}, "vars": {}, "meta": {"reply": reply}, "site": {}}
            assert sink.success_when is None or sink.success_when.truth(scope), f"{name}.{operation}"
            assert sink.retry_when is None or not sink.retry_when.truth(scope), f"{name}.{operation}"
            asked += 1
    assert asked > 30
