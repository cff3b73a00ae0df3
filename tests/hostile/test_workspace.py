"""S3, S4, S8, S10, S16, S17, S18, S46, S50: what a file of the workspace may ask for, and what lies around it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.demo.harness import ROOT
from tests.hostile.tools import Listener, Target, attacked, esb, problems, write

CANARY = "canary-was-here"


def one_route(n: int, steps: str) -> str:
    return f"route: r{n}\nfrom: {{ http: {{ path: /r/{n}, method: POST, format: json, reply: delivered }} }}\nsteps:\n{steps}"


# -- S3, S4: templates of routes ------------------------------------------------------------------------------------------
GADGETS = [
    "{{ cycler.__init__.__globals__.os.popen('touch CANARY') }}", "{{ self.__init__.__globals__ }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}", "{{ body.x|attr('__class__') }}", "{{ ''|attr(['__cla','ss__']|join) }}",
    "{{ '{0.__class__}'.format(1) }}", "{{ ''.format_map.__self__ }}", "{{ joiner.__init__.__globals__ }}", "{{ namespace.__init__ }}", "{{ range.__class__ }}",
    "{{ get_flashed_messages }}", "{{ config }}", "{{ request }}", "{{ url_for.__globals__ }}", "{{ x.__init__ }}", "{{ dict.__base__ }}", "{{ body['__class__'] }}",
    "{% include '/etc/passwd' %}", "{% import 'os' as o %}", "{% extends '/etc/passwd' %}", "{% from 'os' import popen %}", "{{ open('/etc/passwd').read() }}",
    "{{ import('os') }}", "{{ eval('1') }}", "{% do x %}", "{% debug %}", "{{ meta.__class__ }}", "{{ headers.__class__ }}", "{{ body.items.__globals__ }}",
    "{{ ''['__class__'] }}", "{{ (lambda: 1)() }}", "{{ ().__class__ }}", "{{ 1 .__class__ }}", "{{ true.__class__ }}", "{{ none.__class__ }}",
    "{{ 'a' * 200000000 }}", "{{ '%200000000d' % 1 }}", "{{ 'a'.ljust(200000000) }}", "{{ 'a'|center(200000000) }}", "{{ range(200000000)|list }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor %}{% endfor %}{% endfor %}",
    "{{ 10 ** 100000000 }}", "{% set x = 'a' * 1000 %}{{ x * 1000000 }}", "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
]  # fmt: skip


def test_s3_s4_a_template_reaches_nothing_and_ends(tmp_path: Path) -> None:
    def route(n: int) -> str:
        step = json.dumps(
            {"transform": {"jinja": GADGETS[n].replace("CANARY", str(tmp_path / CANARY)), "format": "text"}}
        )
        return one_route(n, f"  - {step}\n  - respond: {{ status: 200, body: body }}\n")

    routes: dict[str, str | bytes] = {f"routes/r{n}.yaml": route(n) for n in range(len(GADGETS))}
    write(tmp_path, routes)
    refused = {item["path"] for item in problems(tmp_path) if item["severity"] == "error"}
    for path in refused:
        (tmp_path / path).unlink()
        del routes[path]
    assert len(refused) > len(GADGETS) // 2
    with attacked(tmp_path, routes, "--no-watch") as target:
        before = target.rss()
        for path in routes:
            if path == "routes/probe.yaml":
                continue
            n = int(path.removeprefix("routes/r").removesuffix(".yaml"))
            answer = target.http.post_json(f"/r/{n}", {"x": "y"})
            assert answer.status in (422, 500), (GADGETS[n], answer)
            for word in (b"root:", b"<class", b"function", b"object at", b"module"):
                assert word not in answer.body, GADGETS[n]
            target.alive()
        assert target.rss() - before < 150_000_000
    assert not (tmp_path / CANARY).exists()


# -- S8: schemas ----------------------------------------------------------------------------------------------------------
def schemas(canary: str) -> dict[str, object]:
    return {
        "http": {"$ref": f"{canary}/a.json"},
        "https": {"$ref": canary.replace("http:", "https:") + "/a.json"},
        "file": {"$ref": "file:///etc/passwd"},
        "ftp": {"$ref": canary.replace("http:", "ftp:") + "/a"},
        "dots": {"$ref": "../../../../etc/passwd"},
        "absolute": {"$ref": "/etc/passwd"},
        "no scheme": {"$ref": canary.removeprefix("http:") + "/a.json"},
        "id": {"$id": f"{canary}/base/", "properties": {"a": {"$ref": "a.json"}}},
        "deep id": {"properties": {"a": {"$id": f"{canary}/x/", "$ref": "y.json"}}},
        "dynamic": {"$dynamicRef": f"{canary}/a.json#x"},
        "recursive": {"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveRef": f"{canary}/a.json"},
        "dialect": {"$schema": f"{canary}/schema"},
        "in allOf": {"allOf": [{"$ref": f"{canary}/a.json"}]},
        "unused": {"$defs": {"never": {"$ref": f"{canary}/a.json"}}},
        "data url": {"$ref": "data:application/json,{}"},
        "percent": {"$ref": "%2e%2e/%2e%2e/etc/passwd"},
    }  # fmt: skip


def test_s8_no_schema_fetches_anything(tmp_path: Path, canary: Listener) -> None:
    files: dict[str, str | bytes] = {}
    for n, schema in enumerate(schemas(canary.url).values()):
        files[f"schemas/s{n}.v1.json"] = json.dumps(schema)
        files[f"routes/s{n}.yaml"] = (
            f"route: s{n}\nfrom: {{ http: {{ path: /s/{n}, method: POST, contract: s{n}.v1 }} }}\nsteps:\n  - filter: body\n"
        )
    found = problems(write(tmp_path, files))
    assert {item["path"] for item in found} == {f"schemas/s{n}.v1.json" for n in range(len(schemas("")))}
    assert canary.connections == 0


# -- S10: YAML ------------------------------------------------------------------------------------------------------------
YAML: dict[str, Callable[[Path], str]] = {
    "python object": lambda root: f"!!python/object/apply:os.system ['touch {root / CANARY}']",
    "python new": lambda root: f"route: !!python/object/new:os.system ['touch {root / CANARY}']",
    "python name": lambda _: "route: !!python/name:os.system",
    "python module": lambda _: "route: !!python/module:os",
    "own tag": lambda _: "route: !exec id",
    "binary": lambda _: "route: !!binary aWQ=",
    "alias bomb": lambda _: "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)),
    "recursive alias": lambda _: "route: &a [*a]",
    "unknown alias": lambda _: "route: *a",
    "duplicate keys": lambda _: "route: a\nroute: b\nfrom: { timer: { every: 1h } }\nsteps: [{ log: x }]\n",
    "deep": lambda _: "[" * 10_000,
    "deep flow": lambda _: "route: " + "{a: " * 5_000,
    "deep block": lambda _: "".join(" " * n + "a:\n" for n in range(500)),
    "4 MB": lambda _: "# " + "x" * 4_100_000,
    "nul": lambda _: "route: a\x00b",
    "long number": lambda _: "route: " + "9" * 100_000,
    "complex key": lambda _: "? [a, b]\n: c\n",
    "tabs": lambda _: "route:\n\t- a\n",
    "include": lambda _: "route: !include /etc/passwd",
}  # fmt: skip


def test_s10_yaml_is_data_and_small(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"routes/y{n}.yaml": make(tmp_path) for n, make in enumerate(YAML.values())}
    found = problems(write(tmp_path, files))
    for n, name in enumerate(YAML):
        mine = [item for item in found if item["path"] == f"routes/y{n}.yaml"]
        assert mine, name
        assert all(item["line"] >= 1 for item in mine), name
    assert not (tmp_path / CANARY).exists()


# -- S16, S17, S18: addresses ---------------------------------------------------------------------------------------------
STORES = ["sqlite:///:memory:", "sqlite:///a.db?vfs=unix-none&load_extension=1", "h2:mem:x;INIT=RUNSCRIPT FROM 'http://x'", "file:///etc/passwd",
    "postgresql+psycopg://127.0.0.1:1/db?options=-csession_preload_libraries=x", "postgresql+psycopg://127.0.0.1:1/db?service=x",
    'postgresql+psycopg://127.0.0.1:1/db?schema=a";drop', "postgresql+psycopg://127.0.0.1:1/"]  # fmt: skip


def test_s17_a_store_takes_no_options_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, {})
    took = []
    for store in STORES:
        (tmp_path / "esb.yaml").write_text(f"bus: a\nstore: {json.dumps(store)}\n")
        done = esb("status", "--json", cwd=tmp_path)
        if done.returncode in (0, 75):
            took.append(store)
        assert "Traceback" not in done.stderr, store
    assert took == []
    assert not any(name.suffix == ".db" for name in tmp_path.rglob("*"))


URLS = [
    "{{ body.url }}", "http://{{ body.host }}/a", "http://{{ body.host }}.example.com/", "http://a{{ body.x }}/", "http://a:{{ body.port }}/", "{{ body.scheme }}://a/",
    "http://{{ body.user }}@a/", "http://user:pass@a/", "http://a@b/", "file:///etc/passwd", "ftp://a/b", "gopher://a/", "unix:///var/run/docker.sock", "http+unix://%2Fvar%2Frun/",
    "//a/b", "http:///a", "http://", "http:a", "javascript:alert(1)", "data:text/plain,a", "http://a b/", "http://a\\b/", "http://a/\n", "http://[::1", "http://a:99999x/",
    "{% if true %}http://a/{% endif %}", "http://a/{% if true %}x{% endif %}", "http://a/{# x #}", "http://a#b/", "http://${HOST_NOT_SET}/", "${secret:nothing}/a", "http://a/%zz",
]  # fmt: skip


def test_s18_hosts_come_from_the_configuration_alone(tmp_path: Path) -> None:
    def route(n: int) -> str:
        return one_route(n, f"  - {json.dumps({'to': {'http': {'url': URLS[n], 'method': 'POST'}}})}\n")

    found = problems(write(tmp_path, {f"routes/r{n}.yaml": route(n) for n in range(len(URLS))}))
    refused = {item["path"] for item in found if item["severity"] == "error"}
    assert [url for n, url in enumerate(URLS) if f"routes/r{n}.yaml" not in refused] == []


HEADERS = ["Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "a b", "a:b", "a\nb", "", "é"]


def test_s18_s20_a_sink_writes_no_header_of_the_transport(tmp_path: Path) -> None:
    def route(n: int) -> str:
        step = {"to": {"http": {"url": "http://127.0.0.1:9/", "headers": {HEADERS[n]: "x"}}}}
        return one_route(n, f"  - {json.dumps(step)}\n")

    found = problems(write(tmp_path, {f"routes/r{n}.yaml": route(n) for n in range(len(HEADERS))}))
    assert {item["path"] for item in found if item["severity"] == "error"} == {
        f"routes/r{n}.yaml" for n in range(len(HEADERS))
    }


PATHS = [".esb/bus.db", ".esb/x", "routes/x.yaml", "esb.yaml", "connectors/x.py", "out/../esb.yaml", "schemas/x.v1.json", ".secrets/x"]  # fmt: skip


def test_s11_a_sink_writes_nothing_of_the_bus_itself(tmp_path: Path) -> None:
    def route(n: int) -> str:
        return one_route(n, f"  - {json.dumps({'to': {'file': {'path': PATHS[n], 'exists': 'replace'}}})}\n")

    routes: dict[str, str | bytes] = {f"routes/r{n}.yaml": route(n) for n in range(len(PATHS))}
    root = tmp_path / "bus"
    refused = {item["path"] for item in problems(write(root, routes)) if item["severity"] == "error"}
    kept = {path: text for path, text in routes.items() if path not in refused}
    shutil.rmtree(root)
    with attacked(root, {**kept, "esb.yaml": "bus: a\n"}, "--no-watch") as target:
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and ".esb" not in path.parts}
        for path in kept:
            answer = target.http.post_json(f"/r/{path.removeprefix('routes/r').removesuffix('.yaml')}", {"x": "y"})
            assert answer.status in (422, 500, 502), path
        for path, content in before.items():
            assert "var" in path.parts or path.read_bytes() == content
        assert not (root / "routes" / "x.yaml").exists()
        target.alive()


# -- S46: what lies around ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    root = tmp_path_factory.mktemp("modes")
    (root / "in").mkdir()
    routes = """
