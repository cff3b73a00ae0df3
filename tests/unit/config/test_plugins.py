from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .conftest import Read, good, only

STEP = '''"""Steps of this plant."""
from dataclasses import dataclass

from esb.registry import step
from esb.spec import option


@step("weigh", pattern="Content Enricher")
@dataclass(frozen=True)
class Weigh:
    """Put a weight on the message."""

    unit: str = option(default="kg", doc="The unit.")

    def apply(self, message, context):
        return message.with_var("weight", self.unit)
'''
ROUTE = "route: r\nfrom: { http: { path: /r } }\nsteps:\n  - weigh: { unit: g }\n"


def test_a_step_of_the_workspace_is_read_like_any_other(read: Read) -> None:
    workspace = good(read({"connectors/plant.py": STEP, "routes/r.yaml": ROUTE}))
    step = workspace.routes["r"].steps.nodes[0].step
    assert type(step).__module__ == "esb_workspace.plant"
    assert step.unit == "g"  # type: ignore[attr-defined]  # of this kind
    problem = only(read({"routes/r.yaml": ROUTE.replace("unit", "unti")}))
    assert (problem.code, problem.hint) == ("ESB101", "did you mean `unit`?")


def test_loading_leaves_nothing_behind(read: Read, tmp_path: Path) -> None:
    before = list(sys.path)
    good(read({"connectors/plant.py": STEP}))
    assert sys.path == before
    assert [path.name for path in (tmp_path / "connectors").iterdir()] == ["plant.py"]


def test_an_edit_is_seen_at_once(read: Read) -> None:
    good(read({"connectors/plant.py": STEP, "routes/r.yaml": ROUTE}))
    changed = STEP.replace("unit: str", "mass: str").replace("self.unit", "self.mass")
    assert only(read({"connectors/plant.py": changed})).code == "ESB101"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import nothing_of_this_name\n", 1),
        ("x = 1\n\ndef broken(:\n", 3),
        ("\n\nraise SystemExit\n", 3),
        ("1 / 0\n", 1),
    ],
)
def test_a_module_that_cannot_be_loaded_is_a_problem_at_its_line(read: Read, text: str, line: int) -> None:
    problem = only(read({"connectors/own.py": text}))
    assert (problem.code, problem.position.path, problem.position.line) == ("ESB802", "connectors/own.py", line)


@pytest.mark.parametrize("what", ["connectors", "connectors/plant.py"])
def test_code_that_everybody_may_write_is_not_run(read: Read, tmp_path: Path, what: str) -> None:
    read({"connectors/plant.py": STEP.replace("from dataclasses", "raise AssertionError('ran')\nfrom dataclasses")})
    (tmp_path / what).chmod(0o777)
    assert only(read({})).code == "ESB506"


def test_a_name_that_is_taken_is_a_problem(read: Read) -> None:
    assert only(read({"connectors/plant.py": STEP.replace('"weigh"', '"map"')})).code == "ESB109"


def test_a_file_name_is_a_module_name(read: Read) -> None:
    assert only(read({"connectors/my-plant.py": STEP})).code == "ESB110"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    unit: str", "    unit: complex"),
        ("    unit: str", "    unit: Unknown"),
        ("    def apply", "    def aply"),
    ],
)
def test_a_component_that_is_not_declared_right_is_a_problem(read: Read, old: str, new: str) -> None:
    assert only(read({"connectors/plant.py": STEP.replace(old, new)})).code == "ESB802"


def test_a_component_that_raises_while_it_is_read_is_a_problem_at_its_line(read: Read) -> None:
    check = "    def check(self, node, reader):\n        return 1 / 0\n\n    def apply"
    problem = only(read({"connectors/plant.py": STEP.replace("    def apply", check, 1), "routes/r.yaml": ROUTE}))
    assert (problem.code, problem.position.path, problem.position.line) == ("ESB802", "connectors/plant.py", 16)
