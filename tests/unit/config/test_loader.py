from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from esb.config.loader import load_workspace, read_workspace, require_workspace, settings_at
from esb.errors import ConfigError
from esb.secret import Secret

from .conftest import ERP, Read, good, only

ROUTE = "route: {name}\nfrom: {{ http: {{ path: /{name} }} }}\nsteps: [ {{ log: hello }} ]\n"


def simple(name: str = "r") -> str:
    return ROUTE.format(name=name)


# -- which files ----------------------------------------------------------------------------------------------------------


def test_an_empty_folder_is_a_workspace(tmp_path: Path) -> None:
    workspace, problems = load_workspace(tmp_path, environ={})
    assert workspace is not None
    assert not problems
    assert workspace.settings.store == "sqlite:///.esb/bus.db"


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    workspace, problems = load_workspace(tmp_path / "none", environ={})
    assert workspace is None
    assert problems[0].code == "ESB803"


def test_routes_are_found_at_any_depth_and_tests_are_not_routes(read: Read) -> None:
    loaded = read(
        {
            "routes/a.yaml": simple("a") + "---\n" + simple("b"),
            "routes/deep/er/c.yml": simple("c"),
            "routes/c.test.yaml": "route: c\ncases: []\n",
            "routes/.hidden.yaml": "nonsense",
            "routes/notes.md": "nonsense",
        }
    )
    assert list(good(loaded).routes) == ["a", "b", "c"]
    assert str(good(loaded).routes["b"].position) == "routes/a.yaml:5:8"


@pytest.mark.parametrize("path", ["routes/r.yaml", "connectors/erp.yaml"])
@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "---\n"])
def test_an_empty_file_is_an_error_so_that_half_a_save_removes_no_route(read: Read, path: str, text: str) -> None:
    problem = only(read({path: text}))
    assert (problem.code, problem.severity, problem.position.path) == ("ESB114", "error", path)


def test_an_empty_file_of_settings_or_tests_is_fine(read: Read) -> None:
    good(read({"esb.yaml": "# nothing yet\n", "routes/a.test.yaml": ""}))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("routes/x.yaml", "- a\n"),
        ("routes/x.yaml", "just a text\n"),
        ("routes/x.yaml", "cases: []\n"),
        ("routes/x.yaml", "rout: r\nfrom: {}\n"),
        ("connectors/x.yaml", "route: r\n"),
        ("connectors/x.yaml", "type: http\n"),
        ("esb.yaml", "route: r\n"),
        ("esb.yaml", "bus: a\n---\nbus: b\n"),
    ],
)
def test_a_document_that_is_nothing_of_ours_is_one_problem(read: Read, path: str, text: str) -> None:
    assert only(read({path: text})).code == "ESB108"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("params: {}\ntemplate: hold\n", "move this line to the top"),
        ("use: []\nsite: P20\n", "move this line to the top"),
        ("templat: hold\n", "did you mean `template`?"),
        ("sitee: P20\n", "did you mean `site`?"),
        ("colour: red\n", "known here: kpi, route, site, template"),
    ],
)
def test_the_kinds_that_may_stand_in_a_folder_are_named(read: Read, text: str, hint: str) -> None:
    problem = only(read({"routes/x.yaml": text}))
    assert problem.code == "ESB108"
    assert hint in problem.hint


