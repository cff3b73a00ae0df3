"""The words of the contract: every key and every value that it names for YAML is taken, where it names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esb.config.catalogue import option_classes
from esb.config.model import ConnectorSettings, Settings
from esb.config.routes import RouteOptions
from esb.config.sites import SiteOptions, TemplateOptions
from esb.config.steps import Modifiers
from esb.registry import load
from esb.spec import options_of
from esb.testing.model import SuiteOptions
from esb.testing.reader import read_suite_text

from .conftest import Read, good

#: what each document, and each component, declares; a dot stands before what is inside
WORDS: dict[str, str] = {
    "esb.yaml": "bus store http http.host http.port http.max_body http.tls.cert http.tls.key http.tls.client_ca admin"
    " admin.host admin.port timezone criticality criticality.retry criticality.within criticality.priority"
    " criticality.alert retention policy alerts",
    "route": "route description owner version enabled criticality key dedupe track from steps on_error on_error.for"
    " on_error.dead_letter on_error.alert on_error.steps on_error.reply order order.on_dead order.overtake retry"
    " retry.for retry.max retry.backoff retry.jitter retry.within ttl concurrency within expect kpis when_down",
    "beside": "name if timeout retry when_down on_timeout on_timeout.verify on_timeout.done_when into continue_on_error",
    "connector": "timeout concurrency rate circuit circuit.failures circuit.open_for maintenance stub",
    "template": "template params routes",
    "site": "site use use.template use.params connectors timezone locale tables policies",
    "test": "route cases cases.name cases.send cases.send.file cases.send.times cases.stubs cases.stubs.fail cases.stubs.times"
    " cases.stubs.status cases.stubs.json cases.faults cases.faults.duplicate cases.faults.reorder cases.faults.outage"
    " cases.faults.slow cases.faults.half_file cases.faults.kill_after cases.faults.clock_jump cases.expect"
    " cases.expect.state cases.expect.attempts cases.expect.sent cases.expect.sent.to cases.expect.sent.times"
    " cases.expect.sent.json",
    "step validate": "contract as",
    "step transform": "file jmespath jinja format",
    "step lookup": "table by into missing",
    "step enrich": "cache",
    "step split": "each key dedupe steps on_item_error max_bad",
    "step aggregate": "by complete complete.size complete.timeout complete.when into",
    "step resequence": "by key gap_timeout",
    "step publish": "topic",
    "step throttle": "rate",
    "step delay": "for until",
    "step respond": "status headers body",
    "step log": "text fields",
    "step compensate": "steps",
    "source http": "path method auth contract reply rate max_body",
    "source file": "path every watch ready ready.stable_for ready.marker ready.rename seen_by done done.move done.delete"
    " failed failed.move failed.report order format",
    "source sftp": "path every ready ready.stable_for ready.marker ready.rename seen_by done done.move done.delete failed"
    " failed.move failed.report order format",
    "source amqp": "queue prefetch declare declare.type declare.bind declare.bind.exchange format",
    "source sql": "query watermark watermark.column watermark.overlap watermark.tie mark mark.update outbox outbox.table"
    " outbox.delete every batch",
    "source timer": "every cron catch_up",
    "source topic": "topic",
    "source route": "contract",
    "sink http": "url path method headers query body auth auth.api_key auth.basic auth.bearer auth.oauth2 auth.hmac tls csrf"
    " idempotency_key success_when expect proxy verify verify.to verify.path verify.done_when",
    "sink file": "path exists mkdirs format",
    "sink sftp": "path exists mkdirs format",
    "sink amqp": "exchange routing_key persistent mandatory format",
    "sink sql": "statement values upsert batch",
    "sink topic": "topic",
    "sink route": "route",
    "connection http": "base_url auth tls",
    "connection sql": "url tls",
    "connection amqp": "url tls",
    "connection sftp": "host port user key known_hosts",
    "connection smtp": "host port tls",
}
DOCUMENTS = {
    "esb.yaml": Settings,
    "route": RouteOptions,
    "beside": Modifiers,
    "connector": ConnectorSettings,
    "template": TemplateOptions,
    "site": SiteOptions,
    "test": SuiteOptions,
}
STEPS = (
    "validate map transform set remove parse format lookup enrich choose filter split aggregate resequence fanout publish to"
    " dedupe claim fetch throttle delay tap compensate respond reject log python"
)
FORMATS = "json xml csv fixed excel edifact x12 idoc"


def declared(cls: type, before: str = "") -> set[str]:
    """Every option of a class, with those inside it."""
    found = set()
    for spec in options_of(cls):
        found.add(before + spec.name)
        for inner in option_classes(spec.annotation):
            found |= declared(inner, f"{before}{spec.name}.")
    return found


@pytest.mark.parametrize("place", WORDS)
def test_every_word_is_declared(place: str) -> None:
    family, _, name = place.partition(" ")
    cls: Any = DOCUMENTS.get(place)
    if cls is None:
        component = load().get(family, name)  # type: ignore[arg-type]  # a family
        assert component is not None
        cls = component.cls
    assert sorted(set(WORDS[place].split()) - declared(cls)) == []


def test_every_step_source_sink_type_and_format_is_there() -> None:
    registry = load()
    assert set(STEPS.split()) <= set(registry.family("step"))
    assert set(FORMATS.split()) <= set(registry.family("format"))
    assert {"http", "file", "sftp", "amqp", "sql", "timer", "topic", "route"} <= set(registry.family("source"))
    assert {"http", "file", "sftp", "amqp", "sql", "topic", "route", "smtp"} <= set(registry.family("sink"))
    assert {"http", "sql", "amqp", "sftp", "smtp"} <= set(registry.family("connection"))


# -- values, and how they are written -------------------------------------------------------------------------------------

FILES = {
    "esb.yaml": """
