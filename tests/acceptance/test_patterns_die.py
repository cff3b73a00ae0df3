"""Patterns that keep something between messages, killed with -9 where it matters: nothing is lost, nothing happens twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.crash_site import site_of

QUARANTINE = """
route: rows
from:
  file: { path: "in/*", every: 100ms, ready: { rename: true }, format: csv, failed: { move: ../bad/, report: errors.csv } }
steps:
  - split:
      each: body
      on_item_error: quarantine
      max_bad: 5%
      steps:
        - reject: "no"
          if: body.n == '7'
        - filter: body.n == '8'
        - to: { file: { path: "out/{{ meta.split.index }}.json" } }
"""


@pytest.mark.parametrize("fault", ["split.batch=kill@4", "store.after_commit=kill@14"])
def test_a_large_file_with_bad_rows_goes_on_behind_a_death(tmp_path: Path, fault: str) -> None:
    with site_of(tmp_path, (), "limits: { blob: 100KB }\n") as site:
        (tmp_path / "routes" / "r.yaml").write_text(QUARANTINE, encoding="utf-8")
        (tmp_path / "in").mkdir()
        rows = ["n,w", *(f"{n % 100},{'x' * 200}" for n in range(1000)), ""]
        (tmp_path / "in" / ".rows.csv").write_text("\n".join(rows), encoding="utf-8")
        (tmp_path / "in" / ".rows.csv").rename(tmp_path / "in" / "rows.csv")
        site.start_to_die(fault)
        site.died()
        site.start()
        site.ends("rows", done=1 + 990 + 1)
        assert len(list((tmp_path / "out").glob("[!.]*.json"))) == 10
        report = (tmp_path / "bad" / "rows.csv.errors.csv").read_text(encoding="utf-8").splitlines()
        assert report[0] == '"n","w","row","code","pointer","message"'
        assert [line.split(",")[2] for line in report[1:]] == [f'"{100 * n + 8}"' for n in range(10)]
        site.whole()


LISTS = """
route: rows
description: "${WHAT}"
from: { file: { path: "in/*", every: 100ms, ready: { rename: true }, format: xml } }
steps:
  - split:
      each: EACH
      steps: [ { to: { file: { path: "out/{{ meta.split.index }}-{{ body.n }}.json", exists: fail } } } ]
"""


@pytest.mark.parametrize(
    ("each", "again"),
    [("body.r.b", True), ("body.r.b || body.r.a", True), ("body.r.b", False)],
    ids=["another list", "read as a whole now", "the version is gone"],
)
def test_a_large_payload_ends_with_the_list_that_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: str, again: bool
) -> None:
    """The file of the route was edited between a kill in the middle and the next start: what is next counts the items of the old list."""
    monkeypatch.setenv("WHAT", "first")
    with site_of(tmp_path, (), "limits: { blob: 10KB }\n") as site:
        place = tmp_path / "routes" / "r.yaml"
        place.write_text(LISTS.replace("EACH", "body.r.a"), encoding="utf-8")
        (tmp_path / "in").mkdir()
        lists = "".join(f"<{name}><n>{name}{n}</n></{name}>" for name in "ab" for n in range(400))
        (tmp_path / "in" / ".x.xml").write_text(f"<r>{lists}</r>", encoding="utf-8")
        (tmp_path / "in" / ".x.xml").rename(tmp_path / "in" / "x.xml")
        site.start_to_die("split.batch=kill@4")
        site.died()
        place.write_text(LISTS.replace("EACH", f'"{each}"'), encoding="utf-8")
        if not again:
            monkeypatch.setenv("WHAT", "second")
        site.start()
        if not again:
            site.ends("rows", done=200, dead=1)
            place.write_text(LISTS.replace("EACH", "body.r.a"), encoding="utf-8")
            site.act("reload")
            assert site.act("dlq/retry", all=True)[0] == 200
        site.ends("rows", done=1 + 400)
        names = {path.name for path in (tmp_path / "out").glob("[!.]*.json")}
        assert names == {f"{n}-a{n}.json" for n in range(400)}
        site.whole()


SAGA = """
route: saga
key: body.id
retry: { max: 3, backoff: 1s..2s }
from: { http: { path: /saga, method: POST } }
steps:
  - to: { http: { url: "${SINK}/reserve", method: POST } }
  - compensate: [ { to: { http: { url: "${SINK}/unreserve", method: POST } } } ]
  - to: { http: { url: "${SINK}/book", method: POST } }
  - compensate: [ { to: { http: { url: "${SINK}/unbook", method: POST } } } ]
  - to: { http: { url: "${SINK}/no", method: POST } }
