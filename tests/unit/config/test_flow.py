"""Fields and variables that can never be there are found before any message comes; what is not known is not judged."""

from __future__ import annotations

from textwrap import indent

import pytest

from esb.errors import Problem

from .conftest import Read, good

CONTRACT = """{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "id": { "type": "string" },
    "severity": { "enum": ["minor", "major"] },
    "qty": { "type": "number" },
    "lot": { "$ref": "lot.v1.json" },
    "lines": { "type": "array", "items": { "$ref": "#/$defs/line" } },
    "loose": { "type": "object", "properties": { "colour": { "type": "string" } } },
    "any": {},
    "texts": { "type": "object", "additionalProperties": { "type": "string" } },
    "codes": { "type": "object", "patternProperties": { "^x_": { "type": "string" } }, "additionalProperties": false },
    "who": { "oneOf": [
      { "type": "object", "properties": { "name": { "type": "string" } }, "additionalProperties": false },
      { "type": "object", "properties": { "number": { "type": "string" } }, "additionalProperties": false }
    ] }
  },
  "$defs": { "line": {
    "type": "object",
    "properties": { "pos": { "type": "integer" }, "qty": { "type": "number" }, "sub": { "$ref": "#/$defs/line" } },
    "additionalProperties": false
  } }
}
"""
LOT = """{
  "type": "object",
  "properties": { "id": { "type": "string" }, "erp_no": { "type": "string" } },
  "additionalProperties": false
}
"""
ERP = """connector: erp
type: http
base_url: https://erp.example.com
operations:
  post: { path: "/lots/{{ body.lot_no }}", body: "{ qty: body.qty }" }
"""
HEAD = "route: r\nfrom: { http: { path: /r, contract: nc.v1 } }\nsteps:\n"


def files(steps: str, head: str = HEAD, **more: str) -> dict[str, str]:
    return {
        "routes/r.yaml": head + indent(steps, "  ") + "\n",
        "schemas/nc.v1.json": CONTRACT,
        "schemas/lot.v1.json": LOT,
        "connectors/erp.yaml": ERP,
        **more,
    }


def problems(read: Read, steps: str, **more: str) -> list[Problem]:
    return read(files(steps, **more)).problems