bus: plant-graz
store: sqlite:///.esb/bus.db
http: { host: 127.0.0.1, port: 8080, max_body: 10MB }
admin: { host: 127.0.0.1, port: 8081 }
timezone: Europe/Vienna
site: { supplier: s, plant: P10 }
criticality:
  release-blocking: { retry: { max: 20, backoff: 1s..5m }, within: 5s, priority: high, alert: quality-oncall }
  operational: { retry: { max: 10, backoff: 2s..10m }, within: 60s }
  batch: { retry: { max: 5, backoff: 30s..1h }, within: 1d, priority: low }
retention: { done: 30d, payload: 30d, dead: 365d, audit: forever, max_size: 20GB }
policy: { require: [owner], forbid: [plain_http_out] }
alerts:
  quality-oncall: { http: { url: "https://chat.example.com/hook" } }
  supplier-desk: { smtp: { connector: mail, to: desk@example.com } }
  chat: { webhook: "https://chat.example.com/hook" }
""",
    "connectors/erp.yaml": """
connector: erp
type: http
base_url: https://erp.example.com
auth: { basic: { user: ESB, password: "${secret:erp}" } }
tls: { ca: tls/ca.pem }
timeout: 10s
concurrency: 4
rate: 50/s
circuit: { failures: 5, open_for: 30s }
maintenance: [ { cron: "0 2 * * 0", for: 2h } ]
operations:
  usage-decision:
    path: "/lots/{{ body.InspectionLot }}/decision"
    success_when: meta.reply.body.ok
    verify: { path: "/lots/{{ body.InspectionLot }}", done_when: meta.reply.status == `200` }
    examples: [ { body: { lot: L1 }, answer: { ok: true } } ]
  material: { path: "/materials/{{ body.material }}", method: GET }
stub: { material: { status: 200 } }
""",
    "connectors/qms.yaml": "connector: qms\ntype: http\nbase_url: https://qms.example.com\ninbound: { bearer: { token: '${secret:qms}' } }\n"
    "operations: { inspection-lot: { path: /lots } }\n",
    "connectors/mes.yaml": "connector: mes\ntype: http\nbase_url: https://mes.example.com\noperations: { order: { path: /orders } }\n",
    "connectors/mail.yaml": "connector: mail\ntype: smtp\nhost: mail.example.com\nport: 587\n",
    "connectors/erp-db.yaml": "connector: erp-db\ntype: sql\nurl: sqlite:///data/erp.db\n",
    "connectors/plant-bus.yaml": "connector: plant-bus\ntype: amqp\nurl: amqps://bus.example.com/plant\n",
    "connectors/supplier-gateway.yaml": "connector: supplier-gateway\ntype: sftp\nhost: sftp.example.com\nport: 22\nuser: esb\n"
    "key: '${secret:sftp}'\nknown_hosts: |\n  sftp.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n",
    "connectors/own.py": "def twice(body, **more):\n    return [body, body]\n",
    "schemas/inspection-result.v1.json": "{}",
    "schemas/asn-row.v1.json": "{}",
    "schemas/production-order.v1.json": "{}",
    "transforms/tables/plants.csv": "plant,werks\nG,1000\n",
    "transforms/inspection_lot.j2": '{ "lot": "{{ body.order_no }}" }\n',
    "transforms/x.jmes": "body\n",
}
ENVIRON = {f"ESB_SECRET_{name}": "x" for name in ("ERP", "QMS", "SFTP")}

#: the routes of the contract as they stand there
ROUTES = {
    "routes/a.yaml": """
