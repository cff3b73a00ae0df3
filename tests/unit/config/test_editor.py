from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft7Validator

from esb.config.editor import catalog, editor_schema, reference_markdown
from esb.config.yaml import read_documents
from esb.registry import FAMILIES, load
from esb.spec import to_plain

from .test_typos import FILES, FILES_WITH_KEYS


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(json.dumps(editor_schema(load())))  # type: ignore[no-any-return]


def plain(text: str) -> Any:
    documents, _ = read_documents(text, "f.yaml", lambda problem: pytest.fail(str(problem)))
    return json.loads(json.dumps(to_plain(documents[0].node), default=float))


def faults(schema: dict[str, Any], text: str) -> list[str]:
    return [error.message for error in Draft7Validator(schema).iter_errors(plain(text))]


def test_the_schema_is_a_schema_and_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    Draft7Validator.check_schema(schema)
    text = json.dumps(schema)
    for name in {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}:
        assert name in schema["$defs"]


@pytest.mark.parametrize("path", FILES_WITH_KEYS)
def test_what_the_loader_takes_the_editor_takes(schema: dict[str, Any], path: str) -> None:
    assert not faults(schema, FILES[path].replace("${ERP_PASSWORD:-none}", "'${ERP_PASSWORD:-none}'"))


def test_a_test_of_a_route_is_left_alone(schema: dict[str, Any]) -> None:
    assert not faults(schema, "route: r\ncases: [ { name: x } ]\n")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("route: r\nfrom: { http: { path: /r } }\nsteps: [ { lgo: x } ]\n", "lgo"),
        ("route: r\nfrom: { http: { pth: /r } }\nsteps: []\n", "pth"),
        ("route: r\nfrom: { htp: {} }\nsteps: []\n", "htp"),
        ("route: r\nsteps: []\n", "from"),
        ("connector: e\ntype: http\nbase_ulr: x\n", "base_ulr"),
        ("bus: b\nstroe: x\n", "stroe"),
    ],
)
def test_an_editor_points_at_the_same_word(schema: dict[str, Any], text: str, word: str) -> None:
    messages = faults(schema, text)
    assert any(word in message for message in messages), messages
    assert not any("under any of the given schemas" in message for message in messages)


def test_every_option_has_a_description(schema: dict[str, Any]) -> None:
    steps = schema["$defs"]["step"]["properties"]
    assert all(step.get("description") for step in steps.values())
    assert set(load().family("step")) < set(steps)


def test_the_catalogue_is_plain_and_whole() -> None:
    items = json.loads(json.dumps(catalog(load())))
    assert {(item["family"], item["name"]) for item in items} == {
        (family, name) for family in FAMILIES for name in load().family(family)
    }
    for item in items:
        assert item["summary"], item["name"]
        for option in item["options"]:
            assert option["doc"], (item["name"], option["name"])
            assert option["type"]
            assert not (option["required"] and option["default"] is not None)


def test_defaults_are_shown_as_they_are_written() -> None:
    http = next(item for item in catalog(load()) if (item["family"], item["name"]) == ("source", "http"))
    defaults = {option["name"]: option["default"] for option in http["options"]}
    assert (defaults["method"], defaults["timeout"], defaults["max_body"]) == ("POST", "30s", None)


def test_the_reference_is_the_same_every_time_and_names_everything() -> None:
    pages = reference_markdown(load())
    assert pages == reference_markdown(load())
    text = "\n".join(pages.values())
    for family in FAMILIES:
        for name in load().family(family):
            assert f"## `{name}`" in text
    assert all(page.endswith("\n") and not page.endswith("\n\n") for page in pages.values())
    assert "| `on_error` |" in pages["routes.md"]
    assert "`dead_letter`" in pages["routes.md"]
    assert "ESB101" in pages["codes.md"]
    assert "`coalesce(" in pages["functions.md"]