@pytest.mark.parametrize(
    ("steps", "code", "severity", "place", "message", "hint"),
    [
        ("- filter: body.lotId", "ESB402", "error", (4, 18, 5), "`body.lotId` is not in contract nc.v1",
         "did you mean `body.lot.id`?"),
        ("- filter: body.erp_no", "ESB402", "error", (4, 18, 6), "`body.erp_no` is not in contract nc.v1",
         "did you mean `body.lot.erp_no`?"),
        ("- filter: body.lot.erpNo", "ESB402", "error", (4, 22, 5), "`body.lot.erpNo` is not in contract lot.v1",
         "did you mean `body.lot.erp_no`?"),
        ('- filter: "body.lines[?qtty > `1`]"', "ESB402", "error", (4, 26, 4),
         "`body.lines[].qtty` is not in contract nc.v1", "did you mean `body.lines[].qty`?"),
        ("- filter: body.lines[0].sub.sub.post", "ESB402", "error", (4, 35, 4),
         "`body.lines[].sub.sub.post` is not in contract nc.v1", "did you mean `body.lines[].sub.sub.pos`?"),
        ('- filter: "map(&possition, body.lines)"', "ESB402", "error", (4, 19, 9), "`body.lines[].possition` is not in",
         "known here: pos, qty, sub"),
        ("- filter: body.lines.pos", "ESB402", "error", (4, 24, 3),
         "`body.lines.pos` cannot be there: `body.lines` is a list", "`body.lines[].pos`"),
        ("- filter: body.id.no", "ESB402", "error", (4, 21, 2), "`body.id.no` cannot be there: `body.id` is a text",
         "`body.id` has no fields"),
        ("- filter: body.loose.color", "ESB402", "warning", (4, 24, 5), "`body.loose.color` is not declared in",
         "did you mean `body.loose.colour`?"),
        ("- filter: body.codes.y_1", "ESB402", "error", (4, 24, 3), "`body.codes.y_1` is not in", ""),
        ("- filter: body.who.nane", "ESB402", "error", (4, 22, 4), "`body.who.nane` is not in",
         "did you mean `body.who.name`?"),
        ("- filter: meta.recieved_at", "ESB402", "warning", (4, 18, 11), "`meta.recieved_at` is not declared in `meta`",
         "did you mean `meta.received_at`?"),
        ('- log: "lot {{ body.lot.erpno }}"', "ESB402", "error", (4, 27, 5), "`body.lot.erpno` is not in",
         "did you mean `body.lot.erp_no`?"),
        ('- log: "{% for l in body.lines %}{{ l.possition }}{% endfor %}"', "ESB402", "error", (4, 41, 9),
         "`body.lines[].possition` is not in", "known here"),
        ("- map: { head: { lot: body.lot.id } }\n- filter: body.head.lott", "ESB402", "error", (5, 23, 4),
         "`body.head.lott` is not in the body that the `map` in line 4 makes", "did you mean `body.head.lot`?"),
        ("- split:\n    each: body.lines\n    key: body.poss\n    steps: [ { log: x } ]", "ESB402", "error", (6, 17, 4),
         "`body.poss` is not in", "did you mean `body.pos`?"),
        ("- fanout: { a: { steps: [ { filter: body.idd } ] } }", "ESB402", "error", (4, 44, 3), "`body.idd` is not in",
         "did you mean `body.id`?"),
        ("- map: { lot: body.lot.id, qty: body.qty }\n- to: erp.post", "ESB402", "error", (5, 9, 8),
         "`body.lot_no` is not in the body that the `map` in line 4 makes (`erp.post` reads it)", "did you mean `body.lot`?"),
        ("- filter: vars.lot\n- set: { vars.lot: body.lot }", "ESB405", "error", (4, 18, 3),
         "`vars.lot` is read before it is set", "move the step"),
        ("- set: { vars.lot: body.lot }\n- filter: vars.lot.idd", "ESB402", "error", (5, 22, 3), "`vars.lot.idd` is not in",
         "did you mean `vars.lot.id`?"),
        ("- filter: body.severity == 'majr'", "ESB408", "warning", (4, 13, 4),
         "`body.severity` is never 'majr': contract nc.v1 allows 'minor', 'major'", "did you mean 'major'?"),
        ("- filter: body.qty == '5'", "ESB408", "warning", (4, 13, 4), "`body.qty` is a number, compared with a text",
         "write `5` in backticks"),
        ('- set: { vars.x: "add(body.id, `1`)" }', "ESB408", "warning", (4, 25, 4),
         "`add` needs a number, `body.id` is a text", "write `number(body.id)`"),
    ],
)  # fmt: skip
def test_what_can_never_be_there_is_found_with_what_is(
    read: Read, steps: str, code: str, severity: str, place: tuple[int, int, int], message: str, hint: str
) -> None:
    found = problems(read, steps)
    assert len(found) == 1, found
    problem, at = found[0], found[0].position
    assert (problem.code, problem.severity) == (code, severity)
    assert (at.path, at.line, at.column, at.length) == ("routes/r.yaml", *place)
    assert message in problem.message
    assert hint in problem.hint


