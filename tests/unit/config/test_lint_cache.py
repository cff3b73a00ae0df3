"""A lint of what has not changed says the same again, and of anything that has, something new."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from esb.cli import cli
from esb.config import lint_cache
from esb.config.lint_cache import LintCache, Said
from esb.config.loader import read_workspace

from .conftest import ERP

ROUTE = "route: r\nfrom: { http: { path: /r } }\nsteps:\n  - to: erp.create-ordr\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {"routes/r.yaml": ROUTE, "connectors/erp.yaml": ERP, ".secrets/a": "1", ".esb/x": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_problems_come_back_as_they_were(root: Path) -> None:
    said = Said(tuple(read_workspace(root, environ={}).problems), 0)
    assert said.problems[0].related, "one with a second place"
    cache = LintCache(root)
    cache.keep(cache.state({}), said)
    assert cache.find(cache.state({})) == said


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "routes/r.yaml").write_text(ROUTE + "\n", encoding="utf-8"),
        lambda root: (root / "routes/new.yaml").write_text(ROUTE, encoding="utf-8"),
        lambda root: (root / "esb.yaml").write_text("bus: b\n", encoding="utf-8"),
        lambda root: (root / "connectors/own.py").write_text("", encoding="utf-8"),
        lambda root: (root / ".secrets/b").write_text("", encoding="utf-8"),
        lambda root: (root / "connectors/erp.yaml").unlink(),
        lambda root: (root / "routes/r.yaml").chmod(0o666),
    ],
)
def test_any_change_of_a_file_counts(root: Path, change: Callable[[Path], object]) -> None:
    cache = LintCache(root)
    before = cache.state({})
    assert cache.state({}) == before
    change(root)
    assert cache.state({}) != before


def test_the_environment_the_flags_and_the_program_count(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LintCache(root)
    (root / "esb.yaml").write_text("bus: ${PLANT:-none}\nsecrets: elsewhere   # where\n", encoding="utf-8")
    before = cache.state({})
    assert cache.state({"PLANT": "P10"}) != before
    assert cache.state({"OTHER": "x"}) == before, "nobody names it"
    assert cache.state({"ESB_SECRET_A": "1"}) != before
    assert cache.state({"ESB_SECRET_A": "1"}) == cache.state({"ESB_SECRET_A": "2"}), (
        "not even a hash of a secret is kept"
    )
    (root / "elsewhere").mkdir()
    (root / "elsewhere/b").write_text("x", encoding="utf-8")
    assert cache.state({}) != before
    before = cache.state({})
    assert LintCache(root, ["no-env"]).state({}) != before
    monkeypatch.setattr(lint_cache, "__version__", "9")
    assert cache.state({}) != before


def test_the_command_reads_only_what_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner()
    first = run.invoke(cli, ["lint", str(root)])
    assert (first.exit_code, "ESB301" in first.stdout) == (1, True)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing changed")

    monkeypatch.setattr("esb.config.loader.read_workspace", refuse)
    again = run.invoke(cli, ["lint", str(root)])
    assert (again.exit_code, again.stdout) == (1, first.stdout)
    os.utime(root / "routes/r.yaml", ns=(1, 1))
    assert isinstance(run.invoke(cli, ["lint", str(root)]).exception, AssertionError)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": 1}', '{"state": "%s", "problems": [1], "routes": 0}'])
def test_a_file_that_somebody_broke_is_no_fault(root: Path, text: str) -> None:
    cache = LintCache(root)
    state = cache.state({})
    (root / ".esb/lint.json").write_text(text.replace("%s", state), encoding="utf-8")
    assert cache.find(state) is None


def test_a_workspace_that_never_ran_stays_as_it_is_and_is_remembered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME" if os.name != "nt" else "LOCALAPPDATA", str(tmp_path / "caches"))
    roots = [tmp_path / "one", tmp_path / "two"]
    for number, root in enumerate(roots):
        root.mkdir()
        LintCache(root).keep("x", Said((), number))
        assert list(root.iterdir()) == []
    assert [LintCache(root).find("x") for root in roots] == [Said((), 0), Said((), 1)]
    monkeypatch.setattr(lint_cache, "KEPT", 1)
    LintCache(roots[0]).keep("y", Said((), 5))
    assert [one.find("x") or one.find("y") for one in map(LintCache, roots)] == [Said((), 5), None]


def test_for_somebody_without_a_home_nothing_is_kept_where_nobody_would_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME" if os.name != "nt" else "LOCALAPPDATA", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    (tmp_path / "one").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    LintCache(tmp_path / "one").keep("x", Said((), 0))
    assert LintCache(tmp_path / "one").find("x") is None
    assert [list((tmp_path / name).iterdir()) for name in ("one", "tmp")] == [[], []]


def test_a_cache_that_cannot_be_written_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "caches").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME" if os.name != "nt" else "LOCALAPPDATA", str(tmp_path / "caches"))
    (tmp_path / "one").mkdir()
    LintCache(tmp_path / "one").keep("x", Said((), 0))
    assert LintCache(tmp_path / "one").find("x") is None
