"""Charts as text: every number of the points is in the picture's words and the table, gaps stay gaps, and nothing is markup."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from esb.admin import charts
from esb.admin.charts import Line, Target

STEP = timedelta(minutes=15)
BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)
EVIL = "\"'><script>alert(1)</script>"


def points(*values: float | None, **more: Any) -> list[dict[str, Any]]:
    return [
        {"at": (BEGIN + STEP * place).isoformat(), "n": value, "running": value is not None, **more}
        for place, value in enumerate(values)
    ]


def drawn(figure: str) -> ET.Element:
    """It is well-formed, so that no text of ours can open an element."""
    return ET.fromstring(figure)


def test_a_picture_says_its_numbers_to_who_does_not_see_it() -> None:
    figure = charts.chart("a", "Messages", points(3, 0, 1204), [Line("accepted", "n", counts=True)], step=STEP)
    svg = drawn(figure).find(".//svg")
    assert svg is not None
    assert svg.get("aria-labelledby") == "a-name a-said"
    assert svg.findtext("title") == "Messages"
    assert svg.findtext("desc") == "accepted: 1,207 in all, most 1,204 (01-05 09:30)."
    assert [hint.findtext("title") for hint in svg.findall("rect")] == [
        "01-05 09:00: accepted 3",
        "01-05 09:15: accepted 0",
        "01-05 09:30: accepted 1,204",
    ]


def test_where_nothing_is_known_the_line_breaks_and_the_picture_is_shaded() -> None:
    figure = charts.chart("a", "Age", points(1, None, 3, 4), [Line("age", "n")], step=STEP)
    path = next(one for one in drawn(figure).iter("path") if one.get("class") == "line main")
    assert path.get("d", "").count("M") == 2
    assert [one.get("x") for one in drawn(figure).iter("rect") if one.get("class") == "off"] == ["10"]
    assert "the bus did not run" in figure


def test_a_target_above_all_numbers_still_stands_in_the_picture() -> None:
    figure = charts.chart(
        "a", "Time", points(0.2, 0.3), [Line("95 % within", "n")], step=STEP, shown=charts.seconds, target=Target(5, "target 5 s")
    )  # fmt: skip
    root = drawn(figure)
    target = next(one for one in root.iter("path") if one.get("class") == "target")
    assert target.get("d") == "M0 0H20"
    assert [one.text for one in next(one for one in root.iter("div") if one.get("class") == "scale")] == [
        "5 s",
        "2.5 s",
        "0 s",
    ]
    assert "target 5 s" in figure


def test_a_new_version_is_marked_where_it_came_and_only_within_the_picture() -> None:
    marks = [(BEGIN + STEP, EVIL), (BEGIN - STEP, "before")]
    figure = charts.chart("a", EVIL, points(1, 2), [Line(EVIL, "n")], step=STEP, marks=marks)
    assert [one.get("d") for one in drawn(figure).iter("path") if one.get("class") == "mark"] == ["M10 0V100"]
    assert "<script>" not in figure


def test_the_table_has_every_number_newest_first() -> None:
    table = drawn(charts.table("All", points(3, None), [("N", "n", charts.whole)], STEP, f"/api?x={EVIL}&y", EVIL))
    rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
    assert table.findtext(".//code") == EVIL
    assert rows == [["From (UTC)", "N"], ["01-05 09:15", "–"], ["01-05 09:00", "3"]]


def test_a_picture_without_numbers_is_a_picture() -> None:
    for values in ((), (None, None), (0, 0)):
        drawn(charts.chart("a", "Nothing", points(*values), [Line("n", "n"), Line("m", "n", bars=True)], step=STEP))
    drawn(charts.spark([], "nothing"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (0.0123, "12.3 ms"), (4.25, "4.25 s"), (120, "2 min"), (5400, "90 min"), (7200, "2 h"), (200_000, "2.31 d")],
)  # fmt: skip
def test_a_time_stands_in_the_unit_that_people_use(value: float, text: str) -> None:
    assert charts.seconds(value) == text


@pytest.mark.parametrize(
    ("most", "top"), [(0, 2), (1, 2), (3, 4), (7, 8), (9, 10), (11, 20), (41, 50), (999, 1000), (10_084, 20_000)]
)
def test_a_scale_ends_at_a_round_number_whose_half_is_whole(most: int, top: float) -> None:
    assert charts._top(most, whole_numbers=True) == top
