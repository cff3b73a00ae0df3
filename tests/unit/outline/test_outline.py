"""What a workspace says of itself: documents that validators take, words that are right, nothing that is secret."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from esb.config.loader import load_workspace, require_workspace
from esb.config.model import Workspace
from esb.formats.json import Json
from esb.outline import graph
from esb.outline.asyncapi import asyncapi
from esb.outline.openapi import openapi
from esb.outline.site import site
from esb.outline.words import explain, worst_cases

ROOT = Path(__file__).parents[3]
SECRETS = {
    "ESB_SECRET_QMS": "qms-key-4711",
    "ESB_SECRET_PORTAL": "hmac-secret-42",
    "ESB_SECRET_BROKER": "amqp://u:pw-of-broker@h/v",
}
FILES = {
    "esb.yaml": """
bus: plant
criticality: { ops: { retry: { max: 3, backoff: 1s..2s } } }
""",
    "connectors/qms.yaml": """
connector: qms
type: http
base_url: http://qms.example.com
timeout: 10s
inbound: { api_key: [ { key: "${secret:qms}", header: X-Key }, { key: "${secret:qms}-2", header: X-Other-Key } ] }
operations:
  lot: { path: "/lots/{{ body.lot }}", examples: [ { body: { lot: L-<1> }, answer: { stored: 12.10 } } ] }
""",
    "connectors/plant-bus.yaml": """
connector: plant-bus
type: amqp
url: ${secret:broker}
""",
    "schemas/lot.v1.json": json.dumps(
        {
            "$id": "https://example.com/lot.v1.json",
            "type": "object",
            "required": ["lot"],
            "properties": {
                "lot": {"$ref": "part.v1.json#/$defs/lot"},
                "next": {"$ref": "#"},
                "ref": {"const": {"$ref": "no"}},
            },
        }
    ),
    "schemas/part.v1.json": json.dumps(
        {"$id": "https://example.com/part.v1.json", "$defs": {"lot": {"type": "string", "maxLength": 18}}}
    ),
    "routes/lots.yaml": """
route: lot-put
description: Lots <into> the QMS
owner: quality
criticality: ops
key: body.lot
from: { http: { path: "/lots/{lot}", method: PUT, auth: qms, contract: lot.v1, format: json } }
steps:
  - filter: body.lot != ''
  - choose:
      - when: body.big
        steps: [ { to: qms.lot, timeout: 4s } ]
      - otherwise: [ { publish: lots } ]
on_error:
  - { for: [exhausted], dead_letter: qms }
---
route: lot-get
from: { http: { path: "/lots/{id}", method: GET, reply: delivered } }
steps:
  - respond: { status: 201, body: body }
---
route: portal
from:
  http: { path: /portal, auth: { hmac: { secret: "${secret:portal}", timestamp_header: X-Time } }, reply: none }
steps:
  - to: { amqp: { connector: plant-bus, exchange: lots, routing_key: "lot.{{ body.plant }}" } }
---
route: from-queue
from: { amqp: { connector: plant-bus, queue: lots.in, contract: lot.v1 } }
steps:
  - log: x
---
route: off
enabled: false
from: { http: { path: /off } }
steps:
  - log: x
