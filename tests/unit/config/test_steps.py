from __future__ import annotations

from datetime import timedelta

import pytest

from esb.config.model import RouteSpec
from esb.steps.base import StepNode

from .conftest import ERP, Read, good, only

HEAD = "route: r\nfrom: { http: { path: /r } }\n"


def route(read: Read, steps: str, head: str = HEAD) -> RouteSpec:
    loaded = read({"routes/r.yaml": f"{head}steps:\n{steps}", "connectors/erp.yaml": ERP})
    return good(loaded).routes["r"]


def ids(spec: RouteSpec) -> dict[str, list[str]]:
    return {block_id: [node.id for node in block.nodes] for block_id, block in spec.blocks.items()}


def node(spec: RouteSpec, step_id: str) -> StepNode:
    return next(n for block in spec.blocks.values() for n in block.nodes if n.id == step_id)


def test_a_step_is_called_after_its_kind_its_target_or_its_name(read: Read) -> None:
    spec = route(
        read,
        """  - set: { vars.a: "'1'" }
  - set: { vars.b: "'2'" }
  - to: erp.create-order
  - to: erp.usage-decision
  - to: erp.create-order
  - to: { http: { url: https://mes.example.com/x } }
  - log: hello
    name: greet
  - tap: erp.create-order
""",
    )
    assert ids(spec)[""] == [
        "set",
        "set#2",
        "to:erp.create-order",
        "to:erp.usage-decision",
        "to:erp.create-order#2",
        "to:http",
        "greet",
        "tap:erp.create-order",
    ]


def test_blocks_are_called_after_their_step_and_place(read: Read) -> None:
    spec = route(
        read,
        """  - choose:
      - when: body.a
        steps: [ { log: a } ]
      - otherwise: [ { log: b } ]
  - split:
      each: body.lines
      steps:
        - fanout:
            mes: { steps: [ { to: erp.create-order } ] }
            qms: { steps: [ { log: q }, { log: r } ] }
  - split: { each: body.parts, steps: [ { log: p } ] }
  - fanout: { wms: { steps: [ { log: w } ] } }
    name: holds
on_error:
  - { for: unmapped, steps: [ { log: gone } ] }
when_down: { fallback: [ { log: down } ] }
""",
    )
    assert ids(spec) == {
        "": ["choose", "split", "split#2", "holds"],
        "choose[0]": ["choose[0]/log"],
        "choose[1]": ["choose[1]/log"],
        "split": ["split/fanout"],
        "split/fanout/mes": ["split/fanout/mes/to:erp.create-order"],
        "split/fanout/qms": ["split/fanout/qms/log", "split/fanout/qms/log#2"],
        "split#2": ["split#2/log"],
        "holds/wms": ["holds/wms/log"],
        "on_error[0]": ["on_error[0]/log"],
        "when_down/fallback": ["when_down/fallback/log"],
    }
    assert all(block.id == block_id for block_id, block in spec.blocks.items())
    assert spec.steps is spec.blocks[""]


def test_an_edit_elsewhere_changes_no_id(read: Read) -> None:
    before = ids(route(read, "  - to: erp.create-order\n  - split: { each: body, steps: [ { log: x } ] }\n"))
    after = ids(
        route(
            read,
            "  - log: new\n  - to: erp.create-order\n  - log: new\n  - split: { each: body, steps: [ { log: x } ] }\n",
        )
    )
    assert set(before[""]) < set(after[""])
    assert before["split"] == after["split"]


def test_two_places_that_share_an_anchor_are_two_blocks(read: Read) -> None:
    spec = route(read, "  - fanout:\n      a: { steps: &s [ { log: x } ] }\n      b: { steps: *s }\n")
    assert ids(spec)["fanout/a"] == ["fanout/a/log"]
    assert ids(spec)["fanout/b"] == ["fanout/b/log"]