route: qms-inspection-to-erp
owner: quality-it
criticality: release-blocking
key: body.lot.id
dedupe: body.inspection_id
track: { lot: body.lot.id, inspection: body.inspection_id }
from:
  http: { path: /qms/inspections, method: POST, auth: qms, contract: inspection-result.v1, reply: accepted }
steps:
  - lookup: { table: plants, by: body.plant, into: vars.werks }
  - choose:
      - when: body.result == 'REJECT'
        steps: [ { set: { vars.decision: "'R'" } } ]
      - otherwise: [ { set: { vars.decision: "'A'" } } ]
  - map:
      InspectionLot: body.lot.erp_no
      Plant: vars.werks
      UsageDecision: vars.decision
      Quantity: sum(body.samples[].qty)
  - to: erp.usage-decision
    timeout: 10s
on_error:
  - { for: unmapped, dead_letter: master-data }
  - { for: [exhausted, rejected], dead_letter: erp, alert: quality-oncall }
""",
    "routes/b.yaml": """
route: supplier-csv-to-bus
owner: supplier-quality
criticality: operational
from:
  sftp:
    connector: supplier-gateway
    path: "/in/{{ site.supplier }}/*.csv"
    every: 1m
    ready: { stable_for: 20s }
    seen_by: [name, size, sha256]
    done: { move: "/archive/{{ meta.received_at | date_format('%Y/%m') }}/" }
    failed: { move: /rejected/, report: errors.csv }
    format: { csv: { delimiter: ";", decimal: ",", encoding: cp1252 } }
steps:
  - split:
      each: body
      key: "join('-', [body.PO, body.Line])"
      on_item_error: quarantine
      max_bad: 5%
      steps:
        - validate: asn-row.v1
        - map: { po_line: "join('-', [body.PO, body.Line])", lot: body.Charge, qty: "number(body.Menge, 'de-DE')" }
        - to: { amqp: { connector: plant-bus, exchange: supplier.asn, routing_key: "asn.{{ site.plant }}" } }
          retry: { max: 20, backoff: 1s..2m }
""",
    "routes/c.yaml": """
route: erp-orders-fanout
owner: plant-it
criticality: operational
key: body.order_no
dedupe: "join(':', [body.order_no, body.changed_at])"
from:
  sql:
    connector: erp-db
    every: 15s
    watermark: { column: changed_at, overlap: 2m, tie: order_no }
    query: select order_no, material, qty, werks, status, changed_at from v_prod_orders
steps:
  - validate: production-order.v1
  - enrich: erp.material
    into: vars.item
  - fanout:
      mes:
        if: body.status == 'REL'
        steps: [ { to: mes.order } ]
      qms:
        if: vars.item.inspection_required
        steps: [ { transform: transforms/inspection_lot.j2 }, { to: qms.inspection-lot } ]
      analytics:
        when_down: { drop_after: 1h }
        steps: [ { to: { amqp: { connector: plant-bus, exchange: erp.orders, routing_key: "order.{{ body.status }}" } } } ]