def test_a_pipe_among_the_files_is_a_problem_and_nobody_waits_for_its_writer(read: Read, tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes by name here")
    (tmp_path / "routes").mkdir()
    os.mkfifo(tmp_path / "routes" / "pipe.yaml")
    problem = only(read({"routes/a.yaml": simple("a")}))
    assert (problem.code, problem.position.path) == ("ESB004", "routes/pipe.yaml")


def test_a_file_is_at_most_4_mb(read: Read) -> None:
    assert only(read({"routes/r.yaml": "#" * 4_000_001})).code == "ESB004"


def test_a_link_out_of_the_workspace_is_refused(
    read: Read, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "r.yaml"
    outside.write_text(simple(), encoding="utf-8")
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "r.yaml").symlink_to(outside)
    assert only(read({})).code == "ESB504"


def test_links_in_a_circle_are_a_problem_of_that_file(read: Read, tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "r.yaml").symlink_to("s.yaml")
    (tmp_path / "routes" / "s.yaml").symlink_to("r.yaml")
    problems = read({"routes/a.yaml": simple("a")}).errors
    assert {(problem.code, problem.position.path) for problem in problems} == {
        ("ESB004", "routes/r.yaml"),
        ("ESB004", "routes/s.yaml"),
    }


@pytest.mark.parametrize("folder", ["routes", "connectors", "schemas"])
def test_a_folder_that_cannot_be_listed_is_a_problem_and_not_an_empty_one(
    read: Read, tmp_path: Path, folder: str
) -> None:
    """A link to itself is one that nobody can list, root neither."""
    (tmp_path / folder).symlink_to(folder)
    problem = only(read({"esb.yaml": "bus: b\n"}))
    assert (problem.code, problem.position.path) == ("ESB004", folder)
    assert "the folder cannot be read" in problem.message


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111], ids=oct)
def test_a_folder_of_somebody_else_is_a_problem_and_not_an_empty_one(read: Read, tmp_path: Path, mode: int) -> None:
    deep = tmp_path / "routes" / "deep"
    deep.mkdir(parents=True)
    (deep / "r.yaml").write_text(simple(), encoding="utf-8")
    deep.chmod(mode)
    try:
        if os.access(deep, os.R_OK | os.W_OK | os.X_OK):
            pytest.skip("who runs this may read everything")
        problem = only(read({"esb.yaml": "bus: b\n"}))
    finally:
        deep.chmod(0o755)
    assert (problem.code, problem.position.path.startswith("routes/deep")) == ("ESB004", True)


@pytest.mark.parametrize("kind", ["folder", "link to nowhere"])
def test_settings_that_are_no_file_are_a_problem_and_not_the_defaults(read: Read, tmp_path: Path, kind: str) -> None:
    """A container's mount of a file that is not there makes a folder of its name."""
    place = tmp_path / "esb.yaml"
    place.mkdir() if kind == "folder" else place.symlink_to("config/esb.yaml")
    problem = only(read({"routes/a.yaml": simple("a")}))
    assert (problem.code, problem.position.path) == ("ESB004", "esb.yaml")


def test_a_byte_order_mark_does_no_harm(read: Read) -> None:
    assert list(good(read("\ufeff" + simple())).routes) == ["r"]


def test_the_caller_may_want_an_exception(read: Read, tmp_path: Path) -> None:
    read("route: R\n")
    with pytest.raises(ConfigError) as raised:
        require_workspace(tmp_path, environ={})
    assert len(raised.value.problems) >= 1
    read(simple())
    assert require_workspace(tmp_path, environ={}).routes


# -- one cause, one problem -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        ERP.replace("base_url", "base_ulr"),
        ERP.replace("type: http", "type: pigeon"),
        ERP + "operation: [\n",
        ERP.replace("connector: erp\ntype: http\n", "type: http\nconnector: erp\n"),
        ERP.replace("https://erp.example.com", "${ERP_URL}"),
        ERP + "inbound: { bearer: { token: '${secret:erp}' } }\n",
    ],
)
def test_a_broken_connector_is_no_second_problem_where_it_is_used(read: Read, text: str) -> None:
    use = "route: r\nfrom: { http: { path: /r, auth: erp } }\nsteps:\n  - to: erp.create-order\n  - tap: erp.usage-decision\n"
    problem = only(read({"connectors/erp.yaml": text, "routes/r.yaml": use}))
    assert problem.position.path == "connectors/erp.yaml"