""",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return require_workspace(tmp_path, environ=SECRETS)


def plain(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Json().encode(document))
    return found


def valid_openapi(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()  # type: ignore[arg-type]  # a double, or none


def valid_asyncapi(document: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from asyncapi3 import AsyncAPI3
    AsyncAPI3.model_validate(document)
    for ref in references(document):
        assert resolved(document, ref) is not None, ref


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for name, inner in value.items() if name != "const" for ref in references(inner)]
    return [ref for inner in value for ref in references(inner)] if isinstance(value, list) else []


def resolved(document: Any, ref: str) -> Any:
    for part in ref.removeprefix("#/").split("/"):
        document = document[part]
    return document


def test_the_reference_workspace_makes_valid_documents() -> None:
    reference, _ = load_workspace(ROOT, need_secrets=False)
    assert reference is not None
    found = plain(openapi(reference, "http://127.0.0.1:8080"))
    valid_openapi(found)
    assert "/qms/stock-decisions" in found["paths"]
    assert found["components"]["schemas"]["stock-decision.v1"]["required"]
    valid_asyncapi(plain(asyncapi(reference)))


def test_openapi_says_who_may_call_what_is_taken_and_what_is_answered(workspace: Workspace) -> None:
    found = plain(openapi(workspace, "https://bus.example.com"))
    valid_openapi(found)
    assert found["servers"] == [{"url": "https://bus.example.com"}]
    assert set(found["paths"]) == {"/lots/{id}", "/portal"}  # one shape is one path, and what is off is not there
    put, get = found["paths"]["/lots/{id}"]["put"], found["paths"]["/lots/{id}"]["get"]
    assert put["security"] == [{"api-key-x-key": []}, {"api-key-x-other-key": []}]
    assert found["components"]["securitySchemes"]["api-key-x-key"] == {
        "type": "apiKey",
        "in": "header",
        "name": "X-Key",
    }
    assert put["requestBody"]["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/lot.v1"}}}
    assert [one["name"] for one in put["parameters"] if "name" in one] == ["id"]
    assert {"202", "401", "422"} <= set(put["responses"])
    assert {"200", "201", "504"} <= set(get["responses"])
    assert "401" not in get["responses"]
    assert "requestBody" not in get
    assert "X-Time" in found["components"]["securitySchemes"]["hmac-x-signature"]["description"]
    schema = found["components"]["schemas"]["lot.v1"]["properties"]
    assert schema["lot"] == {"$ref": "#/components/schemas/part.v1/$defs/lot"}
    assert schema["next"] == {"$ref": "#/components/schemas/lot.v1"}
    assert schema["ref"] == {"const": {"$ref": "no"}}


def test_asyncapi_has_a_channel_for_each_place_of_messages(workspace: Workspace) -> None:
    found = plain(asyncapi(workspace))
    valid_asyncapi(found)
    addresses = {one["address"]: one for one in found["channels"].values()}
    assert set(addresses) == {"lots", "lots/lot.{body-plant}", "lots.in"}
    assert (
        addresses["lots/lot.{body-plant}"]["parameters"]["body-plant"]["description"] == "`body.plant` of the message"
    )
    received = found["operations"]["from-queue-receive-plant-bus-lots-in"]
    assert (received["action"], received["x-esb-route"]) == ("receive", "from-queue")
    message = resolved(found, received["messages"][0]["$ref"])
    assert resolved(found, message["payload"]["$ref"])["required"] == ["lot"]


def test_nothing_that_is_written_holds_a_secret(workspace: Workspace) -> None:
    written = "\n".join(site(workspace, "http://x").values())
    for secret in (*SECRETS.values(), "pw-of-broker"):
        assert secret not in written


def test_the_pages_escape_what_routes_say_and_lead_to_each_other(workspace: Workspace) -> None:
    files = site(workspace, "http://x")
    assert "Lots &lt;into&gt; the QMS" in files["index.html"]
    assert "<into>" not in files["index.html"]
    assert (
        "<dt>qms.lot: 1</dt><dd><pre>{\n  &#34;body&#34;: {\n    &#34;lot&#34;: &#34;L-&lt;1&gt;&#34;"
        in files["index.html"]
    )
    assert "12.10" in files["index.html"]
    for name in ("lot-put", "portal", "off"):
        assert f'href="routes/{name}.html"' in files["index.html"]
        assert f"<h1>{name}</h1>" in files[f"routes/{name}.html"]
    for page in (text for path, text in files.items() if path.endswith(".html")):
        assert "http://" not in page.replace("http://www.w3.org/2000/svg", "").replace("http://qms.example.com", "")
        assert "<script" not in page


def test_a_route_in_plain_words_with_its_worst_case(workspace: Workspace) -> None:
    said = "\n".join(explain(workspace, workspace.routes["lot-put"]))
    assert "Messages come from http PUT /lots/{lot}, and must meet lot.v1." in said
    assert "Those with the same `body.lot` keep their order; later ones wait behind a dead one." in said
    assert "1. Only messages for which `body.lot != ''` is true go on; the others are done (filtered)." in said
    assert "   if `body.big`:\n   1. It is sent to qms.lot, within 4s." in said
    assert "   otherwise:\n   1. It is published to the topic lots." in said
    assert "What ends as exhausted goes to the dead letters `qms`." in said
    [worst] = worst_cases(workspace, workspace.routes["lot-put"])
    assert (worst.attempts, worst.waits.total_seconds()) == (4, 1 + 2 + 2)
    assert worst.whole.total_seconds() == 1 + 2 + 2 + 4 * 4
    assert "tried up to 4 times; at worst 21s pass" in said


def test_a_step_whose_message_is_dropped_in_an_outage_says_when(tmp_path: Path) -> None:
    steps = "steps:\n  - to: { http: { url: https://x.example/o } }\n    when_down: { drop_after: 1h }\n"
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes/r.yaml").write_text("route: r\nfrom: { timer: { every: 1h } }\n" + steps)
    loaded = require_workspace(tmp_path)
    said = "\n".join(explain(loaded, loaded.routes["r"]))
    assert "to:http is tried while it is down, until the message is 1h old; then it is dropped." in said
    assert "given up" not in said


def test_a_hand_off_inside_of_the_bus_waits_for_no_answer(tmp_path: Path) -> None:
    steps = "steps: [ { to: { route: h } }, { to: { topic: t } }, { split: { each: body, steps: [ { to: { route: h } } ] } } ]\n"
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes/r.yaml").write_text("route: r\nfrom: { timer: { every: 1h } }\n" + steps)
    (tmp_path / "routes/h.yaml").write_text("route: h\nfrom: { route: {} }\nsteps: []\n")
    loaded = require_workspace(tmp_path)
    assert worst_cases(loaded, loaded.routes["r"]) == []
    assert "is tried up to" not in "\n".join(explain(loaded, loaded.routes["r"]))


def test_the_picture_shows_every_end_and_is_whole(workspace: Workspace) -> None:
    edges = graph.edges_of(workspace)
    picture = ET.fromstring(graph.svg(edges))
    names = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert names == {end for edge in edges for end in (edge.start, edge.end)}
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}path"))) == len(edges) + 1
    assert "route lot-put" in names
    assert 'n1["route from-queue"]' in graph.mermaid(edges)
    round_ = [graph.Edge("route a", "topic t", "publish"), graph.Edge("topic t", "route a")]
    assert "route a" in graph.svg(round_)


def test_a_route_is_explained_to_its_last_step_whoever_runs_it() -> None:
    loaded = load_workspace(ROOT / "examples" / "testing")[0]
    assert loaded is not None
    order, results = ("\n".join(explain(loaded, loaded.routes[name])) for name in ("order-saga", "machine-results"))
    undo = order[order.index("2. What was delivered") : order.index("3. It is sent to erp.announce")]
    assert "   1. A new body is made with order, reservation, why." in undo
    assert "   2. It is sent to erp.cancel-reservation." in undo
    assert "2. It is sent to erp.post-result." in results


def test_lines_are_as_wide_as_the_traffic_of_their_route_and_dashed_where_it_is_paused() -> None:
    edges = [
        graph.Edge("http POST /a", "route a"),
        graph.Edge("route a", "erp.post", "to"),
        graph.Edge("timer", "route b"),
    ]
    picture = ET.fromstring(graph.svg(edges, loads={"a": 1000}, paused={"b"}))
    paths = [path for path in picture.iter("{http://www.w3.org/2000/svg}path") if path.get("marker-end")]
    assert [(path.get("stroke-width"), path.get("stroke-dasharray")) for path in paths] == [
        ("4", None),
        ("4", None),
        (None, "6 4"),
    ]
    assert [path.findtext("{http://www.w3.org/2000/svg}title") for path in paths] == [
        "1000 messages",
        "to, 1000 messages",
        None,
    ]


def test_a_long_name_is_cut_and_stands_whole_in_its_title() -> None:
    name = "sftp partner-sftp /a/very/long/folder/of/certificates/*.json"
    picture = ET.fromstring(graph.svg([graph.Edge(name, "route a")]))
    assert name in [title.text for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert name not in [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
