"""Routes of sites in what was made for routes that somebody wrote out: plan, the way back, plain words, the picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from esb.config.loader import read_workspace
from esb.config.model import Workspace
from esb.outline.graph import edges_of
from esb.outline.words import explain
from esb.planning.plan import Planner
from esb.testing.clock import VirtualClock
from esb.testing.rehearse import stubs_of
from esb.versions import restoration

from .test_sites import BOTH, P10, P20

REST = {"esb.yaml": BOTH["esb.yaml"]}


class Past:
    """What ran before an edit."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def live(self) -> Mapping[str, Mapping[str, str]]:
        return {name: spec.files for name, spec in self._workspace.routes.items()}

    def settings(self) -> str | None:
        return self._workspace.texts["esb.yaml"]

    def counts(self, route: str) -> Mapping[str, int]:
        return {}

    def newest(self, route: str, count: int) -> Iterable[Any]:
        return ()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, BOTH)
    return tmp_path


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


def load(root: Path) -> Workspace:
    workspace = read_workspace(root, environ={}).workspace
    assert workspace is not None
    return workspace


def test_the_site_is_the_document_that_a_route_of_it_has_for_itself(root: Path) -> None:
    assert next(iter(load(root).routes["hold-p20"].files)) == "routes/sites/P20.yaml"


def test_a_plan_names_the_routes_and_the_parameters_that_change(root: Path) -> None:
    before = load(root)
    write(root, {"routes/sites/P20.yaml": P20.replace("wait: 1m", "wait: 2m")})
    plans = list(Planner(root, load(root), VirtualClock(), Past(before)).plans())
    assert [(plan.route, plan.change) for plan in plans] == [("hold-p20", "changed")]
    assert "use[0].params.wait: 1m → 2m" in [str(change) for change in plans[0].fields]
    assert plans[0].notes == ["no stored message to try it on"]  # the live version could be read again


def test_a_plan_knows_what_a_new_plant_brings(root: Path) -> None:
    (root / "routes" / "sites" / "P20.yaml").unlink()
    before = load(root)
    write(root, {"routes/sites/P20.yaml": P20})
    plans = list(Planner(root, load(root), VirtualClock(), Past(before)).plans())
    assert [(plan.route, plan.change) for plan in plans] == [("hold-p20", "added"), ("told-p20", "added")]


def test_the_way_back_restores_the_site_and_leaves_what_others_use(root: Path) -> None:
    old = load(root).routes["hold-p20"].files
    template = BOTH["routes/hold.yaml"].replace("in_zone(", "in_zone( ")
    write(
        root, {"routes/sites/P20.yaml": "# moved\n" + P20.replace("wait: 1m", "wait: 2m"), "routes/hold.yaml": template}
    )
    found = restoration(root, "hold-p20", old)
    assert set(found.write) == {"routes/sites/P20.yaml"}
    assert "wait: 1m" in found.write["routes/sites/P20.yaml"]
    assert found.left == ("routes/hold.yaml",)
    shared = restoration(root, "hold-p20", old, shared=True)
    assert shared.write["routes/hold.yaml"] == BOTH["routes/hold.yaml"]
    write(root, shared.write)
    assert load(root).routes["hold-p10"].digest


def test_a_comment_above_a_template_is_no_difference(root: Path) -> None:
    write(root, {"routes/hold.yaml": "# what it is for\n\n" + BOTH["routes/hold.yaml"]})
    old = load(root).routes["hold-p20"].files
    write(root, {"routes/sites/P20.yaml": P20.replace("wait: 1m", "wait: 2m")})
    found = restoration(root, "hold-p20", old)
    assert (set(found.write), found.left) == ({"routes/sites/P20.yaml"}, ())


def test_a_template_and_a_route_may_share_a_file(root: Path) -> None:
    other = "---\nroute: other\nfrom: { timer: { every: 1m } }\nsteps: [ { log: x } ]\n"
    write(root, {"routes/hold.yaml": BOTH["routes/hold.yaml"] + other})
    before = load(root)
    write(root, {"routes/sites/P20.yaml": P20.replace("wait: 1m", "wait: 2m")})
    plans = list(Planner(root, load(root), VirtualClock(), Past(before)).plans())
    assert [(plan.route, plan.notes) for plan in plans] == [("hold-p20", ["no stored message to try it on"])]


def test_a_route_of_a_site_in_plain_words(root: Path) -> None:
    write(root, {"routes/sites/P10.yaml": P10 + "overrides: { hold: { within: 9s } }\n"})
    workspace = load(root)
    words = "\n".join(explain(workspace, workspace.routes["hold-p10"]))
    assert "Site P10 makes it of `hold` in the template `hold`; time zone Europe/Vienna." in words
    assert "The site says otherwise: within." in words
    assert "http POST /p10/holds" in words
    assert "1. `body.code` is looked up in the table codes." in words


def test_the_systems_of_two_plants_are_two_in_the_picture(root: Path) -> None:
    ends = {edge.end for edge in edges_of(load(root))}
    assert {"erp@P10.block", "erp@P20.block"} <= ends


def test_what_any_check_says_of_a_template_names_the_sites(root: Path) -> None:
    contract = '{ "$schema": "https://json-schema.org/draft/2020-12/schema", "deprecated": true, "type": "object" }'
    template = BOTH["routes/hold.yaml"].replace("method: POST }", "method: POST, contract: hold.v1 }")
    write(root, {"schemas/hold.v1.json": contract, "routes/hold.yaml": template})
    found = [problem for problem in read_workspace(root, environ={}).problems if problem.code == "ESB321"]
    assert len(found) == 1
    assert {str(place).split(":")[0] for place, _ in found[0].related} >= {
        "routes/sites/P10.yaml",
        "routes/sites/P20.yaml",
    }


def test_the_stubs_of_a_connector_answer_for_every_plant(root: Path) -> None:
    connector = BOTH["connectors/erp.yaml"] + "stub: { block: { status: 201, json: { of: '{{ params.client }}' } } }\n"
    write(root, {"connectors/erp.yaml": connector})
    workspace = load(root)
    for site, client in (("p10", "100"), ("p20", "200")):
        stub = workspace.systems(workspace.routes[f"hold-{site}"])["erp"].settings.stub["block"][0]
        assert (stub.status, stub.json) == (201, {"of": client})
    assert "erp.block" in stubs_of(workspace)
