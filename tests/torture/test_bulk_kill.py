"""Bulk retries over kills between a message and the next: they go on, or are asked for again, and no message is retried twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from examples.demo.harness import until
from tests.torture.crash_site import Site, site_of


@pytest.mark.parametrize("point", ["retry.committed", "audit.appending"])
def test_a_bulk_retry_survives_kills(tmp_path: Path, point: str) -> None:
    with site_of(tmp_path / "site", ("no",), "") as site:
        site.start()
        for number in range(4):
            site.post("/no", {"lot": str(number)}, f"k{number}")
        site.ends("no", dead=4)
        assert site.bus.stop() == 0
        # the start of a bus is an entry of its own, and that of the job
        site.start(f"{point}=kill@{2 if point == 'retry.committed' else 4}")
        site.act("dlq/retry", route="no", rate="20/s", background=True)
        site.died()
        site.start()
        until(lambda: [one["state"] for one in site.bus.json("dlq", "bulk")] == ["done"], within=60, what="the job")
        site.ends("no", dead=4)
        (job,) = site.bus.json("dlq", "bulk")
        assert (job["done"], job["total"], job["results"]) == (4, 4, {"queued": 4})
        entries = site.bus.json("audit", "ls")
        retried = [one["object"] for one in entries if one["action"] == "dlq.retry"]
        assert len(retried) == len(set(retried)) == 4, "all of them died again, and none was retried again for it"
        for action in ("bulk.start", "bulk.resume", "bulk.end"):
            assert [one["action"] for one in entries].count(action) == 1
        site.whole()


def test_two_operators_who_retry_everything_at_once_retry_each_message_once(tmp_path: Path) -> None:
    """T16: both ask for all dead letters, the bus is killed in the middle, both ask again."""
    with site_of(tmp_path / "site", ("no",), "") as site:
        site.start()
        for number in range(60):
            site.post("/no", {"lot": str(number)}, f"k{number}")
        site.ends("no", dead=60)
        assert site.bus.stop() == 0
        site.target.refuses = False
        site.start("retry.committed=kill@40")
        both(site)
        site.died()
        site.start()
        said = both(site)
        site.ends("no", done=60)
        assert {one["result"] for items in said for one in items} <= {"queued", "skipped"}
        assert len({key for _, key, _ in site.target.at("/no")}) == 60
        retried = [
            one["object"] for one in site.bus.json("audit", "ls", "--limit", "1000") if one["action"] == "dlq.retry"
        ]
        assert len(retried) == len(set(retried)) == 60
        site.whole()


def both(site: Site) -> list[list[dict[str, Any]]]:
    """Two operators press the same button at the same time."""
    with ThreadPoolExecutor(2) as pool:
        return [items for _, items in pool.map(lambda _: site.act("dlq/retry", all=True), range(2))]