@pytest.mark.parametrize(
    ("path", "text", "use"),
    [
        ("schemas/x.v1.json", "{ nonsense", "validate: x.v1"),
        ("transforms/x.jmes", "{ a: bdy.x }", "transform: x.jmes"),
        ("transforms/x.j2", "{{ body.x", "transform: transforms/x.j2"),
        ("transforms/tables/x.csv", "a,b\n1,2\n1,3\n", "lookup: { table: x, by: body.a, into: vars.b }"),
    ],
)
def test_a_broken_file_is_no_second_problem_where_it_is_used(read: Read, path: str, text: str, use: str) -> None:
    route = f"route: r\nfrom: {{ http: {{ path: /r }} }}\nsteps:\n  - {use}\n  - {use}\n"
    assert only(read({path: text, "routes/r.yaml": route})).position.path == path
    assert only(read({path: text, "routes/r.yaml": simple()})).position.path == path


def test_a_broken_route_silences_what_is_not_known_about_topics(read: Read) -> None:
    loaded = read(
        {
            "routes/a.yaml": "route: a\nfrom: { http: { path: /a } }\nsteps: [ { publish: lot.blocked } ]\n",
            "routes/b.yaml": "route: b\nfrom: { topic: lot.blocked }\nsteps: [ { lgo: x } ]\n",
        }
    )
    assert only(loaded).code == "ESB203"


def test_a_route_in_a_file_that_cannot_be_read_still_exists(read: Read) -> None:
    loaded = read(
        {
            "routes/a.yaml": "route: a\nfrom: { http: { path: /a } }\nsteps: [ { to: { route: b } } ]\n",
            "routes/b.yaml": "route: b\nfrom: { route: {} }\nsteps: [\n",
        }
    )
    assert only(loaded).position.path == "routes/b.yaml"


# -- environment and secrets ----------------------------------------------------------------------------------------------


def test_values_of_the_environment_reach_typed_options(read: Read) -> None:
    files = {"esb.yaml": "http: { port: '${PORT:-8090}' }\nlimits: { drain: '${DRAIN}' }\n"}
    settings = good(read(files, environ={"DRAIN": "3s"})).settings
    assert settings.http.port == 8090
    assert settings.limits.drain == timedelta(seconds=3)


def test_secrets_come_from_the_folder_that_the_settings_name(read: Read) -> None:
    files = {
        "esb.yaml": "secrets: my/secrets\nadmin: { token: '${secret:admin}' }\n",
        "my/secrets/admin": "s3cret\n",
    }
    token = good(read(files)).settings.admin.token
    assert isinstance(token, Secret)
    assert token.reveal() == "s3cret"


def test_without_the_environment_a_workspace_can_still_be_checked(read: Read) -> None:
    files = {
        "connectors/erp.yaml": ERP.replace("https://erp.example.com", "${ERP_URL}")
        + "auth: { bearer: '${secret:t}' }\n",
        "routes/r.yaml": "route: r\nfrom: { http: { path: /r } }\nsteps: [ { to: erp.create-order }, { lgo: x } ]\n",
        "esb.yaml": "http: { port: '${PORT}' }\n",
    }
    assert only(read(files, resolve_env=False)).code == "ESB203"


# -- routes ---------------------------------------------------------------------------------------------------------------


def test_a_route_takes_from_its_criticality_what_it_does_not_say(read: Read) -> None:
    files = {
        "esb.yaml": """criticality:
  high: { within: 5s, priority: high, alert: oncall, ttl: 1d, when_down: { drop_after: 1h } }
alerts: { oncall: {}, other: {} }
""",
        "routes/a.yaml": simple("a") + "criticality: high\n",
        "routes/b.yaml": simple("b")
        + "criticality: high\nwithin: 1m\npriority: low\nalert: other\nttl: 2d\nwhen_down: queue\n",
        "routes/c.yaml": simple("c") + "concurrency: 7\n",
    }
    routes = good(read(files)).routes
    a, b, c = routes["a"], routes["b"], routes["c"]
    assert (a.within, a.priority, a.alert, a.ttl, a.concurrency) == (
        timedelta(seconds=5), "high", "oncall", timedelta(days=1), 64,
    )  # fmt: skip
    assert a.when_down.mode == "drop_after"
    assert (b.within, b.priority, b.alert, b.ttl, b.concurrency) == (
        timedelta(minutes=1), "low", "other", timedelta(days=2), 4,
    )  # fmt: skip
    assert b.when_down.mode == "queue"
    assert (c.priority, c.concurrency, c.ttl, c.alert, c.retry.max) == ("normal", 7, None, "", 5)


