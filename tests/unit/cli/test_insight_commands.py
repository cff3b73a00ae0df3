"""`esb kpi`, `reconcile`, `hold`, `alerts` and `evidence` over the store of a stopped bus: the same words as of a running one."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from esb.cli import cli
from esb.cli.evidence_pack import verify

ROUTES = """
route: lots
track: { lot: body.lot }
from: { http: { path: /lots } }
steps:
  - set: { vars.seen: body.lot }
kpis:
  lots-open:
    { description: Lots that nobody has ended, start: accepted, end: done, by: lot, within: 1d, weigh: body.qty, unit: EUR, per: body.plant }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "a.yaml").write_text(ROUTES)
    (tmp_path / "esb.yaml").write_text("bus: plant\n")
    for lot, plant in (("4711", "P10"), ("4712", "P20")):
        body = json.dumps({"lot": lot, "qty": 12.5, "plant": plant})
        run(tmp_path, "send", "lots", "--data", body)
    return tmp_path


def run(root: Path, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, [*words, "-C", str(root)], standalone_mode=True)
    assert done.exit_code == code, (done.output, done.exception)
    return str(done.output)


def items(root: Path, *words: str) -> list[dict[str, Any]]:
    return list(json.loads(run(root, *words, "--json"))["items"])


def test_what_is_open_is_listed_by_plant_and_closed_by_hand(root: Path) -> None:
    (item,) = items(root, "kpi", "ls")
    assert (item["open"], item["open_weight"], item["started"]) == (2, 25, 2)
    (item,) = items(root, "kpi", "ls", "--site", "P20")
    assert [(label["label"], label["open"]) for label in item["labels"]] == [("P20", 1)]
    assert "2 open, 25 EUR" in run(root, "kpi", "ls")
    assert "4711" in run(root, "kpi", "show", "lots-open", "--site", "P10")
    assert "4712" not in run(root, "kpi", "show", "lots-open", "--site", "P10")
    assert "closed" in run(root, "kpi", "close", "lots-open", "4711", "--reason", "scrapped")
    (shown,) = items(root, "kpi", "show", "lots-open")
    assert ([one["key"] for one in shown["items"]], shown["closed_by_hand"]) == (["4712"], 1)
    assert items(root, "audit", "ls")[-1]["action"] == "kpi.close"


def test_a_changed_indicator_is_worked_out_again_from_what_is_stored(root: Path) -> None:
    path = root / "routes" / "a.yaml"
    more = "  lots-seen: { count: accepted, if: body.plant, weigh: body.qty }\n".replace(" if: body.plant,", "")
    path.write_text(path.read_text().replace("weigh: body.qty,", 'weigh: "mul(body.qty, `2`)",') + more)
    assert [item.get("open_weight", item.get("count")) for item in items(root, "kpi", "ls")] == [25, 0]
    refused = CliRunner().invoke(cli, ["kpi", "backfill", "lots-open", "-C", str(root)])
    assert refused.exit_code == 2
    for name in ("lots-open", "lots-seen"):
        assert "filled" in run(root, "kpi", "backfill", name, "--reason", "the rule was changed")
    found = items(root, "kpi", "ls")
    assert [item.get("open_weight", item.get("count")) for item in found] == [50, 2]
    assert "filled" in run(root, "kpi", "backfill", "lots-seen", "--since", "0s", "--reason", "from now on")
    assert items(root, "kpi", "ls")[1]["count"] == 0
    assert [one["action"] for one in items(root, "audit", "ls")].count("kpi.backfilled") == 3
    run(root, "kpi", "backfill", "nothing", "--reason", "r", code=66)


def test_holds_are_placed_listed_and_lifted(root: Path) -> None:
    assert "placed" in run(root, "hold", "place", "--track", "lot=4711", "--reason", "complaint 17")
    assert "stands already" in run(root, "hold", "place", "--track", "lot=4711", "--reason", "again")
    (one,) = items(root, "hold", "ls")
    assert (one["track"], one["messages"], one["reason"]) == ("lot=4711", 1, "complaint 17")
    assert "lifted" in run(root, "hold", "lift", "--track", "lot=4711", "--reason", "over")
    assert items(root, "hold", "ls") == []
    assert "no such hold" in run(root, "hold", "lift", "--track", "lot=4711", "--reason", "over", code=1)
    assert "not open" in run(root, "reconcile", "close", "lots", "4711", "--reason", "counted", code=1)


