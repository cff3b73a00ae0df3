"""T19: every document of the YAML test suite as a route file: said no to with a place, never a crash, and the bus goes on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.corpora import yaml_files
from tests.hostile.tools import Target, attacked, problems, write

_MARKS = {"␣": " ", "∎": "", "←": "\r", "⇔": "\ufeff", "↵": ""}
#: Broken YAML that the parser reads leniently. What it makes of them is no route, so all of them are refused all the same.
LENIENT = {
    "9C9N-0", "9JBA-0", "CVW2-0", "DK95-1", "EB22-0", "G5U8-0", "MUS6-0", "MUS6-1", "QB6E-0", "RHX7-0", "S98Z-0", "SU5Z-0",
    "X4QW-0", "Y79Y-3", "YJV2-0",
}  # fmt: skip


def plain(text: str) -> str:
    """The suite writes blanks that nobody sees as marks."""
    for mark, means in _MARKS.items():
        text = text.replace(mark, means)
    return re.sub("—*»", "\t", text)


def cases() -> dict[str, tuple[str, bool]]:
    """Name to text, and whether it must fail."""
    found: dict[str, tuple[str, bool]] = {}
    for name, text in yaml_files().items():
        last = ""
        for place, case in enumerate(yaml.safe_load(text)):
            last = case.get("yaml", last)
            found[f"{name.removesuffix('.yaml')}-{place}"] = plain(last), bool(case.get("fail"))
    return found


CASES = cases()


def files() -> dict[str, str | bytes]:
    return {f"routes/suite/{name}.yaml": text for name, (text, _) in CASES.items()}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with attacked(tmp_path_factory.mktemp("yaml"), {}, "--no-watch") as found:
        yield found


def test_each_file_is_refused_with_its_place(tmp_path: Path) -> None:
    assert len(CASES) == 406
    found = problems(write(tmp_path, files()))
    syntax = {Path(item["path"]).stem for item in found if item["code"].startswith("ESB0")}
    assert all(item["line"] >= 1 and item["column"] >= 1 for item in found)
    assert {Path(item["path"]).stem for item in found} == set(CASES), "none of them is a route"
    assert {name for name, (_, fails) in CASES.items() if fails} - syntax == LENIENT


def test_a_running_bus_refuses_them_and_goes_on(target: Target) -> None:
    write(target.root, files())
    bearer = {"Authorization": f"Bearer {target.token()}"}
    refused = target.admin.send("POST", "/api/v1/reload", b"{}", bearer)
    assert refused.json["items"][0]["result"] == "refused"
    target.alive()
    shutil.rmtree(target.root / "routes" / "suite")
    assert target.admin.send("POST", "/api/v1/reload", b"{}", bearer).json["items"][0]["result"] == "unchanged"
