"""The tools for people who change routes and run buses, through the program itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.demo.harness import Bus, until
from tests.acceptance.commands import esb, items
from tests.acceptance.test_program import get, post

pytestmark = pytest.mark.acceptance

StartBus = Callable[..., Bus]

LOTS = """# who reads this: quality
route: lots
version: "1.0"
key: body.lot
dedupe: body.id
track: { lot: body.lot }
retry: { max: 4, backoff: 1s..2s }
from: { http: { path: /lots, method: POST, contract: lot.v1 } }
steps:
  - map: { Lot: body.lot, Id: body.id, Qty: body.qty }
  - to: { file: { path: "out/{{ body.Id }}.json" } }
---
route: others
from: { http: { path: /others, method: POST } }
steps:
  - log: "{{ body.x }}"
"""
CONTRACT = {
    "type": "object",
    "required": ["lot", "id"],
    "properties": {"lot": {"type": "string"}, "id": {"type": "string"}, "qty": {"type": "number"}},
}


def lots(root: Path, text: str = LOTS) -> Path:
    for name, content in {"routes/lots.yaml": text, "schemas/lot.v1.json": json.dumps(CONTRACT)}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def reload(root: Path, running: Bus) -> None:
    """Have the files taken over now."""
    token = json.loads((root / ".esb" / "bus.lock").read_text())["token"]
    request = urllib.request.Request(running.admin + "/api/v1/reload", data=b"{}", method="POST")
    request.add_header("Authorization", f"Bearer {token}")
    urllib.request.urlopen(request, timeout=20).close()


# -- gaps of the contract -------------------------------------------------------------------------------------------------
def test_the_status_of_a_bus_that_never_ran_names_the_routes_on_disk(tmp_path: Path) -> None:
    found = items("status", cwd=lots(tmp_path))
    assert [(one["route"], one["state"], one["accepted"]) for one in found] == [
        ("lots", "stopped", 0),
        ("others", "stopped", 0),
    ]


def test_a_folder_that_is_no_workspace_is_told_apart_from_one_without_faults(tmp_path: Path) -> None:
    for words, code in {("lint",): 66, ("run",): 78, ("test",): 66, ("graph",): 66, ("lint", "nowhere"): 66}.items():
        said = esb(*words, cwd=tmp_path, code=code)
        assert not said.stdout
        assert "esb init" in said.stderr or "no folder" in said.stderr


def test_what_is_unknown_is_missing_in_both_forms_and_versions_have_one_form(tmp_path: Path, bus: StartBus) -> None:
    root = lots(tmp_path)
    running = bus(root)
    status, receipt, _ = post(running.http + "/lots", {"lot": "0012", "id": "A", "qty": 1})
    assert status == 202
    until(lambda: items("status", cwd=root)[0]["done"] == 1, within=60, what="the message is done")
    assert "nothing is known of 4711" in esb("trace", "4711", cwd=root, code=66).stderr
    assert json.loads(esb("trace", "4711", "--json", cwd=root, code=66).stdout) == {"kind": "Trace", "items": []}
    live = next(one for one in items("status", cwd=root) if one["route"] == "lots")
    assert running.stop() == 0
    stopped = next(one for one in items("status", cwd=root) if one["route"] == "lots")
    [message] = items("messages", "show", receipt["message_id"], cwd=root)
    assert live["own_version"] == stopped["own_version"] == "1.0"
    assert len(live["version"]) == 8
    for name in ("version", "digest"):
        assert live[name] == stopped[name] == message[name]
    assert live["digest"].startswith(live["version"])
    assert f"1.0 ({live['version']})" in esb("status", cwd=root).stdout
    assert {one["route"] for one in items("status", cwd=root)} == {"lots", "others"}


# -- versions -------------------------------------------------------------------------------------------------------------
def test_a_route_goes_back_to_an_older_version_and_only_its_own_lines_change(tmp_path: Path, bus: StartBus) -> None:
    root = lots(tmp_path)
    running = bus(root)
    place = root / "routes" / "lots.yaml"
    place.write_text(LOTS.replace("max: 4", "max: 6").replace("body.x", "body.y"), encoding="utf-8")
    reload(root, running)
    newest, oldest = items("routes", "versions", "lots", cwd=root)
    assert (newest["live"], oldest["live"]) == (True, False)
    assert newest["actor"] == "api"
    assert oldest["files"] == ["routes/lots.yaml", "schemas/lot.v1.json"]
    diff = esb("routes", "diff", "lots", cwd=root).stdout
    assert "-retry: { max: 4, backoff: 1s..2s }\n+retry: { max: 6, backoff: 1s..2s }" in diff
    assert "body.y" not in diff  # another document of the same file
    refused = esb("routes", "rollback", "lots", oldest["version"], cwd=root, code=77)
    assert "needs a reason" in refused.stderr
    dry = esb("routes", "rollback", "lots", "--dry-run", cwd=root).stdout
    assert "+retry: { max: 4" in dry
    assert "max: 6" in place.read_text()
    esb("routes", "rollback", "lots", oldest["version"], "--reason", "4 is enough", "--yes", cwd=root)
    assert place.read_text() == LOTS.replace("body.x", "body.y")
    until(
        lambda: items("routes", "versions", "lots", cwd=root)[0]["digest"] == oldest["digest"],
        within=60,
        what="a reload",
    )
    entry = next(one for one in items("audit", "ls", cwd=root) if one["action"] == "route.rollback")
    assert (entry["object"], entry["reason"], entry["detail"]["version"]) == ("lots", "4 is enough", oldest["digest"])
    assert [one["live"] for one in items("routes", "versions", "lots", cwd=root)] == [True, False, False]
    place.write_text(place.read_text().replace("backoff", "bakoff"), encoding="utf-8")  # a bad edit is taken back, too
    # two versions call themselves that
    esb("routes", "rollback", "lots", "1.0", "--reason", "mistyped", cwd=root, code=66)
    esb("routes", "rollback", "lots", oldest["digest"], "--reason", "mistyped", cwd=root)
    assert "bakoff" not in place.read_text()
    assert "no version `beef`" in esb("routes", "diff", "lots", "beef", cwd=root, code=66).stderr


# -- before it is live ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose bus took eight messages and was stopped; three of them have no quantity."""
    root = lots(tmp_path_factory.mktemp("used"), LOTS.replace("Qty: body.qty", "Qty: body.qty, Tag: uuid()"))
    running = Bus(root, environment={}).start()
    for number in range(8):
        body = {"lot": f"00{number}", "id": f"I{number}", **({"qty": 12.5} if number > 2 else {})}
        assert post(running.http + "/lots", body)[0] == 202
    until(lambda: items("status", cwd=root)[0]["done"] == 8, within=60, what="all messages are done")
    assert running.stop() == 0
    return root


