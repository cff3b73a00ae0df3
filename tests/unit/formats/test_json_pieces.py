"""A large JSON document that is read in pieces is what it is as a whole, and nobody holds the loop meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.endpoints._http.media import AT_ONCE, decoded
from esb.errors import Invalid
from esb.formats import json_pieces
from esb.formats.json import Json
from esb.formats.json_pieces import in_pieces

JSON = Json()
LOTS = [
    {"lot": f"L{n:05d}", "qty": n / 4, "note": 'a "quote", }, {"lot": [', "parts": [{"n": 1}, {"n": {"of": [n]}}]}
    for n in range(400)
]
#: documents that are read in pieces
PIECED = {
    "list": LOTS,
    "odata": {"d": {"__count": "400", "tags": ["a", "b"], "results": LOTS, "__next": "x"}},
    "two": {"a": LOTS[:200], "empty": [], "b": {"c": LOTS[200:]}, "rest": [1, [{"x": 1}]]},
    "inside a list": [[{"x": 1}, {"y": 2}], LOTS],
}
#: those whose large part is no list of objects
WHOLE = {"numbers": list(range(4000)), "mapping": {lot["lot"]: lot for lot in LOTS}, "text": "x" * 9000, "none": []}


class Reading:
    """``decode`` that remembers how much it was given at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, data: bytes) -> Any:
        self.sizes.append(len(data))
        return JSON.decode(data)

    def read(self, data: bytes) -> tuple[Any, int]:
        """The value, and the pauses on the way."""
        pauses, reading = 0, in_pieces(data, self)
        while True:
            try:
                next(reading)
            except StopIteration as end:
                return end.value, pauses
            pauses += 1


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_pieces, "_PIECE", 2048)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", " :\t")])
@pytest.mark.parametrize("name", [*PIECED, *WHOLE])
def test_the_pieces_are_the_whole(name: str, separators: tuple[str, str]) -> None:
    body = (PIECED | WHOLE)[name]
    data = json.dumps(body, separators=separators).encode()
    reading = Reading()
    value, pauses = reading.read(data)
    assert value == JSON.decode(data)
    if separators != (" ,\n", " :\t") and name in PIECED:  # a blank before the comma is no place that is looked for
        assert max(reading.sizes) < 2048 + 3
        assert pauses >= len(data) // 2048


@given(
    st.recursive(
        st.none() | st.integers() | st.text(st.sampled_from('ab{}[],:" \\'), max_size=6),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab[{", max_size=2), inner, max_size=4),
        max_leaves=30,
    ),
    st.integers(4, 60),
)
def test_any_document_is_the_same(body: Any, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_pieces, "_PIECE", size)
        assert Reading().read(json.dumps(body, separators=(",", ":")).encode())[0] == body


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"L00300", b"\xff", 1),
        lambda data: data.replace(b'"L00300"', b"L00300", 1),
        lambda data: data.replace(b'"lot":"L00300",', b'"lot":"L00300","lot":"L00300",', 1),
        lambda data: data[:-3] + b"},]}",
        lambda data: data[:-2] + b"}}",
        lambda data: data + b"x",
        lambda data: data.replace(b'"n":1}', b'"n":1e999}', 1),
    ],
)
def test_what_the_whole_refuses_is_refused(damage: Any) -> None:
    data = damage(json.dumps({"value": LOTS}, separators=(",", ":")).encode())
    for read in (JSON.decode, Reading().read):
        with pytest.raises(Invalid):
            read(data)


def test_a_fault_is_placed_behind_the_items_that_were_read() -> None:
    data = json.dumps({"value": LOTS}, separators=(",", ":")).encode().replace(b'"L00300"', b"L00300", 1)
    with pytest.raises(Invalid, match=r"after item 2\d\d: .*column") as caught:
        Reading().read(data)
    assert 280 <= int(caught.value.message.split("item ")[1].split(":")[0]) < 300


@pytest.mark.parametrize("large", [True, False])
def test_the_loop_goes_on_while_a_large_one_is_read(large: bool) -> None:
    data = json.dumps(LOTS * (40 if large else 1)).encode()
    assert (len(data) > AT_ONCE) == large

    async def main() -> int:
        turns, over = 0, False

        async def other() -> None:
            nonlocal turns
            while not over:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        before = turns
        assert await decoded(JSON, data) == JSON.decode(data)
        found = turns - before
        over = True
        await task
        return found

    turns = asyncio.run(main())
    assert turns > len(data) // 2048 if large else turns == 0
