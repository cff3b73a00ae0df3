"""`esb contracts`: the list, what changed, and whether that needs a new version."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from esb.cli import cli

LOT: dict[str, Any] = {"type": "object", "properties": {"id": {"type": "string"}}}
OLD = {**LOT, "x-esb-deprecated": "2026-01-01", "x-esb-sunset": "2020-01-01", "x-esb-successor": "lot.v2"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, schema in {"lot.v1": OLD, "lot.v2": {**LOT, "required": ["id"]}, "other.v1": {}}.items():
        place = tmp_path / f"schemas/{name}.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(schema), encoding="utf-8")
    (tmp_path / "routes").mkdir()
    route = "route: lots\nfrom: { http: { path: /lots, contract: lot.v1 } }\nsteps: [ { log: x } ]\n"
    (tmp_path / "routes/lots.yaml").write_text(route, encoding="utf-8")
    return tmp_path


def esb(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["contracts", *map(str, words)])
    return result.exit_code, result.output


def test_the_list_says_who_uses_what_and_what_is_over(root: Path) -> None:
    code, shown = esb("ls", root, "--json")
    items = {item["name"]: item for item in json.loads(shown)["items"]}
    assert code == 0
    assert items["lot.v1"] == {
        "name": "lot.v1", "path": "schemas/lot.v1.json", "state": "over", "sunset": "2020-01-01", "successor": "lot.v2",
        "routes": ["lots"],
    }  # fmt: skip
    assert (items["lot.v2"]["state"], items["other.v1"]["routes"]) == ("not used", [])
    assert "lot.v1" in esb("ls", root)[1]


def test_two_versions_are_compared(root: Path) -> None:
    code, shown = esb("diff", "lot.v1", "lot.v2", root)
    assert (code, shown) == (1, "✗ /required: `id` must be there now  (breaks senders)\n")
    assert esb("diff", "lot.v1", root / "schemas/lot.v1.json", root) == (0, "no difference that matters\n")
    assert esb("diff", "lot.v1", "nothing", root)[0] == 66


@pytest.mark.parametrize("git", [True, False])
def test_a_released_contract_is_not_changed_so_that_it_breaks_somebody(
    root: Path, tmp_path_factory: Any, git: bool
) -> None:
    against: object = "HEAD"
    if git:
        run = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.com"]
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "released"]):
            subprocess.run([*run, *words], check=True)
    else:
        against = tmp_path_factory.mktemp("released")
        (against / "schemas").mkdir()
        for place in (root / "schemas").iterdir():
            (against / "schemas" / place.name).write_bytes(place.read_bytes())
    assert esb("check", root, "--against", against)[0] == 0
    (root / "schemas/lot.v2.json").write_text(json.dumps({**LOT, "required": []}), encoding="utf-8")
    (root / "schemas/lot.v3.json").write_text("{}", encoding="utf-8")
    (root / "schemas/other.v1.json").unlink()
    code, shown = esb("check", root, "--against", against)
    assert code == 1
    assert "✗ schemas/lot.v2.json /required: `id` may be missing now  (breaks readers)" in shown
    assert "write schemas/lot.v3.json beside it" in shown
    assert "✗ schemas/other.v1.json /: the contract is gone" in shown
    assert "3 released, 1 new, 2 breaking changes" in shown


def test_what_is_no_revision_is_told(root: Path) -> None:
    code, shown = esb("check", root, "--against", "--upload-pack=x")
    assert (code, "no revision" in shown) == (2, True)
    assert esb("check", root, "--against", "nothing")[0] == 66
