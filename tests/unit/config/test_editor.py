from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft7Validator

from esb.config.editor import catalog, documents, editor_schema, reference_markdown
from esb.config.yaml import read_documents
from esb.registry import FAMILIES, load
from esb.spec import to_plain

from .test_typos import FILES, FILES_WITH_KEYS


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(json.dumps(editor_schema(load())))  # type: ignore[no-any-return]  # JSON


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


def test_an_editor_knows_templates_and_sites(schema: dict[str, Any]) -> None:
    from .test_sites import CONNECTOR, P10, P20, TEMPLATE

    for text in (TEMPLATE, P10, P20, CONNECTOR):
        assert not faults(schema, text)
    assert any("wreks" in message for message in faults(schema, P20.replace("timezone", "wreks")))
    assert any("lgo" in message for message in faults(schema, TEMPLATE.replace("{ log:", "{ lgo:")))
    single = "template: t\nroute: r\nfrom: { timer: { every: 1m } }\nsteps: [ { log: x } ]\n"
    assert not faults(schema, single.replace("steps", "concurrency: '{{ params.n }}'\nsteps"))
    assert any("stpes" in message for message in faults(schema, single.replace("steps", "stpes")))


def test_the_documents_are_in_the_catalogue() -> None:
    assert [item["name"] for item in documents()] == ["bus", "route", "site", "template"]
    assert all(item["summary"] and item["options"] for item in json.loads(json.dumps(documents(), default=str)))


def filled(snippet: dict[str, Any]) -> Any:
    """What an editor makes of a snippet when every place is left as it is offered."""
    text = re.sub(r"\$\{\d+:((?:[^\\}]|\\.)*)\}", lambda found: re.sub(r"\\(.)", r"\1", found[1]), snippet["body"])
    assert "${1" not in text
    return plain(text)


@pytest.mark.parametrize("kind", ["step", "source", "sink"])
def test_what_an_editor_offers_to_begin_with_is_right(schema: dict[str, Any], kind: str) -> None:
    offered = schema["$defs"][kind]["defaultSnippets"]
    assert {one["label"] for one in offered} == set(load().family(kind))  # type: ignore[arg-type]  # a double, or none
    check = Draft7Validator({**schema["$defs"][kind], "$defs": schema["$defs"]})
    found = {one["label"]: [error.message for error in check.iter_errors(filled(one))] for one in offered}
    assert {label: faults for label, faults in found.items() if faults} == {}


def test_a_document_that_an_editor_offers_is_one(schema: dict[str, Any]) -> None:
    offered = schema["defaultSnippets"]
    assert [one["label"] for one in offered] == ["route", "connector", "site", "bus"]
    check = Draft7Validator(schema)
    assert [[error.message for error in check.iter_errors(filled(one))] for one in offered] == [[]] * 4


def test_the_schema_says_what_holds_where_nothing_is_written(schema: dict[str, Any]) -> None:
    source = schema["$defs"]["source"]["properties"]["http"]
    options = next(part for part in source.get("anyOf", [source]) if "properties" in part)["properties"]
    assert (options["method"]["default"], options["reply"]["default"]) == ("POST", "accepted")
    assert schema["$defs"]["route"]["properties"]["enabled"]["default"] is True
    assert "***" not in json.dumps(schema)
