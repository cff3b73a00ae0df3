"""What lint says about the options of the file endpoint."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from esb.endpoints.file import FileSink, FileSource
from esb.formats.json import Json
from esb.spec import MISSING, options_of
from esb.spec.schema import options_schema

Options = Callable[[type, Any], tuple[Any, list[str]]]


def test_a_path_alone_is_enough(options: Options) -> None:
    source, problems = options(FileSource, "inbox/*.json")
    assert problems == []
    assert source.path.text == "inbox/*.json"
    assert source.every == timedelta(seconds=5)
    assert source.ready.stable_for == timedelta(seconds=2)
    assert source.seen_by == ("name", "size", "sha256")
    assert source.max_size == 100_000_000
    sink, problems = options(FileSink, "outbox/{{ body.id }}.json")
    assert problems == []
    assert (sink.exists, sink.mkdirs, sink.format) == ("fail", True, None)


def test_every_option_of_the_source_is_read(options: Options) -> None:
    source, problems = options(
        FileSource,
        {
            "path": "inbox/**/*.json",
            "every": "1m",
            "ready": {"stable_for": "20s"},
            "seen_by": ["name", "sha256"],
            "done": {"move": "archive/{{ meta.file_name }}/"},
            "failed": {"move": "/rejected/", "report": "errors.csv"},
            "order": "modified",
            "format": "json",
            "max_size": "20MB",
            "batch": 5,
        },
    )
    assert problems == []
    assert source.every == timedelta(minutes=1)
    assert source.failed.report == "errors.csv"
    assert source.format == Json()
    assert source.max_size == 20_000_000


def test_every_option_of_the_sink_is_read(options: Options) -> None:
    sink, problems = options(
        FileSink,
        {
            "path": "/mnt/erp/{{ body.id }}.json",
            "format": "json",
            "exists": "append",
            "mkdirs": False,
            "body": "body.document",
        },
    )
    assert problems == []
    assert sink.body({"body": {"document": 1}}) == 1


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ({"path": "inbox/"}, "ESB103", "inbox/*"),
        ({"path": ""}, "ESB103", "names a folder"),
        ({"path": "../inbox/*"}, "ESB504", "absolute path"),
        ({"path": "inbox/../../x/*"}, "ESB504", "absolute path"),
        ({"path": "routes/*.yaml"}, "ESB504", "the bus itself"),
        ({"path": "./.esb/*"}, "ESB504", "the bus itself"),
        ({"path": "inbox\\*.csv"}, "ESB103", "inbox/*.csv"),
        ({"path": "in/*", "every": "0s"}, "ESB106", "every: 5s"),
        ({"path": "in/*", "every": "5"}, "ESB104", "5s"),
        ({"path": "in/*", "interval": "5s"}, "ESB101", "`every`"),
        ({"path": "in/*", "ready": {}}, "ESB107", "stable_for: 20s"),
        ({"path": "in/*", "ready": {"stable_for": "2s", "marker": ".ok"}}, "ESB107", "exactly one"),
        ({"path": "in/*", "ready": {"rename": False}}, "ESB107", "exactly one"),
        ({"path": "in/*", "ready": {"marker": "done/x"}}, "ESB103", "marker"),
        ({"path": "in/*", "ready": {"marker": "{name}"}}, "ESB103", "marker"),
        ({"path": "in/*", "seen_by": []}, "ESB102", "seen_by"),
        ({"path": "in/*", "seen_by": ["hash"]}, "ESB105", ""),
        ({"path": "in/*", "done": {}}, "ESB107", "done: { move: archive/ }"),
        ({"path": "in/*", "done": {"delete": True, "move": "x/"}}, "ESB107", "exactly one"),
        ({"path": "in/*", "done": {"move": "./"}}, "ESB106", "watched"),
        ({"path": "in/*", "done": {"move": "../in/"}}, "ESB106", "watched"),
        ({"path": "in/*", "failed": {"move": "."}}, "ESB106", "watched"),
        ({"path": "in/**/*", "done": {"move": "{{ meta.x }}/"}}, "ESB106", "looks into"),
        ({"path": "in/*/*", "done": {"move": "../"}}, "ESB106", "looks into"),
        ({"path": "in/*", "done": {"move": "../../archive/"}}, "ESB504", "absolute path"),
        ({"path": "in/*", "failed": {"move": "x/", "report": "a/b.csv"}}, "ESB105", "report"),
        ({"path": "in/*", "failed": {"move": "x/", "report": "errors.xls"}}, "ESB105", "report"),
        ({"path": "in/*", "max_size": 5}, "ESB111", "MB"),
        ({"path": "in/*", "batch": 0}, "ESB106", "batch"),
        ({"path": "in/*", "format": "jsom"}, "ESB205", "json"),
        ({}, "ESB102", "inbox/*.csv"),
    ],
)
def test_a_fault_in_the_source_is_named_with_what_to_write(options: Options, value: Any, code: str, words: str) -> None:
    source, problems = options(FileSource, value)
    assert source is MISSING
    assert any(problem.startswith(code) and words in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ({"path": "outbox/"}, "ESB103", "outbox/{{ meta.message_id }}.json"),
        ({"path": "{{ body.name }}"}, "ESB504", "outbox/{{ body.name }}"),
        ({"path": "{{ body.folder }}/x.json"}, "ESB504", "begins with a value"),
        ({"path": "../out/x.json"}, "ESB504", "absolute path"),
        ({"path": "connectors/{{ body.x }}.py"}, "ESB504", "the bus itself"),
        ({"path": "esb.yaml"}, "ESB504", "the bus itself"),
        ({"path": "out//{{ body.x }}"}, "ESB103", "two slashes"),
        ({"path": "out\\{{ body.x }}"}, "ESB103", "out/{{ body.x }}"),
        ({"path": "out/x", "exists": "overwrite"}, "ESB105", "replace"),
        ({"path": "out/x", "fileExist": "replace"}, "ESB101", "`exists`"),
        ({"path": "out/x", "mkdirs": "yes"}, "ESB103", "true"),
    ],
)
def test_a_fault_in_the_sink_is_named_with_what_to_write(options: Options, value: Any, code: str, words: str) -> None:
    sink, problems = options(FileSink, value)
    assert sink is MISSING
    assert any(problem.startswith(code) and words in problem for problem in problems), problems


@pytest.mark.parametrize("path", ["{{ site.outbox }}/x-{{ body.id }}.json", "report.json", "out/.staged/{{ body.id }}"])
def test_a_sink_may_write_into_its_sites_folder(options: Options, path: str) -> None:
    assert options(FileSink, path)[1] == []


@pytest.mark.parametrize("cls", [FileSource, FileSink])
def test_every_option_is_described_and_has_an_example(cls: type) -> None:
    for spec in options_of(cls):
        assert spec.doc
        assert spec.example is not None or spec.default in (None, 100_000_000)
    assert options_schema(cls)