@pytest.mark.parametrize(
    "steps",
    [
        # what a contract leaves open, or says with other words
        "- filter: body.any.thing.at.all",
        "- filter: body.loose.weight",
        "- filter: body.texts.whatever",
        "- filter: body.codes.x_9",
        "- set: { vars.a: body.who.name, vars.b: body.who.number }",
        '- filter: "body.lines[].sub[].sub | [0]"',
        '- filter: "sort_by(body.lines, &qty)[-1].pos"',
        "- filter: \"body.severity == 'major' || body.severity == 'minor'\"",
        # what nobody can foresee
        "- parse: { as: json, from: body.id }\n- filter: body.anything",
        "- transform: { jinja: '{}', format: json }\n- filter: body.anything",
        "- enrich: { http: { url: 'https://x.example/' } }\n- filter: body.anything",
        "- enrich: { http: { url: 'https://x.example/' } }\n  into: vars.answer\n- filter: vars.answer.x",
        # one way or the other
        "- map: { a: body.id }\n  if: body.lot\n- set: { vars.x: body.a, vars.y: body.qty }",
        "- choose:\n    - { when: body.lot, steps: [ { map: { a: body.id } } ] }\n"
        "    - otherwise: [ { map: { b: body.id } } ]\n- set: { vars.x: body.a, vars.y: body.b }",
        "- choose: [ { when: body.lot, steps: [ { set: { vars.x: body.id } } ] } ]\n- filter: vars.x",
        # what is set is there
        "- set: { body.fresh.one: body.id, vars.x: body.fresh.one }\n- filter: vars.x && body.fresh.one && body.id",
        "- map: { a: body.id, note?: body.lot.id }\n- filter: body.note",
        "- log: \"{{ body.lot.id.upper() }} {{ body.lines | length }} {{ (body.lines | sort(attribute='pos'))[0].pos }}\"",
        '- log: "{% set x = body.lot %}{% if x %}{% set x = body.qty %}{% endif %}{{ x.foo }}"',
        "- to: { sql: { connector: db, statement: 'insert into t values (:a)', each: body.lines, values: { a: body.pos } } }",
        "- aggregate: { by: body.id, complete: { size: 2 } }\n- filter: body[0].lot.id",
    ],
)  # fmt: skip
def test_what_may_be_there_is_not_judged(read: Read, steps: str) -> None:
    database = "connector: db\ntype: sql\nurl: sqlite:///x.db\n"
    assert not good(read(files(steps, **{"connectors/db.yaml": database}))).problems


def test_a_fault_in_a_file_is_shown_in_the_file_and_in_its_contract(read: Read) -> None:
    text = "# what the ERP wants\n{\n  lot: body.lot.id,\n  no: body.lot.erp_nr\n}\n"
    found = problems(read, "- transform: hold.jmes\n- filter: body.lott", **{"transforms/hold.jmes": text})
    assert [str(problem.position) for problem in found] == ["routes/r.yaml:5:18", "transforms/hold.jmes:4:16"]
    assert found[1].hint == "did you mean `body.lot.erp_no`?"
    assert [str(at) for at, _ in found[1].related] == ["routes/r.yaml:4:5", "schemas/lot.v1.json:3:57"]


def test_a_file_for_two_kinds_of_messages_may_read_the_fields_of_both(read: Read) -> None:
    other = "route: o\nfrom: { http: { path: /o, contract: lot.v1 } }\nsteps: [ { transform: both.jmes } ]\n"
    text = "{ lot: body.lot.id || body.id, no: body.erp_no, wrong: body.wrong }"
    found = problems(read, "- transform: both.jmes", **{"routes/o.yaml": other, "transforms/both.jmes": text})
    assert [problem.message.split(" ")[0] for problem in found] == ["`body.wrong`"]


def test_key_dedupe_and_track_see_the_contract_of_the_source(read: Read) -> None:
    head = (
        "route: r\nfrom: { http: { path: /r, contract: nc.v1 } }\nkey: body.lot.no\ndedupe: body.idd\n"
        "track: { lot: body.lot.id, qty: body.qtty }\nsteps:\n"
    )
    found = read(files("- log: x", head)).problems
    assert [(problem.position.line, problem.message.split(" ")[0]) for problem in found] == [
        (3, "`body.lot.no`"),
        (4, "`body.idd`"),
        (5, "`body.qtty`"),
    ]


