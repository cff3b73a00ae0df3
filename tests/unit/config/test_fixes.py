"""`esb lint --fix` writes what can only have been meant, and leaves everything else as it stands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from esb.config.fixes import certain
from esb.config.fixing import add_modelines, fix_workspace
from esb.config.loader import Loaded, read_workspace

from .conftest import ERP

GOLDEN = Path(__file__).parents[2] / "golden" / "diagnostics"
CONTRACT = """{
  "type": "object", "additionalProperties": false,
  "properties": {
    "lot": { "type": "object", "additionalProperties": false, "properties": { "id": {}, "erp_no": {} } },
    "result": { "enum": ["ACCEPT", "REJECT"] }
  }
}
"""
HEAD = "# about the route\nroute: r   # its name\nfrom: { http: { path: /r, contract: nc.v1 } }\n"


def read(root: Path) -> Loaded:
    return read_workspace(root, environ={})


def workspace(root: Path, route: str) -> Path:
    texts = {"schemas/nc.v1.json": CONTRACT, "connectors/erp.yaml": ERP, "routes/r.yaml": route}
    texts["transforms/tables/plants.csv"] = "plant,werks\nP10,1000\n"
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text.encode())
    return root


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("steps: [ { lgo: x } ]   # note\n", "steps: [ { log: x } ]   # note\n"),
        ("steps:\n  - to: erp.create-ordr\n", "steps:\n  - to: erp.create-order\n"),
        ("steps:\n  - to: 'erp.create-ordr'   # quoted\n", "steps:\n  - to: 'erp.create-order'   # quoted\n"),
        ("steps:\n  - lookup: { table: plant, by: body.lot.id, into: vars.w }\n",
         "steps:\n  - lookup: { table: plants, by: body.lot.id, into: vars.w }\n"),
        ("retry: { attempts: 3 }\nsteps: [ { log: x } ]\n", "retry: { max: 3 }\nsteps: [ { log: x } ]\n"),
        ("within: 5 sec\nsteps: [ { log: x } ]\n", "within: 5s\nsteps: [ { log: x } ]\n"),
        ("ttl: '10 minutes'\nsteps: [ { log: x } ]\n", "ttl: 10m\nsteps: [ { log: x } ]\n"),
        ("version: 1.10\nsteps: [ { log: x } ]\n", "version: '1.10'\nsteps: [ { log: x } ]\n"),
        ("steps:\n  - log: {{ body.lot.id }}\n", 'steps:\n  - log: "{{ body.lot.id }}"\n'),
        ("key: body.lotId\nsteps: [ { log: x } ]\n", "key: body.lot.id\nsteps: [ { log: x } ]\n"),
        ('steps:\n  - log: "a {{ body.lot.erpNo }} b"\n', 'steps:\n  - log: "a {{ body.lot.erp_no }} b"\n'),
        ("steps:\n  - filter: \"body.result == 'REJCT'\"\n", "steps:\n  - filter: \"body.result == 'REJECT'\"\n"),
        ("steps:\n  - filter: bdy.lot.idd\n", "steps:\n  - filter: body.lot.id\n"),
        ("steps:\n  - set: { vars.lott: body.lot }\n  - filter: vars.lot\n",
         "steps:\n  - set: { vars.lott: body.lot }\n  - filter: vars.lott\n"),
        # what a person has to decide
        ("within: 5\nsteps: [ { log: x } ]\n", None),
        ("steps:\n  - validate: nc.v2\n", None),
        ("steps: [ { setBody: x } ]\n", None),
        ("steps:\n  - filter: body.supplier\n", None),
        ("steps:\n  - {{ body.x }}: 'a # b'\n", None),
    ],
)  # fmt: skip
def test_what_can_only_mean_one_thing_is_written(tmp_path: Path, before: str, after: str | None) -> None:
    root = workspace(tmp_path, HEAD + before)
    fixed = fix_workspace(root, lambda: read(root))
    text = (root / "routes/r.yaml").read_text(encoding="utf-8")
    assert text == HEAD + (before if after is None else after)
    assert bool(fixed.count) == (after is not None)
    assert (fixed.loaded.workspace is None) == (after is None)


def test_ends_of_lines_the_byte_order_mark_and_the_mode_stay(tmp_path: Path) -> None:
    root = workspace(
        tmp_path, "\ufeffroute: r\r\nfrom: { htpp: { path: /r } }\r\nsteps: [ { lgo: x }, { lgo: y } ]\r\n"
    )
    (root / "routes/r.yaml").chmod(0o640)
    assert fix_workspace(root, lambda: read(root)).count == 3
    data = (root / "routes/r.yaml").read_bytes()
    assert data == "\ufeffroute: r\r\nfrom: { http: { path: /r } }\r\nsteps: [ { log: x }, { log: y } ]\r\n".encode()
    assert (root / "routes/r.yaml").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in (root / "routes").iterdir()) == ["r.yaml"]


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_no_broken_workspace_gets_worse(tmp_path: Path, case: str) -> None:
    root = tmp_path / "w"
    shutil.copytree(GOLDEN / case, root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    errors = len(read(root).errors)
    fixed = fix_workspace(root, lambda: read(root))
    assert len(fixed.loaded.errors) <= errors
    changed = {path.relative_to(root).as_posix() for path, data in before.items() if path.read_bytes() != data}
    assert changed == set(fixed.files)
    for path, data in before.items():
        comments = [line.partition(b"#")[2] for line in data.splitlines() if b"#" in line]
        assert [line.partition(b"#")[2] for line in path.read_bytes().splitlines() if b"#" in line] == comments


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [("validte", "validate", True), ("lotId", "lot.id", True), ("nc.v1", "nc.v2", False), ("map", "set", False)],
)
def test_only_a_near_word_is_certain(old: str, new: str, same: bool) -> None:
    assert certain(old, new) is same


def test_files_get_the_editors_line_where_there_is_a_schema(tmp_path: Path) -> None:
    root = workspace(tmp_path, "route: r\n")
    assert add_modelines(root, ["routes/r.yaml"]) == []
    (root / ".vscode").mkdir()
    (root / ".vscode/esb.schema.json").write_text("{}", encoding="utf-8")
    assert add_modelines(root, ["routes/r.yaml"]) == ["routes/r.yaml"]
    assert add_modelines(root, ["routes/r.yaml"]) == []
    text = (root / "routes/r.yaml").read_text(encoding="utf-8")
    assert text == "# yaml-language-server: $schema=../.vscode/esb.schema.json\nroute: r\n"
