"""Charts as inline SVG: drawn on the server, without scripts, readable without colours, in print and by ear.

The picture is stretched to the width of the page; scale, times and meanings of lines are text beside it, so that they keep their
size on a telephone. Every chart says its numbers in one sentence, and a table with all of them stands below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from math import ceil, floor, log10
from typing import Any

from markupsafe import Markup

#: Width of a point and height of the picture, in its own units.
_WIDE, _HIGH = 10, 100
Number = float | int
Shown = Callable[[Number], str]


@dataclass(frozen=True, slots=True)
class Line:
    """Numbers of one kind. ``look`` is a class of the style sheet: ``main``, ``second`` (dashed) or ``bad``."""

    name: str
    member: str  #: of the points
    look: str = "main"
    bars: bool = False
    counts: bool = False  #: its sum means something


@dataclass(frozen=True, slots=True)
class Target:
    """A level that the numbers should not pass."""

    value: Number
    words: str


def whole(value: Number) -> str:
    """``1,204``."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}".rstrip("0").rstrip(".")


def seconds(value: Number) -> str:
    """A time as people read it: ``12 ms``, ``4.2 s``, ``3 min``, ``2 h``."""
    if value <= 0:
        return "0 s"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 120:
        return f"{value:.3g} s"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if value >= 2 * size or unit == "min":
            return f"{value / size:.3g} {unit}"
    raise AssertionError("unreachable")


def percent(value: Number) -> str:
    return f"{value:.4g} %"


def chart(
    id_: str,
    title: str,
    points: Sequence[Mapping[str, Any]],
    lines: Sequence[Line],
    *,
    step: timedelta,
    shown: Shown = whole,
    target: Target | None = None,
    marks: Sequence[tuple[datetime, str]] = (),
    said: str = "",
) -> Markup:
    """A figure with the numbers of ``lines`` at each point (``at``, and a member that may be null).

    ``id_`` is unique on the page. ``marks`` are instants that explain a change, such as a new version of a route; ``said`` is
    the sentence for who does not see the picture, made of the numbers where it is left out.
    """
    values = {line.name: [_number(point[line.member]) for point in points] for line in lines}
    known = [value for found in values.values() for value in found if value is not None]
    most = max([*known, *([target.value] if target is not None else [])], default=0)
    top = _round_time(float(most)) if shown is seconds else _top(float(most), whole_numbers=shown is whole)
    width = _WIDE * len(points)
    drawn = [_gaps(points), *(_line(line, values[line.name], top, len(points)) for line in lines)]
    if target is not None:
        level = _level(target.value, top)
        drawn.append(f'<path class="target" d="M0 {level}H{width}"/>')
    drawn += _marks(points, marks, step)
    drawn.append(_hints(points, lines, values, shown, step))
    said = said or _sentence(points, lines, values, shown, target)
    scale = "".join(f"<span>{escape(shown(top * part / 2))}</span>" for part in (2, 1, 0))
    return Markup(  # noqa: S704 - every text in it is escaped where it is made
        f'<figure class="chart" id="{id_}"><figcaption><strong>{escape(title)}</strong> {_legend(lines, target, marks)}</figcaption>'
        f'<div class="plot"><div class="scale" aria-hidden="true">{scale}</div>'
        f'<svg viewBox="0 0 {width} {_HIGH}" preserveAspectRatio="none" role="img" aria-labelledby="{id_}-name {id_}-said">'
        f'<title id="{id_}-name">{escape(title)}</title><desc id="{id_}-said">{escape(said)}</desc>'
        f'<path class="grid" d="M0 0H{width}M0 50H{width}M0 {_HIGH}H{width}"/>{"".join(drawn)}</svg>'
        f'<div class="times" aria-hidden="true">{_times(points, step)}</div></div>'
        f'<p class="said">{escape(said)}</p></figure>'
    )


