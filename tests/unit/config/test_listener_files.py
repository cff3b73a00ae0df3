"""`tls` of a listener whose files are not there: the bus would not start, so lint says it, wherever it runs."""

from __future__ import annotations

from pathlib import Path

from esb.config.lint_cache import LintCache
from esb.config.loader import read_workspace

from .conftest import Read, good, only

TLS = "{0}: {{ tls: {{ cert: tls/bus.crt, key: tls/bus.key }} }}\n"


def test_each_missing_file_is_a_warning_at_its_place(read: Read) -> None:
    text = "bus: b\nhttp:\n  tls:\n    cert: tls/bus.crt\n    key: ${TLS:-tls}/bus.key\n    client_ca: /etc/no-such-place/ca.crt\n"
    loaded = read({"esb.yaml": text, "tls/bus.crt": "x"})
    good(loaded)  # a laptop has no certificates of the plant
    found = [(problem.code, problem.severity, str(problem.position)) for problem in loaded.problems]
    assert found == [("ESB806", "warning", "esb.yaml:5:10"), ("ESB806", "warning", "esb.yaml:6:16")]
    assert "no file tls/bus.key" in loaded.problems[0].message
    assert "from the folder of esb.yaml" in loaded.problems[0].hint


def test_the_other_listener_has_some_too_and_what_is_there_is_no_fault(read: Read) -> None:
    assert only(read({"esb.yaml": TLS.format("admin"), "tls/bus.crt": "x"})).code == "ESB806"
    assert not read({"esb.yaml": TLS.format("admin"), "tls/bus.key": "x"}).problems


def test_it_may_be_accepted_with_a_reason(read: Read) -> None:
    text = "http:\n  tls:\n    cert: a.crt   # esb: allow ESB806 the plant's machine has it\n    key: a.key\n"
    assert not read({"esb.yaml": text, "a.key": "x"}).problems


def test_a_variable_that_is_not_set_is_one_fault(read: Read) -> None:
    assert only(read({"esb.yaml": "http: { tls: { cert: '${NONE}/a', key: a } }\n", "a": "x"})).code != "ESB806"


def test_texts_of_another_place_are_not_held_against_this_disk(tmp_path: Path) -> None:
    assert not read_workspace(tmp_path, environ={}, texts={"esb.yaml": TLS.format("http")}).problems


def test_a_lint_that_is_remembered_notices_that_a_file_has_come(tmp_path: Path) -> None:
    (tmp_path / "esb.yaml").write_text(TLS.format("http"), encoding="utf-8")
    cache = LintCache(tmp_path)
    before = cache.state({})
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/bus.crt").write_text("x", encoding="utf-8")
    assert cache.state({}) != before
