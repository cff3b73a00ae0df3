"""Random expressions over random JSON: the compiled form and the stock interpreter of jmespath agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import jmespath
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = ("a", "b", "c", "d")

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.integers(-6, 6).map(lambda n: n + 0.5)
    | st.sampled_from(["", "x", "xy", "10", "2.5", "b"])
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=25,
)


def literal(value: Any) -> str:
    text = json.dumps(value)
    return f"'{value}'" if isinstance(value, str) else f"`{text}`"


literals = (scalars | st.lists(scalars, max_size=3)).map(literal)
leaves = st.sampled_from([*NAMES, *NAMES, "@", "a.b", "b.a", "c[0]", "a[*].b", "b[].a", "c.*", "a[-1]"]) | literals

ONE = [
    "abs",
    "avg",
    "ceil",
    "floor",
    "sum",
    "max",
    "min",
    "sort",
    "reverse",
    "length",
    "keys",
    "values",
    "to_string",
    "to_number",
    "to_array",
    "type",
    "not_null",
]
TWO = ["contains", "starts_with", "ends_with", "join", "not_null", "merge"]


def _extended(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    field = st.sampled_from(NAMES)
    bound = st.integers(-3, 3).map(str) | st.just("")
    step = st.sampled_from(["", ":", ":1", ":2", ":-1"])
    suffix = (
        field.map(lambda n: f".{n}")
        | st.integers(-3, 3).map(lambda n: f"[{n}]")
        | st.sampled_from(["[*]", "[]", ".*"])
        | st.tuples(bound, bound, step).map(lambda p: f"[{p[0]}:{p[1]}{p[2]}]")
        | inner.map(lambda e: f"[?{e}]")
        | inner.map(lambda e: f".{{k: {e}, l: @}}")
        | st.tuples(inner, field).map(lambda p: f".[{p[0]}, {p[1]}]")
        | st.sampled_from(ONE).map(lambda f: f".{f}(@)")
    )
    pair = st.tuples(inner, inner)
    return (
        st.tuples(inner.map(lambda e: f"({e})"), suffix).map("".join)
        | st.tuples(field, suffix, suffix).map("".join)
        | st.tuples(pair, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "&&", "||", "|"])).map(
            lambda p: f"({p[0][0]}) {p[1]} ({p[0][1]})"
        )
        | st.tuples(pair, st.sampled_from(["&&", "||", "|"])).map(lambda p: f"{p[0][0]} {p[1]} {p[0][1]}")
        | inner.map(lambda e: f"!({e})")
        | pair.map(lambda p: f"[{p[0]}, {p[1]}]")
        | pair.map(lambda p: f"{{a: {p[0]}, b: {p[1]}}}")
        | st.tuples(st.sampled_from(ONE), inner).map(lambda p: f"{p[0]}({p[1]})")
        | st.tuples(st.sampled_from(TWO), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})")
        | st.tuples(st.sampled_from(["sort_by", "max_by", "min_by"]), inner, inner).map(
            lambda p: f"{p[0]}({p[1]}, &({p[2]}))"
        )
        | pair.map(lambda p: f"map(&({p[0]}), {p[1]})")
    )


expressions = st.recursive(leaves, _extended, max_leaves=10)


@given(expressions, st.dictionaries(st.sampled_from(NAMES), documents, max_size=4))
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_compiled_and_stock_agree(search: Callable[[str, Any], Any], expression: str, document: Any) -> None:
    ours = outcome(lambda: search(expression, exact(document)))
    stock = outcome(lambda: jmespath.search(expression, document))
    if isinstance(stock, Exception):
        assert isinstance(ours, Exception) or refused_by_python(stock)
    elif isinstance(ours, Exception):
        # stock merges whatever dict.update takes, such as a list of pairs
        assert "merge" in str(ours)
    else:
        assert same(ours, stock)


def outcome(run: Callable[[], Any]) -> Any:
    """The value, or the exception in its place."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - whatever is raised is the outcome
        return error


def refused_by_python(error: Exception) -> bool:
    """Stock orders a text and a number, or looks for a number in a text, with Python's operators; the specification says null
    and false."""
    return isinstance(error, TypeError) and ("not supported between" in str(error) or "in <string>" in str(error))


def exact(value: Any) -> Any:
    """The document as the bus reads it: decimals in place of floats."""
    return json.loads(json.dumps(value), parse_float=Decimal)


def same(ours: Any, stock: Any) -> bool:
    if isinstance(stock, bool) or stock is None:
        return ours is stock
    if isinstance(stock, (int, float)):
        # the mean is exact here and a float there
        return type(ours) in (int, Decimal) and abs(float(ours) - stock) < 1e-9
    if isinstance(stock, list):
        return isinstance(ours, list) and len(ours) == len(stock) and all(map(same, ours, stock))
    if isinstance(stock, dict):
        return (
            isinstance(ours, dict) and list(ours) == list(stock) and all(same(ours[key], stock[key]) for key in stock)
        )
    return bool(ours == stock)