def test_the_fields_of_a_route(read: Read) -> None:
    spec = good(
        read(
            """route: r
description: what it is for
owner: quality-it
version: '1.4'
enabled: false
key: body.lot
dedupe: { key: body.id, window: 1d }
track: { lot: body.lot }
from: { http: { path: /r } }
steps: [ { log: x } ]
order: { on_dead: skip }
on_error:
  - { for: [invalid, unmapped], dead_letter: master-data }
"""
        )
    ).routes["r"]
    assert (spec.description, spec.owner, spec.version, spec.enabled) == ("what it is for", "quality-it", "1.4", False)
    assert spec.key is not None
    assert spec.key.text == "body.lot"
    assert spec.dedupe is not None
    assert spec.dedupe.window == timedelta(days=1)
    assert spec.track["lot"].text == "body.lot"
    assert spec.order.on_dead == "skip"
    assert spec.on_error[0].for_ == ("invalid", "unmapped")
    assert (spec.source.protocol, spec.source.connector) == ("http", "")


# -- versions -------------------------------------------------------------------------------------------------------------

WHOLE = {
    "esb.yaml": "timezone: UTC\nsite: { plant: P10 }\ncriticality: { a: { within: 5s }, b: { within: 9s } }\n",
    "connectors/erp.yaml": ERP,
    "connectors/mes.yaml": ERP.replace("connector: erp", "connector: mes"),
    "schemas/order.v1.json": '{ "$ref": "common.v1.json" }\n',
    "schemas/common.v1.json": '{ "type": "object" }\n',
    "schemas/other.v1.json": '{ "type": "object" }\n',
    "transforms/order.j2": '{ "a": {% include "part.j2" %} }\n',
    "transforms/part.j2": "{{ body.a | tojson }}\n",
    "transforms/lines.jmes": "{ a: xref('plants', body.a) }\n",
    "transforms/tables/plants.csv": "plant,werks\nP10,1000\n",
    "transforms/tables/units.csv": "unit,iso\nST,PCE\n",
    "routes/r.yaml": """route: r
criticality: a
from: { http: { path: /r } }
steps:
  - validate: order.v1
  - transform: order.j2
  - transform: lines.jmes
  - to: erp.create-order
""",
}


def test_a_version_names_everything_that_it_is_made_of(read: Read) -> None:
    assert sorted(good(read(WHOLE)).routes["r"].files) == [
        "connectors/erp.yaml",
        "routes/r.yaml",
        "schemas/common.v1.json",
        "schemas/order.v1.json",
        "transforms/lines.jmes",
        "transforms/order.j2",
        "transforms/part.j2",
        "transforms/tables/plants.csv",
    ]


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("routes/r.yaml", "/r }", "/q }"),
        ("connectors/erp.yaml", "/orders", "/order"),
        ("schemas/common.v1.json", "{ ", '{ "title": "order", '),
        ("transforms/part.j2", "body.a", "body.b"),
        ("transforms/tables/plants.csv", "1000", "1001"),
        ("esb.yaml", "timezone: UTC", "timezone: Europe/Vienna"),
        ("esb.yaml", "P10", "P20"),
        ("esb.yaml", "within: 5s", "within: 6s"),
    ],
)
def test_what_matters_to_a_route_makes_a_new_version(read: Read, path: str, old: str, new: str) -> None:
    before = good(read(WHOLE)).routes["r"].digest
    assert good(read({path: WHOLE[path].replace(old, new)})).routes["r"].digest != before


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("routes/r.yaml", "route: r\n", "# a comment\nroute:   r   # and another\n"),
        ("connectors/erp.yaml", "type: http\n", "type: 'http'\n\n"),
        ("connectors/mes.yaml", "/orders", "/order"),
        ("schemas/other.v1.json", "object", "array"),
        ("transforms/tables/units.csv", "PCE", "H87"),
        ("esb.yaml", "within: 9s", "within: 8s"),
        ("esb.yaml", "timezone", "bus: other\ntimezone"),
    ],
)
def test_what_does_not_matter_to_a_route_makes_none(read: Read, path: str, old: str, new: str) -> None:
    before = good(read(WHOLE)).routes["r"].digest
    assert good(read({path: WHOLE[path].replace(old, new)})).routes["r"].digest == before