@pytest.fixture
def edited(used: Path) -> Iterator[Callable[..., Path]]:
    """``edited((old, new), …)``: the route with these words replaced; as it was after the test."""
    place = used / "routes" / "lots.yaml"
    before = place.read_text()

    def edit(*pairs: tuple[str, str]) -> Path:
        text = before
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        place.write_text(text, encoding="utf-8")
        return used

    yield edit
    place.write_text(before, encoding="utf-8")


def planned(root: Path, *words: str, code: int) -> dict[str, Any]:
    found = json.loads(esb("plan", str(root), *words, "--json", cwd=root, code=code).stdout)
    assert found["kind"] == "Plan"
    return {one["route"]: one for one in found["items"]}


def test_a_plan_of_files_that_are_live_is_empty_and_looking_makes_no_store(used: Path, tmp_path: Path) -> None:
    assert planned(used, code=0) == {}
    assert "the files are what is live" in esb("plan", cwd=used).stdout
    fresh = lots(tmp_path)
    assert {one["change"] for one in planned(fresh, code=0).values()} == {"added"}
    assert not (fresh / ".esb").exists()


def test_a_plan_says_which_stored_messages_a_contract_would_refuse(edited: Callable[..., Path]) -> None:
    root = edited(("lot.v1", "lot.v2"), ("max: 4", "max: 6"))
    stricter = {**CONTRACT, "required": ["lot", "id", "qty"]}
    (root / "schemas" / "lot.v2.json").write_text(json.dumps(stricter))
    found = planned(root, code=1)["lots"]
    assert [(one["path"], one["old"], one["new"]) for one in found["fields"]] == [
        ("retry.max", "4", "6"),
        ("from.http.contract", "lot.v1", "lot.v2"),
    ]
    assert (found["contract"]["checked"], found["contract"]["newly_refused"]) == (8, 3)
    assert [one["key"] for one in found["contract"]["examples"]] == ["002", "001", "000"]
    assert found["contract"]["examples"][0]["error"]["errors"][0]["detail"] == "needs `qty`, which is missing"
    assert found["rehearsal"]["run"] == found["rehearsal"]["same"] == 5  # random tags are no difference
    said = esb("plan", cwd=root, code=1).stdout
    assert "UNSAFE  lot.v2 would refuse 3 of the last 8; here are 3" in said