""",
}


def lint(read: Read, *routes: str) -> None:
    """Nothing is wrong with the routes, which have everything but a name and an owner."""
    texts = {f"routes/r{n}.yaml": f"route: r{n}\nowner: me\n{text}" for n, text in enumerate(routes)}
    good(read({**FILES, **texts}, environ=ENVIRON))


def test_the_examples_of_the_contract_are_taken_as_they_stand(read: Read) -> None:
    good(read({**FILES, **ROUTES}, environ=ENVIRON))


SOURCES = [
    *(f"http: {{ path: '/r/{{lot}}', reply: {reply}, rate: 5/s, max_body: 1MB }}" for reply in ("accepted", "delivered", "none")),
    "file: { path: 'in/*.csv', every: 5s, ready: { marker: .ok }, done: { delete: true }, order: name, format: csv }",
    "file: { path: 'in/*.csv', watch: true, ready: { rename: true }, done: { delete: true } }",
    "amqp: { connector: plant-bus, queue: q, prefetch: 20, declare: { type: quorum, bind: [ { exchange: e, routing_key: 'a.#' } ] } }",
    "sql: { connector: erp-db, query: select id from t where sent = 0, mark: { update: update t set sent = 1 where id = :id }, every: 5s, batch: 50 }",
    "sql: { connector: erp-db, outbox: { table: esb_outbox, delete: true } }",
    "timer: { every: 5m }",
    "timer: { cron: '0 6 * * 1-5', catch_up: once }",
    "topic: lots",
    "route: {}",
]  # fmt: skip


def test_what_sources_are_written_with(read: Read) -> None:
    lint(
        read,
        *(
            f"from: {{ {source.replace('/r/', f'/r{n}/')} }}\nsteps: [ {{ log: x }} ]\n"
            for n, source in enumerate(SOURCES)
        ),
    )


TARGETS = [
    "http: { url: 'https://a.example.com/x', headers: { a: b }, query: { a: b }, body: body.a, proxy: 'http://p.example.com:80', expect: [201, 409] }",
    *(f"http: {{ url: 'https://a.example.com/x', auth: {auth} }}" for auth in (
        "{ api_key: { key: '${secret:erp}' } }", "{ basic: { user: a, password: '${secret:erp}' } }", "{ bearer: '${secret:erp}' }",
        "{ oauth2: { token_url: 'https://a.example.com/t', client_id: a, client_secret: '${secret:erp}' } }", "{ hmac: { secret: '${secret:erp}' } }")),
    "http: { url: 'https://a.example.com/x', csrf: sap, tls: { cert: a.pem, key: b.pem }, idempotency_key: '{{ body.no }}' }",
    "http: { url: 'https://a.example.com/x', verify: { url: 'https://a.example.com/x/{{ body.no }}', done_when: meta.reply.body.ok } }",
    *(f"file: {{ path: 'out/{{{{ body.no }}}}', exists: {exists}, mkdirs: true }}" for exists in ("fail", "replace", "append", "unique")),
    *(f"sftp: {{ connector: supplier-gateway, path: out/x, exists: {exists} }}" for exists in ("fail", "replace", "append", "unique")),
    "amqp: { connector: plant-bus, exchange: e, routing_key: 'a.{{ body.no }}', persistent: true, mandatory: true }",
    "sql: { connector: erp-db, statement: 'insert into t values (:no)', values: { no: body.no }, batch: 50 }",
    "sql: { connector: erp-db, upsert: { table: t, key: [no] }, values: { no: body.no } }",
    "topic: lots",
    "smtp: { connector: mail, from: esb@example.com, to: a@example.com, subject: 'lot {{ body.no }}', text: x }",
]  # fmt: skip
STEPS_WRITTEN = [
    *(f"to: {{ {target} }}" for target in TARGETS),
    "validate: { contract: asn-row.v1, as: body.row }",
    "map: { a: body.b, c: { d: body.e } }",
    "transform: transforms/x.jmes",
    "transform: { jmespath: body.a }",
    *(f"transform: {{ jinja: '{{{{ body.a }}}}', format: {kind} }}" for kind in ("json", "xml", "text")),
    "set: { vars.x: body.a, headers.x: \"'a'\", body.x.y: body.b }",
    "remove: [body.a, headers.b]",
    *(f"parse: {kind}" for kind in ("json", "xml", "csv", "excel", "edifact", "x12", "idoc")),
    *(f"lookup: {{ table: plants, by: body.plant, into: vars.x, missing: {how} }}" for how in ("park", "reject")),
    "lookup: { table: plants, by: body.plant, into: vars.x, missing: default, default: \"'1000'\" }",
    "enrich: { from: erp.material, cache: 10m }",
    "filter: body.a",
    "split: { each: body.lines, key: body.no, dedupe: body.id, on_item_error: quarantine, max_bad: 5%, steps: [ { log: x } ] }",
    "split: { each: body.lines, on_item_error: fail, steps: [ { log: x } ] }",
    "aggregate: { by: body.no, complete: { size: 10, timeout: 5m, when: body.last }, into: body.all }",
    "resequence: { by: body.n, key: body.no, gap_timeout: 5m }",
    "publish: { topic: lots }",
    "to: erp.usage-decision",
    "dedupe: body.no",
    "claim: body.picture",
    "fetch: body.picture",
    "throttle: { rate: 50/s }",
    "delay: { for: 5s }",
    "delay: { until: body.at }",
    "tap: mes.order",
    "respond: { status: 200, headers: { a: b }, body: body.a }",
    "reject: 'no lot {{ body.no }}'",
    "log: { text: 'lot {{ body.no }}', fields: { a: body.a } }",
    "python: own.twice",
]  # fmt: skip


def test_what_steps_are_written_with(read: Read) -> None:
    listens = "from: { topic: lots }\nsteps: [ { log: x } ]\n"
    lint(read, listens, *(f"from: {{ route: {{}} }}\nsteps:\n  - {step}\n" for step in STEPS_WRITTEN))


BESIDE = [
    "name: hold",
    "if: body.a",
    "timeout: 10s",
    "retry: { for: [timeout, unavailable], max: 8, backoff: 2s..5m, jitter: full, within: 24h }",
    "on_timeout: { verify: erp.material, done_when: meta.reply.body }",
    "into: vars.reply",
    "continue_on_error: true",
    "when_down: queue",
    "when_down: { reject: 503 }",
    "when_down: { fallback: [ { to: { file: { path: out/x } } } ] }",
    "when_down: { drop_after: 1h }",
]


def test_what_stands_beside_a_step(read: Read) -> None:
    head, undo = (
        "from: { route: {} }\nsteps:\n  - to: erp.usage-decision\n",
        "  - compensate: { steps: [ { log: x } ] }\n",
    )
    lint(read, *(f"{head}    {beside}\n{undo}" for beside in BESIDE))


FIELDS = [
    "description: x\nversion: '2'\nenabled: false",
    "key: body.a\norder: { on_dead: block }",
    "key: body.a\norder: { on_dead: skip, overtake: body.hold }",
    "retry: { for: any, max: 3 }\nttl: 1d\nconcurrency: 4\nwithin: 5s",
    "expect: { every: 1h }",
    "kpis: { taken: { count: accepted } }",
    *(f"on_error: [ {{ for: {kind}, dead_letter: desk }} ]" for kind in (
        "invalid", "unmapped", "rejected", "timeout", "unavailable", "exhausted", "expired", "internal", "any")),
    "on_error: [ { for: any, alert: quality-oncall, steps: [ { to: { file: { path: out/x } } } ] } ]",
    "on_error: [ { for: invalid, dead_letter: desk, reply: { status: 422 } } ]",
]  # fmt: skip


def test_what_a_route_says_of_itself(read: Read) -> None:
    head, steps = "from: { http: { path: /rNN, reply: delivered } }\n", "steps: [ { to: mes.order } ]\n"
    lint(read, *(f"{head.replace('NN', str(n))}{fields}\n{steps}" for n, fields in enumerate(FIELDS)))


SITE = {
    "routes/t.yaml": """