def test_a_new_secret_changes_the_connector_and_no_version(read: Read) -> None:
    files = {**WHOLE, "connectors/erp.yaml": ERP + "auth: { bearer: '${secret:erp}' }\n"}
    first = good(read(files, environ={"ESB_SECRET_ERP": "one"}))
    again = good(read(files, environ={"ESB_SECRET_ERP": "one"}))
    second = good(read(files, environ={"ESB_SECRET_ERP": "two"}))
    assert first.connectors["erp"].digest == again.connectors["erp"].digest != second.connectors["erp"].digest
    assert first.routes["r"].digest == second.routes["r"].digest
    assert "one" not in "".join(first.routes["r"].files.values())


# -- connectors -----------------------------------------------------------------------------------------------------------


def test_a_connector_has_settings_connection_and_operations(read: Read) -> None:
    connector = good(
        read(
            {
                "connectors/erp.yaml": ERP
                + "timeout: 5s\nconcurrency: 4\ncircuit: { failures: 3 }\ndescription: the ERP\n"
            }
        )
    ).connectors["erp"]
    assert (connector.type, str(connector.position)) == ("http", "connectors/erp.yaml:1:12")
    assert connector.settings.timeout == timedelta(seconds=5)
    assert connector.settings.circuit is not None
    assert connector.settings.circuit.failures == 3
    assert connector.connection.base_url == "https://erp.example.com"
    assert list(connector.operations) == ["create-order", "usage-decision"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("connector: ERP\ntype: http\nbase_url: https://e.example.com\n", "ESB110"),
        ("connector: [erp]\ntype: http\nbase_url: https://e.example.com\n", "ESB103"),
        ("connector: erp\nbase_url: https://e.example.com\n", "ESB102"),
        ("connector: erp\ntype: [http]\n", "ESB103"),
        ("connector: erp\ntype: jms\n", "ESB204"),
        ("connector: erp\ntype: http\n", "ESB102"),
        (ERP + "timeout: 5\n", "ESB104"),
        (ERP + "conncurrency: 5\n", "ESB101"),
        (ERP + "owner: me\n", "ESB101"),
        (ERP.replace("create-order:", "'create order':"), "ESB110"),
        (ERP.replace("path: /orders", "pth: /orders"), "ESB101"),
        ("connector: erp\ntype: http\nbase_url: https://e.example.com\noperations: [a]\n", "ESB103"),
        (ERP + "maintenance: [ { cron: '0 22 * * 6' } ]\n", "ESB102"),
    ],
)
def test_what_is_wrong_with_a_connector_is_one_problem(read: Read, text: str, code: str) -> None:
    assert only(read({"connectors/erp.yaml": text})).code == code


def test_two_connectors_of_one_name_name_both_places(read: Read) -> None:
    problem = only(read({"connectors/a.yaml": ERP, "connectors/b.yaml": ERP}))
    assert (problem.code, problem.position.path, problem.related[0][0].path) == (
        "ESB109",
        "connectors/b.yaml",
        "connectors/a.yaml",
    )