def test_a_validate_adds_what_its_contract_says(read: Read) -> None:
    head = "route: r\nfrom: { http: { path: /r } }\nsteps:\n"
    found = read(files("- filter: body.idd\n- validate: nc.v1\n- filter: body.idd", head)).problems
    assert [problem.position.line for problem in found] == [6]


@pytest.mark.parametrize(
    ("steps", "messages"),
    [
        ("- map: { id: body.id, qty: body.qty }\n- validate: out.v1", ["`body.lot` is never there, and contract out.v1 requires it"]),
        ("- map: { id: body.id, lot: { no: body.lot.id } }\n- validate: out.v1", []),
        ("- map: { id: body.id, lot: { no: body.lot.id }, note?: body.id }\n- validate: out.v1",
         ["`body.note` is made, and contract out.v1 refuses it"]),
        ("- map: { id: body.id, lot: { id: body.lot.id } }\n- validate: out.v1",
         ["`body.lot.id` is made, and contract out.v1 refuses it"]),
        ("- map: { id: body.id, lot: [ body.lot.id ] }\n- validate: out.v1",
         ["`body.lot` is a list, contract out.v1 wants an object"]),
        ("- map: { id: body.id, lot: { no: body.id }, lines: [ { x: body.id } ] }\n- validate: out.v1",
         ["`body.lines[].pos` is never there, and contract out.v1 requires it"]),
        ("- map: { id: body.id }\n  if: body.qty\n- validate: out.v1", []),
        ("- map: { id: body.id, lot: body.lot }\n- validate: { contract: out.v1, as: body.lot }", []),
        ("- transform: make.jmes\n- validate: out.v1", ["`body.lot` is never there, and contract out.v1 requires it"]),
    ],
)  # fmt: skip
def test_a_mapping_that_its_contract_always_refuses_is_an_error(read: Read, steps: str, messages: list[str]) -> None:
    out = """{
  "type": "object", "additionalProperties": false, "required": ["id", "lot"],
  "properties": {
    "id": {}, "qty": {},
    "lot": { "type": "object", "properties": { "no": { "type": "string" } }, "additionalProperties": false },
    "lines": { "type": "array", "items": { "type": "object", "required": ["pos"] } }
  }
}"""
    found = problems(read, steps, **{"schemas/out.v1.json": out, "transforms/make.jmes": "{ id: body.id }\n"})
    assert [(problem.code, problem.message) for problem in found] == [("ESB409", message) for message in messages]
    assert all(problem.position.line == 4 + steps[: steps.index("- validate")].count("\n") for problem in found)
    assert all(problem.related for problem in found)


PUBLISHER = "route: p\nfrom: { http: { path: /p, contract: lot.v1 } }\nsteps:\n  - publish: lots\n"
READER = "route: r\nfrom: { topic: lots }\nsteps:\n"


def heard(read: Read, steps: str, **more: str) -> list[Problem]:
    found = read(files(steps, READER, **{"routes/p.yaml": PUBLISHER, **more})).problems
    return [problem for problem in found if problem.code in ("ESB402", "ESB408", "ESB409")]


def test_what_a_topic_brings_is_what_its_publishers_know_of_it(read: Read) -> None:
    (problem,) = heard(read, "- filter: body.erpNo == '7'")
    assert (problem.code, problem.severity, problem.position.path) == ("ESB402", "error", "routes/r.yaml")
    assert "`body.erpNo` is not in contract lot.v1" in problem.message
    assert "erp_no" in problem.hint
    places = [(at.path, at.line, words) for at, words in problem.related]
    assert ("routes/p.yaml", 4, "the route `p` publishes it here") in places
    assert any(path == "schemas/lot.v1.json" for path, _, _ in places)


