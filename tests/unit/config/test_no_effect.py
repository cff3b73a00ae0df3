"""What is written correctly and has no effect all the same."""

from __future__ import annotations

import pytest

from .conftest import ERP, Read, good, only

HTTP = "route: r\nfrom: { http: { path: /r } }\n"
CIRCUIT = ERP + "circuit: { failures: 3 }\n"


@pytest.mark.parametrize(
    ("expression", "column", "severity", "hint"),
    [
        ("headers.Plant", 13, "error", "write `headers.plant`"),
        ('headers."X-Plant"', 13, "error", 'write `headers."x-plant"`'),
        ("body.a || headers.Plant", 23, "error", "write `headers.plant`"),
        ("site.plnt", 13, "error", "did you mean `site.plant`?"),
        ("site.zone", 13, "warning", "add it to esb.yaml: `site: { zone: … }`"),
    ],
)
def test_a_name_that_is_always_null_is_found_where_it_is_read(
    read: Read, expression: str, column: int, severity: str, hint: str
) -> None:
    files = {
        "esb.yaml": "bus: graz\nsite: { plant: P10 }\n",
        "routes/r.yaml": f"{HTTP}steps:\n  - filter: {expression}\n  - filter: {expression}\n",
    }
    problem = only(read(files))
    assert (problem.code, problem.severity) == ("ESB402", severity)
    assert (problem.position.line, problem.position.column, problem.hint) == (4, column, hint)


@pytest.mark.parametrize("expression", ["headers.plant", 'headers."x-plant"', "site.plant.Name", "site", "headers"])
def test_a_name_that_can_be_there_is_fine(read: Read, expression: str) -> None:
    files = {
        "esb.yaml": "bus: graz\nsite: { plant: { Name: P10 } }\n",
        "routes/r.yaml": f"{HTTP}steps:\n  - filter: {expression}\n",
    }
    assert not good(read(files)).problems


def test_a_header_of_a_text_is_seen_too(read: Read) -> None:
    problem = only(read(f"{HTTP}steps:\n  - log: \"at {{{{ headers['X-Plant'] }}}}\"\n"))
    assert (problem.code, problem.position.column) == ("ESB402", 17)


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("{{ site.plnt }}/*.csv", "ESB402", "`site.plnt` is not there: `site` in esb.yaml has no `plnt`, and the source cannot start without it"),
        ("{{ site.plant.x }}/*.csv", "ESB801", "route `r` cannot start: template `{{ site.plant.x }}/*.csv` failed: there is no `site.plant.x` in this message"),
        ("{{ body.x }}/*.csv", "ESB801", "route `r` cannot start: template `{{ body.x }}/*.csv` failed: there is no `body.x` in this message"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_named_at_the_start_is_an_error(read: Read, path: str, code: str, words: str) -> None:
    esb = "bus: graz\nsite: { plant: P10 }\n"
    route = f'route: r\nfrom: {{ file: {{ path: "{path}" }} }}\nsteps: [ {{ log: x }} ]\n'
    (problem,) = read({"esb.yaml": esb, "routes/r.yaml": route}).errors
    assert (problem.code, problem.message) == (code, words)


def test_a_folder_that_needs_no_site_is_fine(read: Read) -> None:
    route = "route: r\nfrom: { file: { path: \"{{ site.plnt | default('in') }}/{{ meta.route }}.csv\" } }\nsteps: [ { log: x } ]\n"
    assert not read({"esb.yaml": "bus: graz\n", "routes/r.yaml": route}).errors


ROUTE = HTTP + "when_down: { reject: 503 }\nsteps:\n  - to: erp.create-order\n"
STEP = HTTP + "steps:\n  - to: erp.create-order\n    when_down: { reject: 503 }\n"


@pytest.mark.parametrize(("route", "line"), [(ROUTE, 3), (STEP, 5)], ids=["route", "step"])
def test_a_rejection_without_a_circuit_never_happens(read: Read, route: str, line: int) -> None:
    problem = only(read({"routes/r.yaml": route, "connectors/erp.yaml": ERP}))
    assert (problem.code, problem.severity, problem.position.line) == ("ESB604", "warning", line)
    assert problem.hint.endswith("to connectors/erp.yaml")


@pytest.mark.parametrize("route", [ROUTE, STEP, ROUTE + "  - to: { file: { path: a.json } }\n"])
def test_a_rejection_with_a_circuit_is_fine(read: Read, route: str) -> None:
    assert not good(read({"routes/r.yaml": route, "connectors/erp.yaml": CIRCUIT})).problems


def test_other_reactions_need_no_circuit(read: Read) -> None:
    route = ROUTE.replace("{ reject: 503 }", "{ drop_after: 1m }")
    assert not good(read({"routes/r.yaml": route, "connectors/erp.yaml": ERP})).problems


def test_settings_that_cannot_be_read_are_not_held_against_routes(read: Read) -> None:
    files = {"esb.yaml": "site: { plant: P10 }\n", "routes/r.yaml": HTTP + "steps:\n  - filter: site.plant\n"}
    assert only(read(files)).position.path == "esb.yaml"


STEP = "[ { to: { http: { url: https://x.example/o } }, when_down: { drop_after: 1h } } ]"
BRANCH = "[ { fanout: { a: { when_down: { drop_after: 1h }, steps: [ { to: { http: { url: https://x.example/o } } } ] } } } ]"


@pytest.mark.parametrize("steps", [STEP, BRANCH])
@pytest.mark.parametrize(
    ("retry", "words"),
    [
        ("{ max: 10, backoff: 2s..10m }", ""),
        ("{ max: 100, backoff: 2s..10m, within: 30m }", "30m"),
        ("{ for: [timeout] }", "0s"),
        ("{ max: 100, backoff: 2s..10m }", ""),
    ],
)
def test_a_drop_later_than_the_last_retry_never_happens(read: Read, steps: str, retry: str, words: str) -> None:
    problems = read({"routes/r.yaml": f"{HTTP}retry: {retry}\nsteps: {steps}\n"}).problems
    assert [(problem.code, problem.severity, problem.position.line) for problem in problems] == (
        [("ESB604", "warning", 4)] if words else []
    )
    assert all(f"end after at most {words}" in problem.message for problem in problems), problems


ASKED = HTTP + "steps:\n  - to: erp.create-order\n    into: vars.reply\n  - fanout:\n      a:\n        - "


@pytest.mark.parametrize(
    ("step", "warned"),
    [
        ("filter: meta.reply.status == `200`", True),
        ('log: "{{ meta.reply.status }}"', True),
        ("{ log: x, if: meta.reply }", True),
        ("choose: [ { when: meta.reply.status == `200`, steps: [ { log: x } ] } ]", True),
        ("filter: vars.reply.status == `200`", False),
        ("{ to: erp.create-order }\n        - filter: meta.reply.status == `200`", False),
    ],
)
def test_a_reply_to_another_message_is_no_reply_to_this_one(read: Read, step: str, warned: bool) -> None:
    found = read({"routes/r.yaml": f"{ASKED}{step}\n", "connectors/erp.yaml": ERP}).problems
    told = [(one.code, one.severity, one.position.line) for one in found if "meta.reply" in one.message]
    assert told == [("ESB402", "warning", 8)] * warned