# -- settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("timezone: Mars/Olympus\n", "ESB804"),
        ("store: mysql://db/esb\n", "ESB105"),
        ("store: bus.db\n", "ESB105"),
        ("store: postgresql+psycopg://esb:hunter2@db/esb\n", "ESB501"),
        ("policy: { requires: [owner] }\n", "ESB101"),
        ("policy: { require: [colour] }\n", "ESB105"),
        ("policy: { forbid: plain_http }\n", "ESB105"),
        ("retention: { done: 30 }\n", "ESB104"),
        ("retention: { doen: 30d }\n", "ESB101"),
        ("- a\n", "ESB103"),
        ("admin: { token: abc }\n", "ESB501"),
        ("criticality: { a: { retry: { attempts: 3 } } }\n", "ESB101"),
    ],
)
def test_what_is_wrong_with_the_settings_is_one_problem(read: Read, text: str, code: str) -> None:
    assert only(read({"esb.yaml": text})).code == code


def test_settings_may_say_for_ever(read: Read) -> None:
    assert good(read({"esb.yaml": "retention: { audit: forever, max_size: 20GB, dead: 365d }\n"})).settings.retention


def test_settings_are_known_where_a_route_is_broken(read: Read) -> None:
    loaded = read({"esb.yaml": "store: sqlite:///x.db\n", "routes/r.yaml": "route: r\n"})
    assert loaded.workspace is None
    assert loaded.settings is not None
    assert loaded.settings.store == "sqlite:///x.db"


def test_a_route_with_an_unknown_criticality_is_not_blamed_for_broken_settings(read: Read) -> None:
    loaded = read({"esb.yaml": "criticality: { a: { withn: 5s } }\n", "routes/r.yaml": simple() + "criticality: a\n"})
    assert only(loaded).position.path == "esb.yaml"


CALLS = {
    "routes/r.yaml": "route: r\nfrom: { http: { path: /a, auth: erp } }\nsteps: [ { to: erp.create-order } ]\n",
    "connectors/erp.yaml": ERP + "inbound: { api_key: { key: '${secret:erp}' } }\n",
}
SENDS = {
    "routes/r.yaml": "route: r\nfrom: { http: { path: /a } }\nsteps: [ { to: erp.send } ]\n",
    "connectors/erp.yaml": "connector: erp\ntype: http\nbase_url: https://erp.example.com\n"
    "operations: { send: { path: /x, auth: { bearer: '${secret:erp}' } } }\n",
}


@pytest.mark.parametrize("files", [CALLS, SENDS], ids=["inbound", "of an operation"])
def test_a_new_secret_that_is_compiled_into_a_route_is_a_new_version(read: Read, files: dict[str, str]) -> None:
    first, again, second = (good(read(files, environ={"ESB_SECRET_ERP": v})) for v in ("one-1", "one-1", "two-2"))
    assert first.routes["r"].digest == again.routes["r"].digest != second.routes["r"].digest


def test_settings_are_read_without_the_routes(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "esb.yaml").write_text("bus: plant-graz\nstore: sqlite:///elsewhere.db\n")
    (tmp_path / "routes" / "broken.yaml").write_text(
        "route: broken\nfrom: { nothing: {} }\nsteps: [ { map: { x: body.( } } ]\n"
    )
    settings = settings_at(tmp_path)
    assert settings is not None
    assert settings == read_workspace(tmp_path).settings
    assert (settings.bus, settings.store) == ("plant-graz", "sqlite:///elsewhere.db")
    (tmp_path / "esb.yaml").write_text("bus: plant-graz\nstroe: x\n")
    assert settings_at(tmp_path) is None


def test_settings_of_the_reference_workspace_are_the_same_alone() -> None:
    root = Path(__file__).parents[3]
    assert settings_at(root) == read_workspace(root, need_secrets=False).settings