def test_what_stands_beside_a_step_is_kept_with_it(read: Read) -> None:
    spec = route(
        read,
        """  - to: erp.create-order
    if: body.released
    timeout: 10s
    into: vars.reply
    continue_on_error: true
    when_down: { drop_after: 1h }
""",
    )
    step = spec.steps.nodes[0]
    assert step.guard is not None
    assert step.guard.text == "body.released"
    assert step.timeout == timedelta(seconds=10)
    assert step.into == ("vars", "reply")
    assert step.continue_on_error
    assert step.when_down is not None
    assert step.when_down.drop_after == timedelta(hours=1)
    assert (step.kind, step.waits, str(step.position)) == ("to", True, "routes/r.yaml:4:5")


def test_a_step_that_does_not_wait_says_so(read: Read) -> None:
    assert not route(read, "  - log: x\n").steps.nodes[0].waits


def test_a_fallback_is_a_block_of_its_step(read: Read) -> None:
    spec = route(read, "  - to: erp.create-order\n    when_down: { fallback: [ { log: later } ] }\n")
    down = spec.steps.nodes[0].when_down
    assert down is not None
    assert down.block is spec.blocks["to:erp.create-order/fallback"]


def test_an_outage_inside_a_branch_is_found_by_its_scope(read: Read) -> None:
    spec = route(read, "  - fanout:\n      a: { when_down: { drop_after: 1h }, steps: [ { to: erp.create-order } ] }\n")
    assert spec.branch_when_down["fanout/a"].drop_after == timedelta(hours=1)


def test_retries_are_those_of_step_then_route_then_criticality_part_by_part(read: Read) -> None:
    files = {
        "esb.yaml": "criticality: { batch: { retry: { max: 5, backoff: 30s..1h, within: 1d } } }\n",
        "connectors/erp.yaml": ERP,
        "routes/r.yaml": HEAD
        + "criticality: batch\nretry: { max: 8 }\nsteps:\n  - to: erp.create-order\n    retry: { jitter: none }\n",
    }
    spec = good(read(files)).routes["r"]
    assert (spec.retry.max, spec.retry.backoff.longest, spec.retry.within) == (8, timedelta(hours=1), timedelta(days=1))
    retry = spec.steps.nodes[0].retry
    assert retry is not None
    assert (retry.max, retry.jitter, retry.within) == (8, "none", timedelta(days=1))


def test_a_target_is_a_connectors_operation_or_an_endpoint(read: Read) -> None:
    spec = route(
        read,
        """  - to: erp.create-order
  - to: { http: { connector: erp, path: /x } }
  - to: { topic: lot.blocked }
""",
    )
    targets = [n.step.target for n in spec.steps.nodes]  # type: ignore[attr-defined]  # of this kind
    assert [(t.name, t.protocol, t.connector) for t in targets] == [
        ("erp.create-order", "http", "erp"),
        ("http", "http", "erp"),
        ("topic", "topic", ""),
    ]
    assert spec.topics == ("lot.blocked",)
    assert spec.targets == ("erp.create-order", "http", "topic")


@pytest.mark.parametrize(
    ("step", "code", "words"),
    [
        ("- to: { http: { path: /x } }", "ESB102", "which system"),
        ("- to: { http: { url: https://a.example.com/x, connector: erp } }", "ESB107", "address of its own"),
        ("- to: { http: { path: /x, connector: epr } }", "ESB301", "does not exist"),
        ("- to: { http: { path: /x, connector: [a] } }", "ESB103", "is a name"),
        ("- to: 5", "ESB103", "a target is"),
        ("- to: { http: { url: https://a.example.com }, file: { path: x } }", "ESB107", "exactly one sink"),
        ("- to: {}", "ESB102", "names no sink"),
        ("- to: { timer: { every: 5m } }", "ESB204", "unknown sink"),
        ("- to: { erp: create-order }", "ESB204", "unknown sink"),
        ("- erp.create-order: {}", "ESB203", "unknown step"),
        ("- [ { log: x } ]", "ESB103", "not a list"),
        ("- xslt", "ESB103", "not the text"),
        ("- log: x\n    name: a b", "ESB110", "no name for a step"),
        ("- log: x\n    into: meta.x", "ESB101", "written by the bus"),
        ("- log: x\n    when: body.a", "ESB101", "beside `log`"),
        ("- to: erp.create-order\n    when_down: { reject: 200 }", "ESB106", "400 to 599"),
        ("- to: erp.create-order\n    when_down: { rejct: 503 }", "ESB101", "rejct"),
        ("- to: erp.create-order\n    when_down: {}", "ESB107", "exactly one"),
        ("- to: erp.create-order\n    when_down: drop", "ESB103", "when_down"),
        ("- to: erp.create-order\n    retry: 5", "ESB103", "retry"),
    ],
)
def test_what_is_wrong_with_a_step_is_one_problem(read: Read, step: str, code: str, words: str) -> None:
    loaded = read({"routes/r.yaml": f"{HEAD}steps:\n  {step}\n", "connectors/erp.yaml": ERP})
    problem = only(loaded)
    assert problem.code == code, problem
    assert words in problem.message