def test_the_key_of_a_reader_and_a_file_that_it_uses_are_held_against_the_publisher_too(read: Read) -> None:
    head = READER.replace("steps:", "key: body.lotId\nsteps:")
    keyed = read(files("- log: x", head, **{"routes/p.yaml": PUBLISHER})).problems
    assert [problem.position.line for problem in keyed if problem.code == "ESB402"] == [3]
    (problem,) = heard(read, "- transform: lot.jmes", **{"transforms/lot.jmes": "{ no: body.erpNo }\n"})
    assert problem.position.path == "transforms/lot.jmes"
    assert {at.path for at, _ in problem.related} >= {"routes/r.yaml", "routes/p.yaml"}


def test_it_goes_on_over_several_topics_and_what_a_map_makes_counts(read: Read) -> None:
    middle = "route: m\nfrom: { topic: lots }\nsteps: [ { map: { no: body.id } }, { to: { topic: numbers } } ]\n"
    reader = READER.replace("lots", "numbers")
    found = read(files("- filter: body.id", reader, **{"routes/p.yaml": PUBLISHER, "routes/m.yaml": middle})).problems
    (problem,) = [one for one in found if one.code == "ESB402"]
    assert ("routes/m.yaml", 3) in {(at.path, at.line) for at, _ in problem.related}


def test_a_body_that_is_published_for_itself_is_what_readers_see(read: Read) -> None:
    publisher = PUBLISHER.replace("publish: lots", 'publish: { topic: lots, body: "{ lot: body.id }" }')
    assert heard(read, "- filter: body.lot", **{"routes/p.yaml": publisher}) == []
    assert len(heard(read, "- filter: body.id", **{"routes/p.yaml": publisher})) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"routes/q.yaml": "route: q\nfrom: { http: { path: /q } }\nsteps: [ { publish: lots } ]\n"},
        {
            "routes/q.yaml": "route: q\nfrom: { http: { path: /q } }\nsteps: [ { filter: body.a } ]\n"
            "on_error: [ { for: any, steps: [ { publish: lots } ] } ]\n"
        },
        {
            "routes/p.yaml": PUBLISHER.replace("publish", "python: own.f\n  - publish"),
            "connectors/own.py": "def f(): ...\n",
        },
        {"routes/q.yaml": "route: q\nfrom: { topic: lots }\nsteps: [ { publish: lots } ]\n"},
        {"routes/q.yaml": "route: q\nfrom: { http: { path: /q } }\nsteps: [ { publsh: lots } ]\n"},
        {"routes/q.yaml": "route: q\nfrom: { http: { path: /q } }\nsteps: [ { publish: lots\n"},
    ],
    ids=[
        "another publisher",
        "a fallback that publishes",
        "unknown body",
        "a circle",
        "a route with faults",
        "no yaml",
    ],
)
def test_where_not_every_publisher_is_known_nothing_is_judged(read: Read, more: dict[str, str]) -> None:
    assert heard(read, "- filter: body.erpNo == '7'", **more) == []


def test_several_publishers_are_known_together(read: Read) -> None:
    other = (
        "route: q\nfrom: { http: { path: /q } }\nsteps: [ { map: { id: body.x, extra: body.y } }, { publish: lots } ]\n"
    )
    assert heard(read, "- filter: body.extra", **{"routes/q.yaml": other}) == []
    assert len(heard(read, "- filter: body.extr", **{"routes/q.yaml": other})) == 1


GIVER = "route: p\nfrom: { http: { path: /p, contract: lot.v1 } }\nsteps:\n  - to: { route: r }\n"
TAKER = "route: r\nfrom: { route: {} }\nsteps:\n"
SENDS_ANYTHING = "route: q\nfrom: { http: { path: /q } }\nsteps: [ { to: { route: r } } ]\n"


def taken(read: Read, steps: str, taker: str = TAKER, **more: str) -> list[Problem]:
    found = read(files(steps, taker, **{"routes/p.yaml": GIVER, **more})).problems
    return [problem for problem in found if problem.code in ("ESB402", "ESB408", "ESB409")]