def test_evidence_of_a_stopped_bus_is_whole(root: Path) -> None:
    target = root / "lot.zip"
    run(root, "evidence", "--track", "lot=4711", "-o", str(target), "--reason", "complaint 17")
    assert "unchanged" in run(root, "evidence", "verify", str(target))
    assert items(root, "evidence", "verify", str(target)) == []
    target.write_bytes(target.read_bytes()[:-200])
    done = CliRunner().invoke(cli, ["evidence", "verify", str(target)])
    assert (done.exit_code, "no whole archive" in done.output) == (1, True)
    assert CliRunner().invoke(cli, ["evidence", "--track", "lot=4711", "-C", str(root)]).exit_code == 2


def test_there_is_nothing_to_tell_where_nothing_is_compared_or_watched(root: Path) -> None:
    assert (items(root, "reconcile", "ls"), items(root, "alerts")) == ([], [])
    assert "no differences" in run(root, "reconcile", "ls")


@pytest.fixture
def archive(root: Path) -> Path:
    target = root / "lot.zip"
    run(root, "evidence", "--track", "lot=4711", "-o", str(target), "--reason", "complaint 17")
    return target


def faults(file: Path, *words: str) -> list[str]:
    done = CliRunner().invoke(cli, ["evidence", "verify", str(file), "--json", *words])
    found = [item["fault"] for item in json.loads(done.stdout)["items"]]
    assert done.exit_code == (1 if found else 0)
    return found


def test_an_archive_is_signed_and_checked_offline(root: Path, archive: Path, tmp_path: Path) -> None:
    key = items(root, "evidence", "key")[0]["public_key"]
    assert run(root, "evidence", "key").splitlines()[0] == key, "made once"
    assert (root / ".esb" / "evidence.key").stat().st_mode & 0o077 == 0
    entries = [one for one in items(root, "audit", "ls") if one["action"] == "evidence.key"]
    assert [one["detail"]["public_key"] for one in entries] == [key]
    assert faults(archive, "--key", key) == []
    assert faults(archive, "-C", str(root)) == []
    assert key in CliRunner().invoke(cli, ["evidence", "verify", str(archive)]).output
    (root / ".esb" / "evidence.key").rename(root / "old.key")
    other = items(root, "evidence", "key")[0]["public_key"]
    assert faults(archive, "--key", other) == [f"another key has signed it: {key}"]
    assert faults(archive, "-C", str(root)) == ["another key has signed it than the one of this bus"]


def test_a_key_that_is_none_signs_nothing_and_says_so(root: Path, archive: Path) -> None:
    (root / ".esb" / "evidence.key").write_text("no key")
    words = ["evidence", "--track", "lot=4711", "-o", str(root / "b.zip"), "--reason", "r", "-C", str(root)]
    done = CliRunner().invoke(cli, words)
    assert (done.exit_code, "cannot be read" in done.output) == (77, True), done.output
    assert not (root / "b.zip").exists()


def rewritten(archive: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(archive) as old:
        content = {name: old.read(name) for name in old.namelist()}
    change(content)
    with zipfile.ZipFile(target, "w") as new:
        for name, text in content.items():
            info = zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, text)
    return target


def sealed_anew(content: dict[str, bytes]) -> None:
    """What somebody does who knows how everything is made, and has not the key."""
    manifest = json.loads(content["manifest.json"])
    name = next(name for name in manifest["files"] if name.startswith("payloads/"))
    message = next(name for name in manifest["files"] if name.startswith("messages/"))
    old = hashlib.sha256(content[name]).hexdigest()
    content[name] = content[name].replace(b"12.5", b"99.5")
    content[message] = content[message].replace(old.encode(), hashlib.sha256(content[name]).hexdigest().encode())
    for changed in (name, message):
        digest = hashlib.sha256(content[changed]).hexdigest()
        manifest["files"][changed] = {"sha256": digest, "bytes": len(content[changed])}
    content["manifest.json"] = json.dumps(manifest).encode()
    seal = json.loads(content["seal.json"])
    seal["manifest_sha256"] = hashlib.sha256(content["manifest.json"]).hexdigest()
    content["seal.json"] = msgspec.json.format(json.dumps(seal).encode(), indent=2) + b"\n"