def spark(numbers: Sequence[int], words: str) -> Markup:
    """A small picture of whole numbers for a row of a table; ``words`` say what it shows."""
    top = max(numbers, default=0) or 1
    bars = "".join(f"M{place * 4 + 2} 20V{20 - max(1.0, 20 * n / top):.3g}" for place, n in enumerate(numbers) if n)
    return Markup(  # noqa: S704 - escaped
        f'<svg class="spark" viewBox="0 0 {4 * len(numbers)} 20" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(words)}"><path d="{bars}"/></svg>'
    )


def bar(begin: float, length: float, whole_length: float) -> Markup:
    """Where a step stands in its attempt; the numbers are text beside it."""
    unit = 100 / whole_length if whole_length > 0 else 0.0
    return Markup(  # noqa: S704 - numbers
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect x="{min(begin * unit, 99):.4g}" y="1" width="{max(length * unit, 1):.4g}" height="8"/></svg>'
    )


def table(
    caption: str,
    points: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, str, Shown]],
    step: timedelta,
    twin: str,
    cli: str,
) -> Markup:
    """The same numbers as a table, newest first, folded away. ``columns`` are title, member and how a number is shown."""
    head = "".join(f'<th scope="col" class="number">{escape(title)}</th>' for title, _, _ in columns)
    rows = "".join(
        f'<tr><th scope="row"><time datetime="{point["at"]}">{_clock(point, step)}</time></th>'
        + "".join(f'<td class="number">{_cell(point[member], shown)}</td>' for _, member, shown in columns)
        + "</tr>"
        for point in reversed(points)
    )
    return Markup(  # noqa: S704 - escaped
        f'<details class="numbers"><summary>The numbers of the charts as a table</summary><p><a href="{escape(twin)}">as JSON</a>'
        f' · on the command line: <code class="cli">{escape(cli)}</code></p>'
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table><caption>{escape(caption)}</caption>'
        f'<thead><tr><th scope="col">From (UTC)</th>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


# -- parts ----------------------------------------------------------------------------------------------------------------
def _number(value: Any) -> Number | None:
    return None if value is None else float(value)


def _cell(value: Any, shown: Shown) -> str:
    return "–" if value is None else escape(shown(float(value)))


def _top(most: float, *, whole_numbers: bool) -> float:
    """The end of the scale: a round number, even where it is halved into whole numbers."""
    if most <= 0:
        return 2.0 if whole_numbers else 1.0
    power = 10 ** floor(log10(most))
    for factor in (1, 2, 4, 5, 6, 8, 10):
        if factor * power >= most:
            break
    found = float(factor * power)
    return max(2.0, 2 * ceil(found / 2)) if whole_numbers else found


#: Ends of scales of time that people read without reckoning, in seconds.
_ROUND_TIMES = (
    *(10, 20, 30, 60, 120, 300, 600, 1200, 1800),
    *(hours * 3_600 for hours in (1, 2, 4, 8, 12, 24, 48, 96)),
    *(days * 86_400 for days in (7, 14, 30, 60, 120, 365)),
)


def _round_time(most: float) -> float:
    return (
        next((float(time) for time in _ROUND_TIMES if time >= most), most)
        if most > 8
        else _top(most, whole_numbers=False)
    )


def _level(value: Number, top: float) -> str:
    return f"{_HIGH - _HIGH * min(float(value), top) / top:.4g}"


def _line(line: Line, values: Sequence[Number | None], top: float, count: int) -> str:
    if line.bars:
        bars = "".join(
            f"M{place * _WIDE + _WIDE / 2:g} {_HIGH}V{_level(value, top)}"
            for place, value in enumerate(values)
            if value
        )
        return f'<path class="bars {line.look}{" few" if count <= 40 else ""}" d="{bars}"/>' if bars else ""
    path, drawing = [], False
    for place, value in enumerate(values):
        if value is None:
            drawing = False
            continue
        spot = f"{place * _WIDE + _WIDE / 2:g} {_level(value, top)}"
        path.append(f"L{spot}" if drawing else f"M{spot}h.01")
        drawing = True
    return f'<path class="line {line.look}" d="{"".join(path)}"/>' if path else ""


def _gaps(points: Sequence[Mapping[str, Any]]) -> str:
    """Where the bus did not run."""
    found = [
        f'<rect class="off" x="{place * _WIDE}" y="0" width="{_WIDE}" height="{_HIGH}"/>'
        for place, point in enumerate(points)
        if point.get("running") is False
    ]
    return "".join(found)


def _marks(points: Sequence[Mapping[str, Any]], marks: Sequence[tuple[datetime, str]], step: timedelta) -> list[str]:
    if not points:
        return []
    begin = datetime.fromisoformat(points[0]["at"])
    found = []
    for at, words in marks:
        place = (at - begin) / step
        if 0 <= place <= len(points):
            found.append(f'<path class="mark" d="M{place * _WIDE:.4g} 0V{_HIGH}"><title>{escape(words)}</title></path>')
    return found


def _hints(
    points: Sequence[Mapping[str, Any]],
    lines: Sequence[Line],
    values: Mapping[str, Sequence[Number | None]],
    shown: Shown,
    step: timedelta,
) -> str:
    """What a pointer over a point shows; browsers do it by themselves."""
    found = []
    for place, point in enumerate(points):
        told = [f"{line.name} {shown(value)}" for line in lines if (value := values[line.name][place]) is not None]
        words = ", ".join(told) or ("the bus did not run" if point.get("running") is False else "nothing")
        found.append(
            f'<rect class="hint" x="{place * _WIDE}" y="0" width="{_WIDE}" height="{_HIGH}">'
            f"<title>{_clock(point, step)}: {escape(words)}</title></rect>"
        )
    return "".join(found)


def _clock(point: Mapping[str, Any], step: timedelta) -> str:
    at = datetime.fromisoformat(point["at"]).astimezone(UTC)
    return at.strftime("%m-%d" if step >= timedelta(days=1) else "%m-%d %H:%M")


def _times(points: Sequence[Mapping[str, Any]], step: timedelta) -> str:
    """Four instants below the picture, evenly spread, and the end of it."""
    if not points:
        return ""
    long = step * len(points) > timedelta(days=1)
    begin = datetime.fromisoformat(points[0]["at"]).astimezone(UTC)
    places = [begin + step * len(points) * part / 4 for part in range(4)]
    said = [at.strftime("%m-%d" if long else "%H:%M") for at in places]
    return "".join(f"<span>{text}</span>" for text in [*said, "now"])


def _legend(lines: Sequence[Line], target: Target | None, marks: Sequence[tuple[datetime, str]]) -> str:
    found = [
        f'<span class="key {line.look}{" bars" if line.bars else ""}">{escape(line.name)}</span>' for line in lines
    ]
    if target is not None:
        found.append(f'<span class="key target">{escape(target.words)}</span>')
    if marks:
        found.append('<span class="key mark">new version</span>')
    return " ".join(found)


def _sentence(
    points: Sequence[Mapping[str, Any]],
    lines: Sequence[Line],
    values: Mapping[str, Sequence[Number | None]],
    shown: Shown,
    target: Target | None,
) -> str:
    parts = []
    for line in lines:
        known = [(value, place) for place, value in enumerate(values[line.name]) if value is not None]
        if not known:
            parts.append(f"{line.name}: nothing")
            continue
        most, place = max(known, key=lambda one: (one[0], -one[1]))
        if line.counts and not most:
            parts.append(f"{line.name}: none")
            continue
        at = datetime.fromisoformat(points[place]["at"]).astimezone(UTC).strftime("%m-%d %H:%M")
        first = f"{shown(sum(value for value, _ in known))} in all" if line.counts else f"last {shown(known[-1][0])}"
        parts.append(f"{line.name}: {first}" + (f", most {shown(most)} ({at})" if most else ""))
    if target is not None:
        parts.append(target.words)
    return "; ".join(parts) + "."