template: hold-sync
params: { prefix: { type: string } }
routes:
  - route: "{{ params.prefix }}-holds"
    owner: me
    from: { http: { path: "/{{ params.prefix }}/holds" } }
    steps: [ { to: mes.order } ]
""",
    "routes/sites/P20.yaml": """
site: P20
use: [ { template: hold-sync, params: { prefix: p20 } } ]
connectors: { wms: { host: wms-p20.example.com } }
timezone: Europe/Berlin
locale: de-DE
tables: { plants: transforms/tables/plants.csv }
policies: { require: [owner] }
""",
    "connectors/wms.yaml": "connector: wms\ntype: http\nparams: { host: { type: string } }\nbase_url: 'https://{{ params.host }}'\n",
}


def test_what_a_template_and_a_site_are_written_with(read: Read) -> None:
    assert "p20-holds" in good(read({**FILES, **SITE}, environ=ENVIRON)).routes


CASES = """
route: r0
cases:
  - name: the ERP is down twice, then takes it once
    send: { file: ../samples/inspection-reject.json, times: 2 }
    stubs: { erp.usage-decision: [ { fail: unavailable, times: 2 }, { status: 201, json: { ok: true } } ] }
    faults: { kill_after: "to:erp.usage-decision" }
    expect:
      state: done
      attempts: 3
      sent: [ { to: erp.usage-decision, times: 1, json: { UsageDecision: R } } ]
"""
FAULTS = [
    "duplicate: true",
    "reorder: true",
    "outage: { target: erp, for: 5m }",
    "slow: { target: erp, by: 5s }",
    "half_file: true",
    "clock_jump: { forward: 1h }",
]


@pytest.mark.parametrize("faults", ["", *FAULTS])
def test_what_a_case_is_written_with(read: Read, tmp_path: Path, faults: str) -> None:
    lint(read, "from: { http: { path: /r } }\nsteps: [ { to: erp.usage-decision } ]\n")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/inspection-reject.json").write_text("{}")
    case = CASES if not faults else CASES.replace('kill_after: "to:erp.usage-decision"', faults)
    suites, problems = read_suite_text(tmp_path, "routes/r.test.yaml", case, lambda _: None)
    assert (len(suites), [str(problem) for problem in problems]) == (1, [])
