"""Answers of OData, V2 and V4, as entities: real ones of the cloud SDK's tests and of a gateway, and odd ones."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats.odata import OData, address_of, error_text, page_of

DATA = Path(__file__).parents[3] / "examples" / "data"
REAL = [
    ("odata/odata-v2-response-with-inline-count.json", 2, None),
    ("odata/odata-v4-response-with-inline-count.json", 2, 2),
    ("odata/Ticket_Collection_V2.json", 2, None),
    ("sap_gateway_exchanges/v2_purchaseorders_expand_inlinecount.json", 3, 12),
    ("sap_gateway_exchanges/v4_purchaseorders_count.json", 3, 12),
]


def decode(document: Any, **options: Any) -> Any:
    return OData(**options).decode(json.dumps(document).encode())


@pytest.mark.parametrize(("name", "many", "count"), REAL)
def test_real_lists_are_plain_entities(name: str, many: int, count: int | None) -> None:
    data = (DATA / name).read_bytes()
    entities = OData().decode(data)
    assert len(entities) == many
    text = OData().encode(entities).decode()
    assert not any(mark in text for mark in ("__metadata", "__deferred", "@odata", "/Date("))
    found = OData(envelope=True).decode(data)
    assert found["items"] == entities
    if count is not None:
        assert found["count"] == count


def test_expanded_lists_are_lists_and_decimals_keep_their_digits() -> None:
    data = (DATA / "sap_gateway_exchanges" / "v2_purchaseorders_expand_inlinecount.json").read_bytes()
    item = OData(numbers=("OrderQuantity", "NetPriceAmount")).decode(data)[0]["to_PurchaseOrderItem"][0]
    assert (item["OrderQuantity"], item["NetPriceAmount"]) == (Decimal("213.000"), Decimal("301.14"))
    assert str(item["OrderQuantity"]) == "213.000"
    assert item["PurchaseOrderItem"] == "00010"  # a number that is none keeps its zeros


def test_one_entity_is_an_object() -> None:
    head, _, body = (DATA / "sap_gateway_exchanges" / "http_201_material_document_gr.txt").read_text().partition("\n\n")
    assert head.startswith("HTTP/1.1 201")
    assert OData().decode(body.encode()) == {
        "MaterialDocument": "4900000001",
        "MaterialDocumentYear": "2026",
        "DocumentDate": "2026-03-10T00:00:00Z",
        "PostingDate": "2026-03-10T00:00:00Z",
        "ReferenceDocument": "DN-55012",
    }
    assert decode({"@odata.context": "…/$entity", "@odata.etag": 'W/"1"', "Lot": "1"}) == {"Lot": "1"}
    assert decode({"Lot": "1"}) == {"Lot": "1"}  # V4 without metadata


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("/Date(0)/", "1970-01-01T00:00:00Z"),
        ("/Date(1753142400000)/", "2025-07-22T00:00:00Z"),
        ("/Date(1753142400001)/", "2025-07-22T00:00:00.001Z"),
        ("/Date(1753142400000+0120)/", "2025-07-22T00:00:00Z"),
        ("/Date(-86400000-0300)/", "1969-12-31T00:00:00Z"),
        ("/Date(x)/", "/Date(x)/"),
        ("on /Date(0)/", "on /Date(0)/"),
    ],
)
def test_dates_of_v2_are_instants_in_utc(text: str, instant: str) -> None:
    assert decode({"d": {"At": text}}) == {"At": instant}


def test_properties_named_like_the_envelope_are_properties() -> None:
    entity = {"value": [1], "results": [2], "d": {"x": 1}, "error": {"message": "m"}, "Lot": "1"}
    assert decode(entity) == entity
    assert decode({"d": {"value": [1], "Lot": "1"}}) == {"value": [1], "Lot": "1"}
    assert decode({"d": [{"a": 1}]}) == [{"a": 1}]
    assert decode({"value": []}) == []


def test_links_and_counts_are_found_in_both_versions() -> None:
    v2 = page_of({"d": {"results": [1], "__next": "n", "__count": "7"}})
    v4 = page_of({"@odata.count": 7, "@odata.nextLink": "n", "@odata.deltaLink": "d", "value": [1]})
    assert v2 is not None
    assert v4 is not None
    assert (v2.next, v2.count, v4.next, v4.delta, v4.count) == ("n", 7, "n", "d", 7)
    assert page_of([1]) is None
    assert page_of({"a": 1}) is None


def test_removed_entities_of_a_delta_stay_visible() -> None:
    v401 = {"@removed": {"reason": "changed"}, "@id": "Lots('1')", "Lot": "1"}
    v40 = {"@odata.context": "#Lots/$deletedEntity", "id": "Lots('2')", "reason": "deleted"}
    assert decode({"value": [v401, v40]}) == [
        {"removed": "changed", "id": "Lots('1')", "Lot": "1"},
        {"removed": "deleted", "id": "Lots('2')", "reason": "deleted"},
    ]


@pytest.mark.parametrize("name", ["http_403_csrf_required.txt", "http_412_stale_etag.txt"])
def test_an_error_is_refused_in_the_words_of_the_system(name: str) -> None:
    body = (DATA / "sap_gateway_exchanges" / name).read_text().partition("\n\n")[2]
    words = json.loads(body)["error"]["message"]["value"]
    with pytest.raises(Invalid) as caught:
        OData().decode(body.encode())
    assert caught.value.message == f"the answer is an error: {words}"


def test_the_details_of_an_error_follow_its_text() -> None:
    error = {"code": "A", "message": "two faults", "details": [{"message": "no lot"}, {"message": "two faults"}]}
    assert error_text(error) == "two faults; no lot"
    assert error_text({"code": "A"}) == "A"
    assert error_text("x") == ""


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([1], "a list of 1 item"),
        ("x", "'x'"),
        ({"d": {"At": "/Date(999999999999999)/"}}, "no date that a calendar has"),
        ({"d": {"Qty": "1,5"}}, "is not a number"),
        ({"d": {"results": [{"Qty": "abc"}]}}, "not a number"),
    ],
)
def test_what_cannot_be_read_says_where(document: Any, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        decode(document, numbers=("Qty",))


def test_the_pointer_of_a_bad_value_is_that_of_its_entity() -> None:
    with pytest.raises(Invalid) as caught:
        decode({"d": {"results": [{"to_Items": {"results": [{"Qty": "x"}]}}]}}, numbers=("Qty",))
    assert caught.value.violations[0].pointer == "/to_Items/0/Qty"


def test_an_entity_has_an_address() -> None:
    assert address_of({"__metadata": {"uri": "u", "id": "i"}}) == "u"
    assert address_of({"@odata.id": "a"}) == "a"
    assert address_of({"id": 1}) == ""
