"""Templates and sites: what a plant fills in, what comes of it, and which routes an edit touches."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from esb.config.digest import canonical
from esb.config.expand import Expansion, merge
from esb.config.model import RouteSpec, Workspace
from esb.config.reader import WorkspaceReader
from esb.config.yaml import read_documents
from esb.message import Message
from esb.secret import Secret
from esb.spec import MapNode, to_plain

from .conftest import Read, good, only

TEMPLATE = """\
template: hold
params:
  werks: { type: string, pattern: "^[0-9]{4}$" }
  wait: { type: string, default: 10s }
  tries: { type: integer, default: 3 }
  ttl: { type: [string, "null"] }
routes:
  - route: hold
    owner: quality-it
    criticality: fast
    key: body.lot
    from: { http: { path: "/{{ site.id | lower }}/holds", method: POST } }
    ttl: "{{ params.ttl }}"
    retry: { max: "{{ params.tries }}" }
    steps:
      - lookup: { table: codes, by: body.code, into: vars.code }
      - map:
          Werks: "'{{ params.werks }}'"
          Plant: site.plant
          Text: body.text
          Code: "xref('codes', body.code)"
          Qty: number(body.qty)
          At: in_zone('2026-07-01T08:00:00Z')
      - transform: twice.jmes
      - to: erp.block
        timeout: "{{ params.wait }}"
      - to: { route: told }
    on_error: [ { for: any, dead_letter: hold } ]
  - route: told
    from: { route: {} }
    steps: [ { log: "{{ site.id }}" } ]
"""
CONNECTOR = """\
connector: erp
type: http
params:
  client: { type: string }
  host: { type: string, default: erp.example.com }
base_url: https://{{ params.host }}/{{ params.client }}
operations: { block: { path: "/block/{{ body.Werks }}" } }
"""
SHARED = {
    "esb.yaml": "bus: b\ntimezone: Europe/Vienna\nsite: { plant: P00, company: ACME }\n"
    "criticality: { fast: { within: 5s, retry: { max: 7 } } }\n",
    "routes/hold.yaml": TEMPLATE,
    "connectors/erp.yaml": CONNECTOR,
    "transforms/twice.jmes": "{ Werks: body.Werks, Twice: mul(number(body.Text), `2`) }",
    "transforms/tables/codes.csv": "code,erp\nA,01\n",
    "transforms/tables/codes-p20.csv": "code,erp\nA,X1\n",
}
P10 = """\
site: P10
use: [ { template: hold, params: { werks: "1000", ttl: null } } ]
connectors: { erp: { client: "100" } }
locale: de-AT
"""
P20 = """\
site: P20
use:
  - template: hold
    params: { werks: "2000", wait: 1m, tries: 9, ttl: 2d }
