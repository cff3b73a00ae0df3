"""T19: every case of JSONTestSuite, and every naughty string, through the HTTP and file endpoints of a running bus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest

from examples.demo.harness import until
from tests.corpora import json_parsing, naughty_strings
from tests.hostile.tools import Listener, Target, attacked

ROUTES = """
route: json
from: {{ http: {{ path: /json, method: POST, format: json }} }}
steps:
  - to: {{ http: {{ url: "{sink}/json", method: POST, format: json, headers: {{ X-Case: "{{{{ headers['x-case'] }}}}" }} }} }}
---
route: texts
from: {{ http: {{ path: /texts, method: POST, format: json }} }}
steps:
  - to: {{ http: {{ url: "{sink}/texts", method: POST, format: json, headers: {{ X-Case: "{{{{ headers['x-case'] }}}}" }} }} }}
---
route: plain
from: {{ http: {{ path: /plain, method: POST, format: text }} }}
steps:
  - to: {{ file: {{ path: "out/plain-{{{{ headers['x-case'] }}}}.txt" }} }}
---
route: files
from: {{ file: {{ path: in/*.json, every: 100ms, ready: {{ rename: true }}, failed: {{ move: bad/ }} }} }}
steps:
  - to: {{ http: {{ url: "{sink}/files", method: POST, format: json }} }}
"""

#: Valid by the grammar and refused all the same: a message with two values for one key has no one meaning.
REFUSED = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}
#: Left open by the standard, and taken.
TAKEN = {
    "i_number_too_big_neg_int.json",
    "i_number_too_big_pos_int.json",
    "i_number_very_big_negative_int.json",
    "i_structure_UTF-8_BOM_empty_object.json",
}

CASES = json_parsing()


def accepted(name: str) -> bool:
    return name in TAKEN or (name[0] == "y" and name not in REFUSED)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, sink: Listener) -> Iterator[Target]:
    root = tmp_path_factory.mktemp("corpus")
    (root / "in").mkdir()
    with attacked(root, {"routes/a.yaml": ROUTES.format(sink=sink.url)}) as found:
        yield found


def by_case(sink: Listener, path: str, count: int) -> dict[str, bytes]:
    return {dict(one.headers)["X-Case"]: one.body for one in sink.wait(count, path)}


def exact(data: bytes) -> str:
    """A value in words that tell `1.0` from `1.00` and keep the order of keys."""
    return repr(json.loads(data.decode("utf-8-sig"), parse_float=Decimal))


def test_json_over_http(target: Target, sink: Listener) -> None:
    for n, (name, data) in enumerate(CASES.items()):
        answer = target.http.post("/json", data, X_Case=name)
        assert answer.status == (202 if accepted(name) else 400), (name, answer)
        if n % 50 == 0:
            target.alive()
    good = [name for name in CASES if accepted(name)]
    got = by_case(sink, "/json", len(good))
    assert sorted(got) == sorted(good)
    assert {name: exact(got[name]) for name in good} == {name: exact(CASES[name]) for name in good}
    assert target.drained("json")["dead"] == 0


def test_json_over_files(target: Target, sink: Listener) -> None:
    good = sorted(exact(data) for name, data in CASES.items() if accepted(name))
    for name, data in CASES.items():
        place = target.root / "in" / name
        place.with_suffix(".part").write_bytes(data)
        place.with_suffix(".part").rename(place)
    # a file leaves its folder when it is claimed, and the folder of the claimed ones only after its message is there
    places = (target.root / "in", target.root / "in" / ".esb-claim")
    until(lambda: not any(any(place.glob("*.json")) for place in places), within=60, what="every file is filed away")
    found = target.drained("files")
    # equal bytes under another name are another file: nothing is folded together
    assert (found["done"], found["dead"]) == (len(good), len(CASES) - len(good))
    assert sorted(exact(body) for body in sink.bodies("/files")) == good
    assert len(list((target.root / "in" / "bad").iterdir())) == len(CASES) - len(good)


def test_naughty_strings_arrive_byte_for_byte(target: Target, sink: Listener) -> None:
    texts = naughty_strings()
    documents = [json.dumps({"value": text}, ensure_ascii=False, separators=(",", ":")).encode() for text in texts]
    for n, (text, document) in enumerate(zip(texts, documents, strict=True)):
        assert target.http.post("/texts", document, X_Case=str(n)).status == 202, text
        sent = target.http("POST", "/plain", text.encode(), Content_Type="text/plain; charset=utf-8", X_Case=str(n))
        assert sent.status == 202, text
        if n % 50 == 0:
            target.alive()
    got = by_case(sink, "/texts", len(texts))
    assert [json.loads(got[str(n)])["value"] for n in range(len(texts))] == texts
    # what needs no escape is not written as one: the bytes of each text are the bytes that came
    assert [n for n, text in enumerate(texts) if text.isprintable() and documents[n] != got[str(n)]] == []
    assert target.drained("plain")["dead"] == 0
    files = [(target.root / "out" / f"plain-{n}.txt").read_bytes() for n in range(len(texts))]
    assert files == [text.encode() for text in texts]