def test_a_plan_tries_both_versions_on_stored_messages(edited: Callable[..., Path]) -> None:
    root = edited(("Lot: body.lot", 'Lot: upper(body.lot), Half: "div(body.qty, `2`)"'))
    found = planned(root, code=1)["lots"]
    assert (found["rehearsal"]["run"], found["rehearsal"]["worse"], found["rehearsal"]["differs"]) == (8, 3, 8)
    worse = found["rehearsal"]["examples"][0]
    assert (worse["before"], worse["after"]) == ("done", "dead")
    assert "internal at map" in worse["why"]
    better = planned(edited(("Qty: body.qty", 'Qty: "div(body.qty || `0`, `2`)"')), code=0)["lots"]
    assert better["safe"]
    places = {place["at"]: (place["old"], place["new"]) for place in better["rehearsal"]["examples"][0]["differences"]}
    assert places["/sent/0/body/Qty"] == ("12.5", "6.25")
    assert set(places) == {"/sent/0/body/Qty"}


def test_a_plan_of_faults_is_unsafe_and_shows_them(edited: Callable[..., Path]) -> None:
    root = edited(("retry:", "rety:"))
    assert "ESB101" in esb("plan", cwd=root, code=1).stderr
    assert planned(root, code=1)[""]["problems"][0]["line"] == 7


def test_a_replay_to_stub_shows_what_targets_would_get_and_leaves_no_trace(used: Path) -> None:
    before = items("status", cwd=used)
    audited = len(items("audit", "ls", cwd=used))
    found = items("replay", "--route", "lots", "--to-stub", cwd=used)
    assert [one["state"] for one in found] == ["done"] * 8
    assert found[-1]["sent"][0]["to"] == "file"
    assert found[-1]["sent"][0]["body"]["Qty"] == 12.5
    after = items("status", cwd=used)
    for one in (*before, *after):
        one.pop("oldest_age_seconds")
    assert before == after
    assert audited == len(items("audit", "ls", cwd=used))
    assert "nothing was sent" in esb("replay", "--all", "--to-stub", cwd=used).stdout


# -- what a workspace says of itself --------------------------------------------------------------------------------------
def test_the_admin_listener_describes_the_live_ingress(tmp_path: Path, bus: StartBus) -> None:
    root = lots(tmp_path)
    running = bus(root)
    status, text = get(running.admin + "/openapi.json")
    found = json.loads(text)
    assert (status, found["openapi"], found["servers"]) == (200, "3.1.0", [{"url": running.http}])
    assert found["paths"]["/lots"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "lot.v1"
    )
    assert found["components"]["schemas"]["lot.v1"]["required"] == ["lot", "id"]
    status, text = get(running.admin + "/asyncapi.json")
    assert (status, json.loads(text)["asyncapi"]) == (200, "3.0.0")
    assert get(running.http + "/openapi.json")[0] == 404


def test_explain_and_docs_build(used: Path, tmp_path: Path) -> None:
    assert "ESB101: an unknown key" in esb("explain", "esb101", cwd=used).stdout
    assert "up to 5 times" not in esb("explain", "others", cwd=used).stdout
    [found] = items("explain", "lots", cwd=used)
    assert found["worst_cases"][0]["attempts"] == 5
    assert "did you mean `lots`" in esb("explain", "lotz", cwd=used, code=66).stderr
    esb("docs", "build", "--out", str(tmp_path / "site"), cwd=used)
    assert {"index.html", "openapi.json", "asyncapi.json", "routes"} <= {
        one.name for one in (tmp_path / "site").iterdir()
    }
    assert esb("graph", "--format", "svg", cwd=used).stdout.startswith("<svg")


def test_a_stored_message_becomes_a_case_that_passes(used: Path) -> None:
    message = next(one for one in items("messages", "ls", cwd=used) if one["key"] == "004")
    place = used / "routes" / "lots.test.yaml"
    said = esb("capture", message["id"], "--mask", "id", "--write", cwd=used)
    try:
        assert said.stdout.strip() == "routes/lots.test.yaml"
        assert "masked: id" in said.stderr
        assert "I4" not in place.read_text()
        assert "1 passed" in esb("test", cwd=used).stdout
        place.write_text(place.read_text().replace("12.5", "12.6", 1))  # a case that cannot fail would prove nothing
        assert "1 failed" in esb("test", cwd=used, code=1).stdout
    finally:
        place.unlink()
    esb("capture", "0190a0a0-0000-7000-8000-000000000000", cwd=used, code=66)