def test_what_is_handed_over_is_what_those_who_hand_it_over_know_of_it(read: Read) -> None:
    (problem,) = taken(read, "- filter: body.erpNo == '7'")
    assert (problem.code, problem.severity, problem.position.path) == ("ESB402", "error", "routes/r.yaml")
    assert "`body.erpNo` is not in contract lot.v1" in problem.message
    places = [(at.path, at.line, words) for at, words in problem.related]
    assert ("routes/p.yaml", 4, "the route `p` hands it over here") in places
    keyed = taken(read, "- log: x", TAKER.replace("steps:", "key: body.lotId\nsteps:"))
    assert [(one.code, one.position.line) for one in keyed] == [("ESB402", 3)]
    assert taken(read, "- filter: body.erp_no == '7'") == []


@pytest.mark.parametrize(
    "more",
    [
        {"routes/q.yaml": SENDS_ANYTHING},
        {"routes/q.yaml": SENDS_ANYTHING.replace("{ to: { route: r } }", "{ tap: { route: r } }")},
        {
            "routes/q.yaml": "route: q\nfrom: { http: { path: /q } }\nsteps: [ { filter: body.a } ]\n"
            "on_error: [ { for: any, steps: [ { to: { route: r } } ] } ]\n"
        },
        {"routes/p.yaml": GIVER.replace("to: {", "python: own.f\n  - to: {"), "connectors/own.py": "def f(): ...\n"},
        {"routes/q.yaml": "route: q\nfrom: { route: {} }\nsteps: [ { to: { route: r } } ]\n"},
        {"routes/q.yaml": "route: q\nfrom: { http: { path: /q } }\nsteps: [ { too: { route: r } } ]\n"},
        {"routes/p.yaml": "route: p\nfrom: { http: { path: /p } }\nsteps: [ { log: x } ]\n"},
    ],
    ids=["another one", "a tap", "a fallback", "unknown body", "by hand", "a route with faults", "nobody"],
)
def test_where_not_everybody_who_hands_over_is_known_nothing_is_judged(read: Read, more: dict[str, str]) -> None:
    assert taken(read, "- filter: body.erpNo == '7'", **more) == []


def test_a_route_that_hands_over_to_itself_is_not_judged(read: Read) -> None:
    loop = "- { filter: body.x }\n- { to: { route: r }, if: body.y }"
    assert (
        taken(read, loop, **{"routes/p.yaml": "route: p\nfrom: { timer: { every: 1h } }\nsteps: [ { log: x } ]\n"})
        == []
    )


def test_topics_and_hand_offs_of_one_name_are_two_things(read: Read) -> None:
    topic = "route: other\nfrom: { topic: r }\nsteps: [ { filter: body.only_here } ]\n"
    publisher = "route: q\nfrom: { http: { path: /q } }\nsteps: [ { map: { only_here: body.a } }, { publish: r } ]\n"
    assert taken(read, "- filter: body.erp_no", **{"routes/o.yaml": topic, "routes/q.yaml": publisher}) == []


def test_what_the_taker_always_refuses_is_an_error_where_it_is_handed_over(read: Read) -> None:
    wants = '{ "type": "object", "required": ["lot"], "properties": { "lot": { "type": "string" } } }'
    taker = TAKER.replace("route: {}", "route: { contract: wanted.v1 }")
    giver = GIVER.replace("  - to", "  - map: { no: body.erp_no }\n  - to")
    more = {"schemas/wanted.v1.json": wants, "routes/p.yaml": giver}
    (problem,) = taken(read, "- filter: body.lot", taker, **more)
    assert (problem.code, problem.position.path, problem.position.line) == ("ESB409", "routes/p.yaml", 5)
    assert problem.message == "`body.lot` is never there, and contract wanted.v1 requires it"
    places = [(at.path, words) for at, words in problem.related]
    assert ("routes/r.yaml", "the route `r` takes nothing else") in places
    assert ("routes/p.yaml", "made here") in places
    more["routes/p.yaml"] = giver.replace("no:", "lot:")
    assert taken(read, "- filter: body.lot", taker, **more) == []