@pytest.mark.parametrize(
    ("step", "hint"),
    [
        ("validate: lot.v1", "write it to schemas/lot.v1.json"),
        ("validate: schemas/lot.v1.json", "write it to schemas/lot.v1.json"),
        ("validate: ./schemas/lot.v1.json", "write it to schemas/lot.v1.json"),
        ("lookup: { table: transforms/tables/t.csv, by: body, into: vars.x }", "write it to transforms/tables/t.csv"),
    ],
)
def test_a_missing_file_is_to_be_written_where_it_is_looked_for(read: Read, step: str, hint: str) -> None:
    assert only(read(f"{HEAD}steps: [ {{ {step} }} ]\n")).hint == hint


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("inspektion.v1", "did you mean `inspection.v1`?"),
        ("schemas/inspektion.v1.json", "did you mean `schemas/inspection.v1.json`?"),
    ],
)
def test_the_nearest_file_is_named_as_it_was_written(read: Read, word: str, hint: str) -> None:
    files = {"routes/r.yaml": f"{HEAD}steps: [ {{ validate: {word} }} ]\n", "schemas/inspection.v1.json": "{}"}
    assert only(read(files)).hint == hint


def test_a_key_that_is_near_none_is_told_all_of_its_place(read: Read) -> None:
    hint = only(read(f"{HEAD}steps: []\ncolour: red\n")).hint
    assert hint.startswith("known here: alert, concurrency, criticality, dedupe, "), hint


def test_a_format_that_is_near_none_is_told_all_of_them(read: Read) -> None:
    hint = only(read(f"{HEAD}steps: [ {{ parse: yaml }} ]\n")).hint
    assert hint.startswith("known here: aqdef, csv, edifact, excel, "), hint


def test_a_question_that_stands_in_the_target_belongs_beside_the_step(read: Read) -> None:
    step = "to: { file: { path: out/x, verify: erp.get } }"  # an `http` may say it in place
    assert "`on_timeout`, a key of the step" in only(read(f"{HEAD}steps: [ {{ {step} }} ]\n")).hint


def test_a_wrong_retry_shows_how_it_is_written(read: Read) -> None:
    assert "max: 8" in only(read(HEAD + "retry: 5\nsteps: []\n")).hint


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("http", "ESB103", "not the text 'http'"),
        ("{}", "ESB102", "names no source"),
        ("{ htp: { path: /x } }", "ESB204", "unknown source"),
        ("{ http: { path: /x }, method: PUT }", "ESB112", "too high"),
        ("{ http: { path: /x }, methud: PUT }", "ESB101", "beside `http`"),
        ("{ http: { path: /x }, ttl: 1d }", "ESB112", "too deep"),
        ("{ http: { path: /x, auth: nobody } }", "ESB301", "does not exist"),
        ("{ http: { path: /x, auth: erp } }", "ESB301", "no `inbound`"),
        ("{ kafka: { topic: x } }", "ESB204", "unknown source"),
    ],
)
def test_what_is_wrong_with_a_source_is_one_problem(read: Read, source: str, code: str, words: str) -> None:
    loaded = read({"routes/r.yaml": f"route: r\nfrom: {source}\nsteps: []\n", "connectors/erp.yaml": ERP})
    problem = only(loaded)
    assert problem.code == code, problem
    assert words in problem.message
