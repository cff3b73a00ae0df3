"""A bulk retry over a kill between a message and the next: it goes on by itself, and no message is retried twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo.harness import until
from tests.torture.crash_site import site_of


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
