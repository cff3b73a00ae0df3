"""What the tables of other tools' words suggest exists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from esb.config.aliases import FORMATS, KEYS, SINKS, SOURCES, STEPS, Word, plain, reader_aliases, words_of
from esb.config.catalogue import option_data
from esb.config.model import ConnectorSettings, OnError, Settings
from esb.config.routes import RouteOptions
from esb.config.steps import MODIFIERS
from esb.registry import FAMILIES, Family, load
from esb.spec import options_of
from esb.steps.base import RetryPolicy

TABLES: list[tuple[Mapping[str, Word], Family]] = [
    (STEPS, "step"),
    (SOURCES, "source"),
    (SINKS, "sink"),
    (FORMATS, "format"),
]


@pytest.mark.parametrize(("table", "family"), TABLES, ids=["steps", "sources", "sinks", "formats"])
def test_no_word_of_ours_is_called_somebody_elses(table: Mapping[str, Word], family: Family) -> None:
    ours = {plain(name) for name in load().family(family)}
    assert not ours & set(table)
    assert all(word == plain(word) for word in table)


@pytest.mark.parametrize(("table", "family"), TABLES, ids=["steps", "sources", "sinks", "formats"])
def test_what_is_suggested_exists(table: Mapping[str, Word], family: Family) -> None:
    known = {name for each in FAMILIES for name in load().family(each)}
    known |= MODIFIERS | {"on_error", "steps", "otherwise", "rate", "circuit", "key", "connector", "type"}
    for word, (_, here) in table.items():
        for code in re.findall(r"`([^`]+)`", here):
            first = re.match(r"[{ ]*([a-z_]+)", code)
            assert first, (word, code)
            assert first[1] in known, (word, code)


def test_other_words_for_keys_stand_for_keys() -> None:
    classes = [c.cls for family in FAMILIES for c in load().family(family).values()]
    classes += [RouteOptions, Settings, ConnectorSettings, OnError, RetryPolicy]
    known = set(MODIFIERS) | {"operations", "when", "otherwise", "to", "if"}

    def learn(options: list[dict[str, Any]]) -> None:
        for option in options:
            known.add(option["name"])
            learn(option.get("options", []))

    for cls in classes:
        learn([option_data(spec) for spec in options_of(cls)])
    for word, names in KEYS.items():
        assert word == plain(word)
        assert set(names) <= known, (word, set(names) - known)


def test_words_are_found_however_they_are_written() -> None:
    assert words_of(STEPS, "setBody") == words_of(STEPS, "set-body") == words_of(STEPS, "set_body")
    assert words_of(STEPS, "nothing-like-it") is None
    found = words_of(SOURCES, "imap")
    assert found is not None
    assert found[1].startswith("there is nothing for it yet")
    assert reader_aliases()["formats"]["gson"] == "here it is `json`"


def test_mail_is_called_by_its_protocol() -> None:
    found = words_of(SINKS, "mail")
    assert found is not None
    assert found[1].startswith("here it is `smtp`")
