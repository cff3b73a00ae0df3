"""Which changes of a contract break whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esb.contracts import JsonContract
from esb.contracts.compat import changes

OBJECT: dict[str, Any] = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string"}, "qty": {"type": "number", "minimum": 0}, "kind": {"enum": ["a", "b"]}},
}


def changed(**words: Any) -> dict[str, Any]:
    return {**OBJECT, **words}


def with_field(name: str, schema: Any) -> dict[str, Any]:
    return changed(properties={**OBJECT["properties"], name: schema})


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (OBJECT, []),
        (changed(title="x", description="y"), []),
        (with_field("note", {"type": "string"}), [("/properties/note", "nobody")]),
        (with_field("qty", {"type": "string"}), [("/properties/qty/type", "senders"), ("/properties/qty/type", "readers"),
                                                 ("/properties/qty/minimum", "nobody")]),
        (with_field("qty", {"type": "integer", "minimum": 0}), [("/properties/qty/type", "senders")]),
        (with_field("qty", {"type": ["number", "null"], "minimum": 0}), [("/properties/qty/type", "readers")]),
        (with_field("qty", {"type": "number", "minimum": 1}), [("/properties/qty/minimum", "senders")]),
        (with_field("qty", {"type": "number"}), [("/properties/qty/minimum", "nobody")]),
        (with_field("kind", {"enum": ["a"]}), [("/properties/kind/enum", "senders")]),
        (with_field("kind", {"enum": ["a", "b", "c"]}), [("/properties/kind/enum", "readers")]),
        (with_field("id", {"type": "string", "pattern": "x"}), [("/properties/id/pattern", "senders")]),
        (changed(required=["id", "qty"]), [("/required", "senders")]),
        (changed(required=[]), [("/required", "readers")]),
        (changed(additionalProperties=False), [("/additionalProperties", "senders")]),
        (changed(properties={"id": {"type": "string"}}), [("/properties/qty", "readers"), ("/properties/kind", "readers")]),
    ],
)  # fmt: skip
def test_each_change_says_whom_it_breaks(new: Any, found: list[tuple[str, str]]) -> None:
    assert [(change.where, change.breaks) for change in changes(OBJECT, new)] == found


def test_references_are_followed_and_may_go_round() -> None:
    def tree(leaf: str) -> dict[str, Any]:
        node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "leaf": {"type": leaf}}}
        return {"$ref": "#/$defs/node", "$defs": {"node": node}}

    assert [(change.where, change.words) for change in changes(tree("string"), tree("number"))] == [
        ("/properties/leaf/type", "string is refused now"),
        ("/properties/leaf/type", "number may come now"),
    ]
    assert changes({"$ref": "a.v1.json"}, {"$ref": "a.v1.json"}) == []
    assert [change.breaks for change in changes({"$ref": "a.v1.json"}, {"$ref": "b.v1.json"})] == ["senders"]


# -- what is called harmless is harmless --------------------------------------------------------------------------------------

scalars = st.sampled_from([None, True, 0, 1, 5, "a", "bcd", ""])
leaves = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "number", "integer", "boolean", ["string", "null"]]),
        "enum": st.lists(scalars, min_size=1, max_size=3, unique_by=repr),
        "minimum": st.integers(0, 3),
        "maxLength": st.integers(0, 3),
    },
)
schemas = st.recursive(
    leaves,
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)},
            optional={
                "required": st.lists(st.sampled_from("xyz"), max_size=2, unique=True),
                "additionalProperties": st.booleans() | leaves,
            },
        )
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner})
    ),
    max_leaves=4,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=250)
@given(schemas, schemas, st.lists(values, min_size=5, max_size=10))
def test_nobody_who_sends_is_refused_after_a_change_that_breaks_no_senders(
    old: Any, new: Any, bodies: list[Any]
) -> None:
    if any(change.breaks == "senders" for change in changes(old, new)):
        return
    before, after = (JsonContract.compile("x.v1", schema, "schemas/x.v1.json").validator for schema in (old, new))
    for body in bodies:
        if before.is_valid(body):
            # a field that is new may have a form that others used for something else: the change says so
            assert after.is_valid(body) or any("a form of its own" in change.words for change in changes(old, new))