"""


@pytest.mark.parametrize("fault", ["message.dying=kill", "send.answered=kill@3", "send.started=kill@5"])
def test_a_saga_is_undone_in_order_whenever_the_bus_dies(tmp_path: Path, fault: str) -> None:
    with site_of(tmp_path, ()) as site:
        (tmp_path / "routes" / "r.yaml").write_text(SAGA, encoding="utf-8")
        site.start(fault)
        site.post("/saga", {"id": "7"})
        site.died()
        site.start()
        site.ends("saga", dead=1, done=2)
        undone = [(path, key) for path, key, _ in site.target.seen if path in ("/unbook", "/unreserve")]
        assert list(dict.fromkeys(path for path, _ in undone)) == ["/unbook", "/unreserve"]
        assert len(set(undone)) == 2, "under one delivery id each"
        site.whole()


LINE = """
route: line
from: { http: { path: /line, method: POST } }
steps:
  - resequence: { by: body.n, key: body.k, gap_timeout: 10m, first: 1 }
  - to: { http: { url: "${SINK}/line", method: POST } }
"""


@pytest.mark.parametrize("fault", ["store.after_commit=kill@14", "send.started=kill@2", "send.answered=kill@3"])
def test_a_sequence_keeps_its_order_whenever_the_bus_dies(tmp_path: Path, fault: str) -> None:
    with site_of(tmp_path, ()) as site:
        (tmp_path / "routes" / "r.yaml").write_text(LINE, encoding="utf-8")
        site.start(fault)
        waiting = [6, 2, 5, 1, 4, 3]
        for number in waiting:
            site.post("/line", {"k": "a", "n": number}, key=f"k{number}")
        site.died()
        site.start()
        for number in waiting:  # what was not answered is sent again, under its key
            assert site.post("/line", {"k": "a", "n": number}, key=f"k{number}")[0] == 202
        site.ends("line", done=12)
        assert list(dict.fromkeys(body["n"] for _, _, body in site.target.seen)) == [1, 2, 3, 4, 5, 6]
        assert len({key for _, key, _ in site.target.seen}) == 6
        site.whole()


GROUP = """
route: group
from: { http: { path: /group, method: POST } }
steps:
  - aggregate: { by: body.g, complete: { size: SIZE } }
  - to: { http: { url: "${SINK}/PLACE", method: POST } }
"""


def test_a_group_ends_by_the_rule_that_it_was_opened_under_over_a_kill_in_the_reload(tmp_path: Path) -> None:
    """The bus dies while it takes another version over; the next one makes the old one again for what is in the store."""
    with site_of(tmp_path, ()) as site:
        place = tmp_path / "routes" / "r.yaml"
        place.write_text(GROUP.replace("SIZE", "3").replace("PLACE", "old"), encoding="utf-8")
        site.start("reload.swapped=kill@1")
        for number in (1, 2):
            assert site.post("/group", {"g": "a", "n": number}, key=f"a{number}")[0] == 202
        site.ends("group", done=2, waiting=1, queued=1)
        place.write_text(GROUP.replace("SIZE", "2").replace("PLACE", "new"), encoding="utf-8")
        site.act("reload")
        site.died()
        site.start()
        for group, number in (("a", 3), ("b", 1), ("b", 2)):
            assert site.post("/group", {"g": group, "n": number}, key=f"{group}{number}")[0] == 202
        site.ends("group", done=5 + 5)
        sent = {path: [one["n"] for one in body] for path, _, body in site.target.seen}
        assert sent == {"/old": [1, 2, 3], "/new": [1, 2]}
        site.whole()
