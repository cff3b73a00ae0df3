"""Files that a killed bus had in hand, and whose folder nobody watches after an edit: given back, filed away, or told of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.demo.harness import until
from tests.servers.openssh import OpenSsh, openssh
from tests.torture.crash_site import ROUTES, Site, site_of

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL"),
    pytest.mark.timeout(300),
]

PICKUP = ROUTES["pickup"]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json"))


def elsewhere(site: Site) -> None:
    (site.root / "routes/pickup.yaml").write_text(PICKUP.replace("drop/", "other/"))


def other_names(site: Site) -> None:
    (site.root / "routes/pickup.yaml").write_text(PICKUP.replace("*.json", "*.txt"))


def removed(site: Site) -> None:
    (site.root / "routes/pickup.yaml").unlink()


def switched_off(site: Site) -> None:
    (site.root / "routes/pickup.yaml").write_text(PICKUP.replace("\nfrom", "\nenabled: false\nfrom"))


def renamed(site: Site) -> None:
    (site.root / "routes/pickup.yaml").write_text(PICKUP.replace("route: pickup", "route: renamed"))


def killed_with_a_file(site: Site, point: str) -> None:
    site.start(f"{point}=kill@1")
    site.drop("a")
    site.died()
    assert files(site.root / "drop") == [".esb-claim/a.json"]


@pytest.mark.parametrize("edit", [elsewhere, other_names, removed, switched_off])
def test_a_file_that_was_not_taken_lies_in_its_folder_again(tmp_path: Path, edit: Callable[[Site], None]) -> None:
    with site_of(tmp_path / "site", ("pickup",)) as site:
        killed_with_a_file(site, "file.claimed")
        edit(site)
        site.start()
        assert files(site.root / "drop") == ["a.json"]
        assert "file.given_back" in site.bus.log()
        (site.root / "routes/pickup.yaml").write_text(PICKUP)
        assert site.act("reload")[0] == 200
        site.ends("pickup", done=1)
        until(lambda: files(site.root / "drop") == [".esb-done/a.json"], within=60, what="the filing")
        site.whole()


@pytest.mark.parametrize("edit", [elsewhere, removed, renamed])
def test_a_file_that_is_stored_is_filed_away_and_not_taken_twice(tmp_path: Path, edit: Callable[[Site], None]) -> None:
    with site_of(tmp_path / "site", ("pickup",)) as site:
        killed_with_a_file(site, "file.accepted")
        edit(site)
        site.start()
        assert files(site.root / "drop") == [".esb-done/a.json"]
        assert sum(one["accepted"] for one in site.bus.status().values()) == 1
        site.whole()


def test_what_cannot_be_given_back_is_told_until_it_can(tmp_path: Path) -> None:
    with site_of(tmp_path / "site", ("pickup",)) as site:
        killed_with_a_file(site, "file.claimed")
        site.drop("a")
        elsewhere(site)
        site.start()
        assert files(site.root / "drop") == [".esb-claim/a.json", "a.json"]
        (left,) = site.bus.status()["pickup"]["left_behind"]
        assert (left["place"], left["files"]) == (f"file {site.root}/drop/*.json", ["a.json"])
        assert "source.left_behind" in site.bus.log()
        assert "left behind at" in site.bus.run("status").stderr
        site.bus.stop()
        assert "left behind at" in site.bus.run("status").stderr
        (site.root / "drop/a.json").unlink()
        site.start()
        assert files(site.root / "drop") == ["a.json"]
        assert site.bus.status()["pickup"]["left_behind"] == []
        site.whole()


def test_a_file_that_could_not_be_filed_away_is_not_forgotten_by_an_edit(tmp_path: Path) -> None:
    with site_of(tmp_path / "site", ("pickup",)) as site:
        route, blocked = site.root / "routes/pickup.yaml", site.root / "drop/taken"
        route.write_text(PICKUP.replace("} } }\nsteps", "}, done: { move: taken/ } } }\nsteps"))
        site.start()
        blocked.write_text("a file where the folder should be")
        site.drop("a")
        site.ends("pickup", done=1)
        elsewhere(site)
        assert site.act("reload")[0] == 200
        (left,) = site.bus.status()["pickup"]["left_behind"]
        assert left["files"] == ["a.json"]
        blocked.unlink()
        assert site.act("reload")[0] == 200
        assert files(site.root / "drop") == ["taken/a.json"]
        assert site.bus.status()["pickup"]["left_behind"] == []
        site.whole()


SFTP = """
route: pickup
from: {{ sftp: {{ connector: gate, path: "{folder}/*.json", every: 100ms, ready: {{ rename: true }} }} }}
steps: [ {{ to: {{ file: {{ path: "out/{{{{ body.id }}}}.json" }} }} }} ]
"""
GATE = """
connector: gate
type: sftp
host: 127.0.0.1
port: {port}
user: {user}
key: {key}
known_hosts: {known_hosts}
patience: 2s
"""


@pytest.fixture
def sshd() -> Any:
    with openssh() as server:
        yield server


@pytest.mark.parametrize("down", [False, True], ids=["at once", "when the server is there"])
def test_a_file_on_a_server_is_given_back(tmp_path: Path, sshd: OpenSsh, down: bool) -> None:
    with site_of(tmp_path / "site", ()) as site:
        gate = GATE.format(port=sshd.port, user=sshd.user, key=sshd.folder / "id", known_hosts=sshd.known_hosts)
        (site.root / "connectors").mkdir()
        (site.root / "connectors/gate.yaml").write_text(gate)
        route = site.root / "routes/pickup.yaml"
        route.write_text(SFTP.format(folder=sshd.files / "in"))
        for name in ("in", "other"):
            (sshd.files / name).mkdir()
        site.start("file.claimed=kill@1")
        (sshd.files / "in/a.json").write_text('{"id": "a"}')
        site.died()
        assert files(sshd.files) == ["in/.esb-claim/a.json"]
        route.write_text(SFTP.format(folder=sshd.files / "other"))
        if down:
            sshd.stop()
        site.start()
        if down:
            (left,) = site.bus.status()["pickup"]["left_behind"]
            assert left["files"] == []
            assert "sftp" in left["place"]
            sshd.start()
        # a server that takes its time at the start is asked again
        until(lambda: site.act("reload") and not site.bus.status()["pickup"]["left_behind"], within=60, what="a look")
        assert files(sshd.files) == ["in/a.json"], site.bus.log()[-3000:]
        site.whole()