def test_a_fault_in_an_included_file_is_shown_there(read: Read) -> None:
    outer = '{% for line in body.lines %}{% include "line.j2" %}{% endfor %}{% include "head.j2" %}'
    found = problems(
        read,
        "- transform: a.j2",
        **{
            "transforms/a.j2": outer,
            "transforms/line.j2": "{{ line.pos }} {{ line.pso }}\n",
            "transforms/head.j2": "{{ body.id }}\n{{ body.lot.erpNo | default('') }} {{ body.lotId }}\n",
        },
    )
    told = [(one.position.path, one.position.line, one.severity, one.message.partition(" is not")[0]) for one in found]
    assert told == [
        ("transforms/head.j2", 2, "warning", "`body.lot.erpNo`"),
        ("transforms/head.j2", 2, "error", "`body.lotId`"),
        ("transforms/line.j2", 1, "error", "`body.lines[].pso`"),
    ]
    assert {at.path for at, _ in found[1].related} == {"routes/r.yaml", "schemas/nc.v1.json"}


def test_an_included_file_of_two_routes_is_wrong_only_where_it_is_for_both(read: Read) -> None:
    shared = {f"transforms/{name}.j2": '{% include "in.j2" %}' for name in ("a", "b")}
    other = {"routes/q.yaml": "route: q\nfrom: { http: { path: /q } }\nsteps: [ { transform: b.j2 } ]\n"}
    inner = {"transforms/in.j2": "{{ body.foo }}"}
    assert [one.code for one in problems(read, "- transform: a.j2", **shared, **inner)] == ["ESB402"]
    assert problems(read, "- transform: a.j2", **shared, **inner, **other) == []


LONG = {
    "guards": "- set: { vars.a#: body.id }\n  if: body.qty == `#`\n",
    "branches": "- choose:\n    - when: body.qty == `#`\n      steps: [ { set: { vars.a#: body.id } } ]\n"
    "    - otherwise: [ { set: { vars.b#: body.id } } ]\n",
    "bodies": "- set: { body.a#: body.id }\n  if: body.qty == `#`\n",
    "contracts": "- validate: nc.v1\n  if: body.qty == `#`\n",
    "failures": "- enrich: { http: { url: 'http://127.0.0.1/#' } }\n  into: vars.a#\n  continue_on_error: true\n",
}


@pytest.mark.timeout(60)  # each of these steps doubled the work: forty of them would not have come to an end
@pytest.mark.parametrize("kind", LONG)
def test_a_route_of_many_steps_that_set_something_in_some_cases_is_read_at_once(read: Read, kind: str) -> None:
    made = "- choose:\n    - when: body.qty == `0`\n      steps: [ { map: { id: body.id, qty: body.qty } } ]\n"
    made += "    - otherwise: [ { map: { id: body.lot.id, qty: body.qty } } ]\n"
    steps = (made if kind in ("bodies", "contracts") else "") + "".join(
        LONG[kind].replace("#", str(n)) for n in range(40)
    )
    place = "body" if kind in ("bodies", "contracts") else "vars"
    there = "id" if kind == "contracts" else "a39"
    assert problems(read, f"{steps}- log: '{{{{ {place}.{there} }}}}'\n") == []
    (problem,) = problems(read, f"{steps}- log: '{{{{ {place}.never }}}}'\n")
    assert f"`{place}.never`" in problem.message


def test_a_route_that_sets_a_thousand_variables_is_read_like_any_other(read: Read) -> None:
    steps = "".join(f"- set: {{ vars.a{n}: body.id }}\n" for n in range(1200))
    assert problems(read, f"{steps}- log: '{{{{ vars.a0 }}}}'\n") == []
    (problem,) = problems(read, f"{steps}- log: '{{{{ vars.never }}}}'\n")
    assert (problem.code, "`vars.never`" in problem.message) == ("ESB405", True)