# -- trying ---------------------------------------------------------------------------------------------------------------
def test_a_transformation_is_tried_as_a_route_would_run_it(used: Path, tmp_path: Path) -> None:
    data = '{"lot":"0012","qty":12.10}'
    assert (
        esb("try", "{ lot: body.lot, twice: mul(body.qty, `2`) }", "-d", data, cwd=used).stdout
        == '{\n  "lot": "0012",\n  "twice": 24.20\n}\n'
    )
    assert esb("try", "Lot: upper(body.lot)\nIn: { Q: body.qty }", "-d", data, cwd=used).stdout.count("12.10") == 1
    assert (
        esb("try", "{{ body.lot }}/{{ vars.plant }}", "-d", data, "--vars", '{"plant":"P1"}', cwd=used).stdout
        == "0012/P1\n"
    )
    long = "concat(" + ", ".join(f"'{n:09}'" for n in range(40)) + ")"  # longer than any file name may be
    assert esb("try", long, "-d", data, cwd=used).stdout.startswith("000000000000000001")
    (tmp_path / "mine.jmes").write_text("{ unit: vars.unit, first: body[0].a }")
    (tmp_path / "rows.csv").write_text("a;b\n1;2\n")
    words = (
        "try",
        str(tmp_path / "mine.jmes"),
        "-d",
        f"@{tmp_path / 'rows.csv'}",
        "--format",
        '{ csv: { delimiter: ";" } }',
        "--json",
    )
    [found] = json.loads(esb(*words, cwd=used).stdout)["items"]
    assert found == {"good": True, "body": {"unit": None, "first": "1"}, "error": None, "problems": []}
    assert "did you mean `body`?" in esb("try", "bdy.lot", "-d", data, cwd=used, code=65).stderr
    assert "internal at transform" in esb("try", "upper(body.qty)", "-d", data, cwd=used, code=1).stderr
    assert (
        "needs `id`, which is missing"
        in esb("try", "body", "-d", data, "--contract", "lot.v1", cwd=used, code=65).stderr
    )
    assert esb("try", cwd=used, code=2).stderr
    assert items("status", cwd=used)[0]["accepted"] == 8


def test_the_playground_serves_this_machine_and_its_own_form_alone(used: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "esb", "try", "--serve"]
    with subprocess.Popen(command, cwd=used, env=env, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            url = served.stdout.readline().split()[1]
            assert url.startswith("http://127.0.0.1:")
            status, first, headers = page(url)
            assert status == 200
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            word = first.split('name="word" value="')[1].split('"')[0]
            form = {
                "word": word,
                "transform": "{ l: body.lot, x: '<script>' }",
                "data": '{"lot": "0012"}',
                "format": "",
            }
            done = page(url, form)[1]
            assert "&quot;l&quot;: &quot;0012&quot;" in done
            assert "<script>" not in done
            assert "ESB402" in page(url, {**form, "transform": "bdy"})[1]
            assert page(url, {**form, "word": "guess"})[0] == 403
            assert page(url, {key: value for key, value in form.items() if key != "word"})[0] == 403
            assert page(url, form, Origin="http://evil.example")[0] == 403
            assert page(url, form, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
            assert page(url, Host="evil.example")[0] == 421
        finally:
            served.terminate()


def page(url: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, str, Any]:
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def test_a_start_with_nothing_new_is_no_new_version_though_secrets_are_marked_anew(tmp_path: Path) -> None:
    text = LOTS.replace("contract: lot.v1 }", "contract: lot.v1, auth: { api_key: { key: '${secret:lots}' } } }")
    root = lots(tmp_path, text)
    env = {"ESB_SECRET_LOTS": "a-long-key-of-a-client"}
    digests = set()
    for _ in range(2):
        running = Bus(root, environment=env).start()
        digests |= {one["digest"] for one in items("status", cwd=root) if one["route"] == "lots"}
        assert running.stop() == 0
    assert len(digests) == 2
    [turn] = items("routes", "versions", "lots", cwd=root)
    assert turn["digest"] in digests
    assert turn["files"] == ["routes/lots.yaml", "schemas/lot.v1.json"]
    for digest in digests:  # what ran in either process can be looked at
        assert "no-such" not in esb("routes", "diff", "lots", digest, cwd=root).stdout
    assert [one["reason"] for one in items("audit", "ls", cwd=root) if one["action"] == "reload"] == [
        "started with files that are new"
    ]
    (root / "routes" / "lots.yaml").write_text(text.replace("max: 4", "max: 5"))
    assert Bus(root, environment=env).start().stop() == 0
    assert len(items("routes", "versions", "lots", cwd=root)) == 2
    assert items("audit", "ls", cwd=root)[-1]["detail"] == {"changed": ["lots"]}