connectors: { erp: { client: "200", host: erp20.example.com } }
timezone: America/New_York
locale: en-US
tables: { codes: codes-p20 }
values: { plant: MOULD }
"""
BOTH = {**SHARED, "routes/sites/P10.yaml": P10, "routes/sites/P20.yaml": P20}


def step(spec: RouteSpec, kind: str) -> Any:
    return next(node.step for node in spec.steps.nodes if node.kind == kind)


def scope(workspace: Workspace, spec: RouteSpec, body: Any) -> dict[str, Any]:
    return Message(body).scope(spec.site_values(workspace.settings.site))


def mapped(workspace: Workspace, name: str, qty: str) -> dict[str, Any]:
    spec = workspace.routes[name]
    found: dict[str, Any] = step(spec, "map").fields.build(
        scope(workspace, spec, {"code": "A", "qty": qty, "text": "7"})
    )
    return found


def test_two_plants_come_from_one_template(read: Read) -> None:
    workspace = good(read(BOTH))
    assert list(workspace.routes) == ["hold-p10", "hold-p20", "told-p10", "told-p20"]
    first, second = mapped(workspace, "hold-p10", "1.234,50"), mapped(workspace, "hold-p20", "1,234.50")
    assert first == {
        "Text": "7",
        "Werks": "1000", "Plant": "P10", "Code": "01", "Qty": Decimal("1234.50"), "At": "2026-07-01T10:00:00+02:00",
    }  # fmt: skip
    assert second == {
        "Text": "7",
        "Werks": "2000", "Plant": "MOULD", "Code": "X1", "Qty": Decimal("1234.50"), "At": "2026-07-01T04:00:00-04:00",
    }  # fmt: skip


def test_a_value_keeps_its_type_and_an_optional_one_is_left_out(read: Read) -> None:
    routes = good(read(BOTH)).routes
    assert (routes["hold-p10"].retry.max, routes["hold-p20"].retry.max) == (3, 9)
    assert routes["hold-p10"].ttl is None
    assert str(routes["hold-p20"].ttl) == "2 days, 0:00:00"
    assert [str(node.timeout) for r in ("p10", "p20") for node in routes[f"hold-{r}"].steps.nodes if node.timeout] == [
        "0:00:10", "0:01:00",
    ]  # fmt: skip


def test_each_plant_has_connectors_and_transforms_of_its_own(read: Read) -> None:
    workspace = good(read(BOTH))
    urls = {name: connector.connection.base_url for name, connector in workspace.connectors.items()}
    assert urls == {"erp@P10": "https://erp.example.com/100", "erp@P20": "https://erp20.example.com/200"}
    targets = {name: step(workspace.routes[name], "to").target for name in ("hold-p10", "hold-p20")}
    assert {name: (target.name, target.connector) for name, target in targets.items()} == {
        "hold-p10": ("erp.block", "erp@P10"),
        "hold-p20": ("erp.block", "erp@P20"),
    }
    for name, text in (("hold-p10", "1,5"), ("hold-p20", "1.5")):
        spec = workspace.routes[name]
        found = step(spec, "transform").file.apply(scope(workspace, spec, {"Werks": "1", "Text": text}))
        assert found["Twice"] == 3


def test_a_hand_over_stays_at_its_plant(read: Read) -> None:
    workspace = good(read(BOTH))
    for site in ("p10", "p20"):
        handed = [n.step.target for n in workspace.routes[f"hold-{site}"].steps.nodes if n.kind == "to"][-1]  # type: ignore[attr-defined]  # a `to`
        assert handed.sink.route == f"told-{site}"


@pytest.mark.parametrize(
    ("path", "old", "new", "changed"),
    [
        ("routes/sites/P20.yaml", "locale: en-US", "locale: de-DE", {"hold-p20", "told-p20"}),
        ("routes/sites/P20.yaml", "wait: 1m", "wait: 2m", {"hold-p20"}),
        ("routes/sites/P20.yaml", "erp20", "erp21", {"hold-p20"}),
        ("routes/sites/P20.yaml", "site: P20", "# a comment\nsite: P20", set()),
        ("transforms/tables/codes-p20.csv", "X1", "X2", {"hold-p20"}),
        ("transforms/tables/codes.csv", "01", "02", {"hold-p10"}),
        ("routes/hold.yaml", 'site.id }}" } ]', 'site.id }}!" } ]', {"told-p10", "told-p20"}),
        ("connectors/erp.yaml", "/block/", "/lock/", {"hold-p10", "hold-p20"}),
    ],
)
def test_an_edit_touches_the_routes_that_it_means(read: Read, path: str, old: str, new: str, changed: set[str]) -> None:
    before = good(read(BOTH)).routes
    assert old in BOTH[path]
    after = good(read({path: BOTH[path].replace(old, new)})).routes
    assert {name for name in before if before[name].digest != after[name].digest} == changed


def test_what_a_version_is_made_of_is_on_record(read: Read) -> None:
    files = good(read(BOTH)).routes["hold-p20"].files
    assert set(files) == {
        "connectors/erp.yaml", "routes/hold.yaml", "routes/sites/P20.yaml", "transforms/tables/codes-p20.csv",
        "transforms/twice.jmes",
    }  # fmt: skip


def test_a_site_overrides_fields_presets_and_connectors(read: Read) -> None:
    file_drop = "connector: erp-drop\ntype: sftp\nhost: 127.0.0.1\nuser: esb\npassword: ${P:-x}\nknown_hosts: k\n"
    more = (
        "overrides: { hold: { within: 1m, from: { http: { rate: 5/s } } }, told: { enabled: false } }\n"
        "policies: { criticality: { fast: { retry: { backoff: 1s..2s } } } }\n"
    )
    wide = CONNECTOR.replace("erp\n", "erp-wide\n", 1)
    site = P20.replace("erp: {", "erp: { connector: erp-wide, params: {").replace("example.com }", "example.com } }")
    workspace = good(
        read({**BOTH, "connectors/w.yaml": wide, "connectors/d.yaml": file_drop, "routes/sites/P20.yaml": site + more})
    )
    spec = workspace.routes["hold-p20"]
    assert str(spec.within) == "0:01:00"
    assert spec.source.options.rate is not None
    assert spec.source.options.path == "/p20/holds"
    assert spec.retry.backoff.longest.total_seconds() == 2
    assert workspace.routes["hold-p10"].retry.backoff.longest.total_seconds() != 2
    assert not workspace.routes["told-p20"].enabled
    assert spec.place is not None
    found = {(one.field, one.template, one.site, one.position.line) for one in spec.place.overrides}
    assert found == {("within", None, "1m", 10), ("from.http.rate", None, "5/s", 10)}
    assert workspace.sites["P20"].connectors == {"erp": "erp@P20"}
    assert workspace.connectors["erp@P20"].connection.base_url == "https://erp20.example.com/200"


def test_a_closed_site_takes_nothing_in(read: Read) -> None:
    workspace = good(read({**BOTH, "routes/sites/P20.yaml": P20 + "enabled: false\n"}))
    assert {name for name, spec in workspace.routes.items() if not spec.enabled} == {"hold-p20", "told-p20"}


def test_a_template_may_name_its_routes_and_be_used_twice(read: Read) -> None:
    template = (
        "template: drop\nparams: { line: { type: string } }\nroute: drop-{{ params.line }}-{{ site.id | lower }}\n"
        'from: { http: { path: "/{{ site.id }}/{{ params.line }}" } }\nsteps: [ { log: "{{ body.x }} of {{ params.line }}" } ]\n'
    )
    site = "site: P30\nuse: [ { template: drop, params: { line: a } }, { template: drop, params: { line: b } } ]\n"
    workspace = good(read({"routes/t.yaml": template, "routes/s.yaml": site}))
    assert list(workspace.routes) == ["drop-a-p30", "drop-b-p30"]
    assert step(workspace.routes["drop-b-p30"], "log").text.text == "{{ body.x }} of b"


def test_a_whole_json_schema_does_as_well(read: Read) -> None:
    template = TEMPLATE.replace(
        'params:\n  werks: { type: string, pattern: "^[0-9]{4}$" }\n', "params:\n  type: object\n  required: [werks]\n"
        "  properties:\n    werks: { type: string }\n",
    ).replace("\n  wait:", "\n    wait:").replace("\n  tries:", "\n    tries:").replace("\n  ttl:", "\n    ttl:")  # fmt: skip
    p10 = P10.replace(", ttl: null", "")  # not required, not given: left out
    assert (
        good(read({**SHARED, "routes/hold.yaml": template, "routes/sites/P10.yaml": p10})).routes["hold-p10"].ttl
        is None
    )


def test_the_environment_and_secrets_are_filled_in(read: Read) -> None:
    connector = CONNECTOR.replace("base_url", "auth: { api_key: { key: '{{ params.key }}' } }\nbase_url").replace(
        "client: { type: string }", "client: { type: string }\n  key: { type: string }"
    )
    site = P10.replace('client: "100"', 'client: "${CLIENT}", key: "${secret:erp}"')
    files = {**SHARED, "connectors/erp.yaml": connector, "routes/sites/P10.yaml": site}
    workspace = good(read(files, environ={"CLIENT": "300", "ESB_SECRET_ERP": "sesame"}))
    connection = workspace.connectors["erp@P10"].connection
    assert connection.base_url.endswith("/300")
    assert "sesame" not in str(workspace.sites)
    other = good(read(files, environ={"CLIENT": "300", "ESB_SECRET_ERP": "simsim"}))
    assert other.connectors["erp@P10"].digest != workspace.connectors["erp@P10"].digest


def test_a_plain_route_takes_a_connector_whose_parameters_all_have_defaults(read: Read) -> None:
    connector = CONNECTOR.replace("client: { type: string }", 'client: { type: string, default: "1" }')
    route = "route: r\nfrom: { http: { path: /r } }\nsteps: [ { to: erp.block }, { to: erp@P10.block } ]\n"
    workspace = good(read({**BOTH, "connectors/erp.yaml": connector, "routes/r.yaml": route}))
    assert workspace.routes["r"].targets == ("erp.block", "erp@P10.block")
    assert set(workspace.connectors) == {"erp", "erp@P10", "erp@P20"}


# -- filling in -------------------------------------------------------------------------------------------------------------


def node(text: str) -> MapNode:
    found = read_documents(text, "t.yaml", lambda problem: pytest.fail(str(problem)))[0][0].node
    assert isinstance(found, MapNode)
    return found


def filled(text: str, params: str = "{}") -> tuple[Any, list[str]]:
    values = {key.text: value for key, value in node(f"x: {params}").get("x").entries}  # type: ignore[union-attr]  # a mapping
    reader = WorkspaceReader()
    tree = Expansion(values, {"id": "P20"}, reader).of(node(text))
    return to_plain(tree), [problem.message for problem in reader.problems]


@pytest.mark.parametrize(
    ("text", "params", "expected"),
    [
        ('a: "{{ params.n }}"', "{ n: 12.10 }", {"a": Decimal("12.10")}),
        ('a: "x{{ params.n }}"', "{ n: 12.10 }", {"a": "x12.10"}),
        ('a: "{{ params.o.list[1] }}"', "{ o: { list: [1, true] } }", {"a": True}),
        ('a: "{{ params.o }}"', "{ o: { list: [1, '2'] } }", {"a": {"list": [1, "2"]}}),
        ('"{{ params.k }}": 1', "{ k: Lot }", {"Lot": 1}),
        ('a: "{{ body.x }} {{ params.k | upper }}"', "{ k: lot }", {"a": "{{ body.x }} LOT"}),
        ('a: ["{{ params.none }}", 1]\nb: "{{ params.none }}"', "{}", {"a": [1]}),
        ('a: "{{ site.id }}-{{ body.x }}"', "{}", {"a": "P20-{{ body.x }}"}),
        ("a: no params here, 0012", "{}", {"a": "no params here, 0012"}),
    ],
)
def test_filling_in(text: str, params: str, expected: Any) -> None:
    assert filled(text, params) == (expected, [])


@pytest.mark.parametrize(
    ("text", "params", "words"),
    [
        ('a: "x{{ params.none }}"', "{}", "has no value"),
        ('a: "x{{ params.o }}"', "{ o: {} }", "is a mapping"),
        ('a: "{{ params.k ~ body.x }}"', "{ k: 1 }", "mixed with"),
        ('a: "{% if params.k %}x{% endif %}"', "{ k: 1 }", "cannot be asked"),
        ('a: "{{ params.k.deep }}"', "{ k: 1 }", "deeper"),
        ('a: "{{ params.k | nofilter }}"', "{ k: 1 }", "no value"),
        ('a: "{{ params.k + 1 }}"', "{ k: x }", "no value"),
    ],
)
def test_what_cannot_be_filled_in_is_said_once(text: str, params: str, words: str) -> None:
    problems = filled(text, params)[1]
    assert len(problems) == 1
    assert words in problems[0]


def test_a_secret_stays_one_within_a_text() -> None:
    reader = WorkspaceReader()
    from esb.errors import Position
    from esb.spec import ScalarNode

    values = {"s": ScalarNode(Position("s.yaml"), Secret("sesame"), "${secret:s}")}
    tree = Expansion(values, {}, reader).of(node('a: "Bearer {{ params.s }}"\nb: "{{ params.s | upper }}"'))
    found = to_plain(tree)
    assert found["a"].reveal() == "Bearer sesame"
    assert "sesame" not in canonical(tree)
    assert "stands by itself" in reader.problems[0].message


def test_merging_replaces_one_kind_by_another() -> None:
    base = node("from: { http: { path: /a, rate: 1/s } }\nretry: { max: 3, backoff: 1s..2s }\nsteps: [1, 2]")
    over = node("from: { file: { path: in } }\nretry: { max: 9 }\nsteps: [3]\nttl: 1d")
    assert to_plain(merge(base, over)) == {
        "from": {"file": {"path": "in"}}, "retry": {"max": 9, "backoff": "1s..2s"}, "steps": [3], "ttl": "1d",
    }  # fmt: skip


def test_a_half_saved_site_is_one_problem(read: Read) -> None:
    assert only(read({**BOTH, "routes/sites/P20.yaml": "site: P20\nuse: [\n"})).code == "ESB001"