route: written
from: { http: { path: /written, method: POST, format: json, reply: delivered } }
steps:
  - to: { file: { path: "out/deep/{{ body.name }}.json" } }
---
route: files
from: { file: { path: in/*.json, every: 100ms, ready: { rename: true } } }
steps:
  - filter: "`false`"
"""
    write(root, {"routes/a.yaml": routes})
    before = os.umask(0)  # the shell that starts the bus keeps nobody out: the bus itself must
    try:
        attack = attacked(root, {}, "--no-watch")
        found = attack.__enter__()
    finally:
        os.umask(before)
    with contextlib.ExitStack() as stack:
        stack.push(attack)
        yield found


def test_s46_what_the_bus_writes_is_not_for_everybody(target: Target) -> None:
    for n in range(3):
        assert target.http.post_json("/written", {"name": f"n{n}"}).status == 200
    (target.root / "in" / "a.part").write_text("{}")
    (target.root / "in" / "a.part").rename(target.root / "in" / "a.json")
    target.drained("files")
    modes = {p: stat.S_IMODE(p.lstat().st_mode) for p in target.root.rglob("*")}
    store = {path: mode for path, mode in modes.items() if ".esb" in path.relative_to(target.root).parts}
    assert {path.name for path in store} >= {"bus.db", "bus.db-wal", "bus.lock"}
    assert {str(p): oct(m) for p, m in store.items() if m & 0o077} == {}
    out = {path: mode for path, mode in modes.items() if "out" in path.relative_to(target.root).parts}
    assert len(out) >= 4
    assert {str(p): oct(m) for p, m in out.items() if m & 0o027} == {}
    assert modes.get(target.root / "in" / ".esb-claim", 0) & 0o077 == 0


def test_s50_what_everybody_may_write_is_not_followed(tmp_path: Path) -> None:
    plugin = "from pathlib import Path\n\nPath(__file__).with_name('ran').touch()\n"
    files = {
        "esb.yaml": "bus: a\n",
        "routes/a.yaml": one_route(1, "  - validate: a.v1\n  - transform: transforms/a.jmes\n"),
        "schemas/a.v1.json": "{}",
        "transforms/a.jmes": "body",
        "connectors/own.py": plugin,
    }
    write(tmp_path, {**files})
    ran = tmp_path / "connectors" / "ran"
    assert [item for item in problems(tmp_path) if item["severity"] == "error"] == []
    ran.unlink()
    for path in files:
        (tmp_path / path).chmod(0o666)
    assert {item["path"] for item in problems(tmp_path) if item["code"] == "ESB506"} == set(files)
    for path in files:
        (tmp_path / path).chmod(0o644)
    for folder in ("routes", "schemas", "transforms", "connectors"):
        (tmp_path / folder).chmod(0o777)
    found = {item["path"] for item in problems(tmp_path) if item["code"] == "ESB506"}
    assert found >= {path for path in files if "/" in path}
    assert esb("run", ".", cwd=tmp_path).returncode == 78
    assert not ran.exists()


def test_s50_no_module_of_a_workspace_stands_in_for_another(tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / CANARY)!r}, 'w').close()\nraise SystemExit(3)\n"
    names = [
        "json",
        "yaml",
        "click",
        "asyncio",
        "jinja2",
        "esb",
        "sitecustomize",
        "usercustomize",
        "starlette",
        "uvloop",
        "secrets",
        "sqlite3",
    ]
    root = tmp_path / "bus"
    write(root, {**{f"{name}.py": trap for name in names}, **{f"routes/{name}.py": trap for name in names}})
    program = Path(sys.executable).with_name("esb")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in (["lint", "."], ["status", "--json"]):
        done = subprocess.run(
            [program, *words], cwd=root, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode in (0, 1, 69, 75), done.stderr
    assert not (tmp_path / CANARY).exists()


def test_s50_a_plugin_has_a_name_of_its_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"connectors/json.py": '"""Named like a module of Python."""\n', "connectors/yaml.py": '"""The same."""\n'},
    )
    with attacked(tmp_path, {}, "--no-watch") as target:
        target.alive()


# -- S47: the store -------------------------------------------------------------------------------------------------------
CHANGES = {
    "edit": "UPDATE audit SET reason = 'nothing' WHERE rowid = (SELECT max(rowid) - 1 FROM audit)",
    "delete": "DELETE FROM audit WHERE rowid = (SELECT max(rowid) - 1 FROM audit)",
    "swap": "UPDATE audit SET actor = 'somebody else' WHERE rowid = (SELECT min(rowid) FROM audit)",
}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("used")
    with attacked(root, {}, "--no-watch") as target:
        bearer = {"Authorization": f"Bearer {target.token()}"}
        for n in range(5):
            words = json.dumps({"actor": "anna", "reason": f"because {n}"}).encode()
            for action in ("pause", "resume"):
                assert target.admin.send("POST", f"/api/v1/routes/probe/{action}", words, bearer).status == 200
    assert esb("audit", "verify", cwd=root).returncode == 0
    return root


def test_s47_a_changed_audit_is_found(tmp_path: Path, used: Path) -> None:
    for change, statement in CHANGES.items():
        root = tmp_path / change
        shutil.copytree(used, root)
        with contextlib.closing(sqlite3.connect(root / ".esb" / "bus.db")) as connection:
            assert connection.execute(statement).rowcount == 1
            connection.commit()
        done = esb("audit", "verify", cwd=root)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False), change


def test_s47_a_store_that_is_none_is_refused(tmp_path: Path, used: Path) -> None:
    for content in (b"not a database", b"SQLite format 3\x00" + b"\x00" * 4096):
        root = tmp_path / str(len(content))
        shutil.copytree(used, root)
        for name in ("bus.db-wal", "bus.db-shm"):
            (root / ".esb" / name).unlink(missing_ok=True)
        (root / ".esb" / "bus.db").write_bytes(content)
        done = esb("run", ".", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", cwd=root)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert (root / ".esb" / "bus.db").read_bytes() == content, "nothing is written over it"