def with_own_key(content: dict[str, bytes]) -> None:
    sealed_anew(content)
    seal = json.loads(content["seal.json"])
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    seal = {**seal, "public_key": base64.b64encode(raw).decode()}
    del seal["signature"]
    text = json.dumps(seal, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    seal["signature"] = base64.b64encode(key.sign(b"esb evidence seal\n" + text.encode())).decode()
    content["seal.json"] = msgspec.json.format(json.dumps(seal).encode(), indent=2) + b"\n"


def test_every_edit_of_an_archive_is_found(root: Path, archive: Path, tmp_path: Path) -> None:
    key = items(root, "evidence", "key")[0]["public_key"]
    assert faults(rewritten(archive, tmp_path / "same.zip", lambda _: None), "--key", key) == []

    def without(content: dict[str, bytes]) -> None:
        seal = json.loads(content["seal.json"])
        del seal["signature"]
        content["seal.json"] = msgspec.json.format(json.dumps(seal).encode(), indent=2) + b"\n"

    def later(content: dict[str, bytes]) -> None:
        content["seal.json"] = content["seal.json"].replace(b'"at": "2', b'"at": "3')

    def said(content: dict[str, bytes]) -> None:
        content["seal.json"] = content["seal.json"].replace(b"{", b'{"note": "fine", ', 1)

    for change in (sealed_anew, without, later, said):
        found = faults(rewritten(archive, tmp_path / f"{change.__name__}.zip", change))
        assert "seal.json was changed, or is not signed" in found, change
    forged = rewritten(archive, tmp_path / "forged.zip", with_own_key)
    assert faults(forged) == [], "whoever does not know the key of the bus cannot tell"
    assert faults(forged, "--key", key)[0].startswith("another key has signed it")
    for name, data in [("before", b"#!x\n" + archive.read_bytes()), ("behind", archive.read_bytes() + b"x")]:
        place = tmp_path / f"{name}.zip"
        place.write_bytes(data)
        assert faults(place) != [], name


def test_a_flipped_bit_changes_nothing_unseen(archive: Path, tmp_path: Path) -> None:
    """Where nothing is found, every file of the archive still says what it said."""
    whole, place = archive.read_bytes(), tmp_path / "flipped.zip"
    with zipfile.ZipFile(archive) as old:
        content = {name: old.read(name) for name in old.namelist()}
    missed = 0
    for at in range(0, len(whole), max(1, len(whole) // 300)):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        if verify(place)[0]:
            continue
        missed += 1
        with zipfile.ZipFile(place) as new:
            assert {name: new.read(name) for name in new.namelist()} == content, at
    assert missed < 30, "fields of the container that no reader of it shows"


def test_how_an_indicator_and_a_route_went_is_known_of_a_stopped_bus_too(root: Path) -> None:
    (item,) = items(root, "trend", "--kpi", "lots-open")
    assert (item["kind"], len(item["points"]), sum(point["started"] for point in item["points"])) == ("pair", 24, 2)
    assert "BEGAN" in run(root, "trend", "--kpi", "lots-open", "--span", "7d")
    (item,) = items(root, "trend", "lots", "--span", "6h")
    assert (item["route"], item["step_seconds"], len(item["points"])) == ("lots", 300, 72)
    assert not any(point["running"] for point in item["points"]), "there was no bus that could have counted"
    assert "–" in run(root, "trend")
    for words in (("lots", "--kpi", "lots-open"), ("none",), ("--kpi", "none"), ("lots", "--span", "1y")):
        assert CliRunner().invoke(cli, ["trend", *words, "-C", str(root)]).exit_code != 0
