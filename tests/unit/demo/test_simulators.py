"""The simulators keep the manners of the systems that they stand for, and misbehave when told to."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from examples.demo.simulators.__main__ import serve
from examples.demo.simulators.analytics import Analytics
from examples.demo.simulators.base import Simulator, load
from examples.demo.simulators.erp import Erp
from examples.demo.simulators.plant import Mes, Wms
from examples.demo.simulators.portal import Portal
from examples.demo.simulators.qms import Qms

ODATA = "/sap/opu/odata/sap"
MOVEMENTS = f"{ODATA}/API_MATERIAL_DOCUMENT_SRV/A_MaterialDocumentHeader"
LOT = f"{ODATA}/API_INSPECTIONLOT_SRV/A_InspectionLot('010000000815')"
RECEIPT = {
    "MaterialDocument": "5000000123",
    "MaterialDocumentYear": "2026",
    "Batch": "L240917A",
    "Material": "000000000000104711",
    "Plant": "1010",
    "InventoryStockType": "02",
    "QuantityInEntryUnit": "5000.000",
    "EntryUnit": "ST",
    "InspectionLot": "010000000815",
}

Scene = Callable[[TestClient], Awaitable[None]]


def play(simulator: Simulator, scene: Scene) -> None:
    async def run() -> None:
        async with TestClient(TestServer(simulator.app()), cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
            await scene(client)

    asyncio.run(run())


def erp_with_stock(**options: Any) -> Erp:
    erp = Erp(secrets={}, **options)
    erp.prepare("goods-receipt", RECEIPT)
    return erp


def movement(kind: str, quantity: str = "5000.000") -> dict[str, Any]:
    item = {"GoodsMovementType": kind, "Batch": "L240917A", "QuantityInEntryUnit": quantity, "EntryUnit": "ST"}
    return {"ReferenceDocument": "HOLD-1", "to_MaterialDocumentItem": {"results": [item]}}


async def token(client: TestClient) -> dict[str, str]:
    answer = await client.get(f"{ODATA}/API_MATERIAL_DOCUMENT_SRV/", headers={"X-CSRF-Token": "Fetch"})
    return {"X-CSRF-Token": answer.headers["X-CSRF-Token"]}


async def state(client: TestClient) -> Any:
    return load(await (await client.get("/_sim/state")).read())


def test_a_write_without_a_csrf_token_is_refused_and_says_so() -> None:
    async def scene(client: TestClient) -> None:
        answer = await client.post(MOVEMENTS, json=movement("350"))
        assert answer.status == 403
        assert answer.headers["X-CSRF-Token"] == "Required"

    play(erp_with_stock(), scene)


def test_a_csrf_token_without_its_cookie_is_worth_nothing() -> None:
    async def scene(client: TestClient) -> None:
        headers = await token(client)
        client.session.cookie_jar.clear()
        assert (await client.post(MOVEMENTS, json=movement("350"), headers=headers)).status == 403

    play(erp_with_stock(), scene)


def test_a_hold_moves_the_stock_of_the_lot_to_blocked() -> None:
    async def scene(client: TestClient) -> None:
        answer = await client.post(MOVEMENTS, json=movement("350"), headers=await token(client))
        assert answer.status == 201
        assert (await answer.json())["d"]["MaterialDocument"] == "4900000001"
        stock = (await state(client))["stock"]["L240917A"]
        assert (stock["02"], stock["07"]) == (Decimal("0.000"), Decimal("5000.000"))

    play(erp_with_stock(), scene)


def test_the_same_idempotency_key_posts_once_and_gets_the_same_answer() -> None:
    async def scene(client: TestClient) -> None:
        headers = {**await token(client), "Idempotency-Key": "delivery-1"}
        numbers = []
        for _ in range(2):
            answer = await client.post(MOVEMENTS, json=movement("350", "100"), headers=headers)
            numbers.append((await answer.json())["d"]["MaterialDocument"])
        assert numbers == ["4900000001", "4900000001"]
        assert len((await state(client))["material_documents"]) == 1

    play(erp_with_stock(), scene)


def test_idempotency_can_be_switched_off() -> None:
    async def scene(client: TestClient) -> None:
        await client.post("/_sim/behave", json={"mode": "ok", "idempotent": False})
        headers = {**await token(client), "Idempotency-Key": "delivery-1"}
        for _ in range(2):
            await client.post(MOVEMENTS, json=movement("350", "100"), headers=headers)
        assert len((await state(client))["material_documents"]) == 2

    play(erp_with_stock(), scene)


def test_a_movement_of_more_than_there_is_names_the_deficit() -> None:
    async def scene(client: TestClient) -> None:
        answer = await client.post(MOVEMENTS, json=movement("350", "5001"), headers=await token(client))
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "M7/021"

    play(erp_with_stock(), scene)


def test_stock_under_an_inspection_lot_is_freed_by_a_usage_decision_only() -> None:
    async def scene(client: TestClient) -> None:
        headers = await token(client)
        assert (await client.post(MOVEMENTS, json=movement("321"), headers=headers)).status == 400
        decision = {"InspectionLot": "010000000815", "InspLotUsageDecisionValuation": "A"}
        path = f"{ODATA}/API_INSPECTIONLOT_SRV/A_InspLotUsageDecision"
        assert (await client.post(path, json=decision, headers=headers)).status == 201
        assert (await state(client))["stock"]["L240917A"]["01"] == Decimal("5000.000")
        assert (await client.post(path, json=decision, headers=headers)).status == 400

    play(erp_with_stock(), scene)


def test_a_patch_needs_the_etag_of_the_last_read() -> None:
    async def scene(client: TestClient) -> None:
        headers = await token(client)
        change = {"InspLotExternalNumber": "INSP-00001"}
        assert (await client.patch(LOT, json=change, headers=headers)).status == 428
        etag = (await client.get(LOT)).headers["ETag"]
        assert (await client.patch(LOT, json=change, headers={**headers, "If-Match": etag})).status == 204
        assert (await client.patch(LOT, json=change, headers={**headers, "If-Match": etag})).status == 412

    play(erp_with_stock(), scene)


@pytest.mark.parametrize(
    ("order", "status", "posted"),
    [
        ({"mode": "down"}, 503, 0),
        ({"mode": "lying"}, 200, 0),
        ({"mode": "reject"}, 400, 0),
        ({"mode": "slow", "delay": 0}, 201, 1),
        ({"mode": "ok"}, 201, 1),
    ],
)
def test_each_mode_answers_and_acts_as_it_says(order: dict[str, Any], status: int, posted: int) -> None:
    async def scene(client: TestClient) -> None:
        headers = await token(client)
        await client.post("/_sim/behave", json=order)
        answer = await client.post(MOVEMENTS, json=movement("350"), headers=headers)
        assert answer.status == status
        if order["mode"] == "lying":
            assert (await answer.json())["RETURN"][0]["TYPE"] == "E"
        assert len((await state(client))["material_documents"]) == posted

    play(erp_with_stock(), scene)


def test_a_lost_answer_leaves_the_effect_behind() -> None:
    async def scene(client: TestClient) -> None:
        headers = await token(client)
        await client.post("/_sim/behave", json={"mode": "lost", "times": 1})
        with pytest.raises(aiohttp.ClientError):
            await client.post(MOVEMENTS, json=movement("350"), headers=headers)
        assert len((await state(client))["material_documents"]) == 1

    play(erp_with_stock(), scene)


def test_an_order_ends_after_its_times_and_keeps_to_its_path() -> None:
    async def scene(client: TestClient) -> None:
        await client.post("/_sim/behave", json={"mode": "down", "times": 1, "path": "stock-status"})
        body = {"lot": "L1", "status": "BLOCKED"}
        answers = [(await client.post("/wms/v2/lots/L1/picks", json={})).status]
        answers += [(await client.post("/wms/v2/stock-status", json=body)).status for _ in range(2)]
        assert answers == [200, 503, 200]

    play(Wms(secrets={}), scene)


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    async def scene(client: TestClient) -> None:
        answer = await client.post("/_sim/behave", json={"mode": "tired"})
        assert answer.status == 400
        assert "flaky" in (await answer.json())["error"]

    play(Wms(secrets={}), scene)


def test_nobody_picks_or_consumes_a_lot_on_hold() -> None:
    async def warehouse(client: TestClient) -> None:
        await client.post("/wms/v2/stock-status", json={"lot": "L1", "status": "BLOCKED"})
        assert (await client.post("/wms/v2/lots/L1/picks", json={})).status == 409
        await client.post("/wms/v2/stock-status", json={"lot": "L1", "status": "AVAILABLE"})
        assert (await client.post("/wms/v2/lots/L1/picks", json={})).status == 200

    async def shop_floor(client: TestClient) -> None:
        await client.put("/mes/v1/lots/L1/usability", json={"usable": False})
        assert (await client.post("/mes/v1/lots/L1/consumption", json={})).status == 409

    play(Wms(secrets={}), warehouse)
    play(Mes(secrets={}), shop_floor)


def test_the_portal_takes_a_notification_once() -> None:
    async def scene(client: TestClient) -> None:
        answers = [(await client.post("/portal/v1/notifications", json={"nc_id": "NC-1"})).status for _ in range(2)]
        assert answers == [201, 409]

    play(Portal(secrets={}), scene)


def test_every_system_checks_who_calls() -> None:
    basic = "Basic " + base64.b64encode(b"ESB:pw").decode()

    async def erp(client: TestClient) -> None:
        path = f"{ODATA}/API_MATERIAL_DOCUMENT_SRV/"
        assert (await client.get(path)).status == 401
        assert (await client.get(path, headers={"Authorization": basic})).status == 200

    async def wms(client: TestClient) -> None:
        assert (await client.post("/wms/v2/stock-status", json={})).status == 401

    async def qms(client: TestClient) -> None:
        assert (await client.post("/api/v1/inspections", json={"lot": "L1"})).status == 401
        form = {"grant_type": "client_credentials", "client_id": "esb", "client_secret": "s"}
        granted = await (await client.post("/oauth/token", data=form)).json()
        headers = {"Authorization": f"Bearer {granted['access_token']}"}
        assert (await client.post("/api/v1/inspections", json={"lot": "L1"}, headers=headers)).status == 201

    play(Erp(secrets={"ESB_SECRET_ERP_PASSWORD": "pw"}), erp)
    play(Wms(secrets={"ESB_SECRET_WMS_KEY": "k"}), wms)
    play(Qms(secrets={"ESB_SECRET_QMS_CLIENT_SECRET": "s"}), qms)


def test_the_scorecard_says_breached_from_its_tolerance_on() -> None:
    async def scene(client: TestClient) -> None:
        await client.post("/v1/scorecard/receipts", json={"supplier_id": "S", "quantity": 100000})
        seen = []
        for quantity in (100, 400):
            body = {"supplier_id": "S", "nc_id": "NC", "quantity": quantity, "period": "2026-11"}
            answer = await (await client.post("/v1/scorecard/defects", json=body)).json()
            seen.append((answer["ppm"], answer["breached"]))
        assert seen == [(1000, False), (5000, True)]

    play(Analytics(secrets={}), scene)


def test_an_event_goes_to_the_bus_with_key_and_correlation_and_twice_when_told() -> None:
    received: list[tuple[str, str, str]] = []

    async def take(request: web.Request) -> web.Response:
        await request.read()
        headers = request.headers
        received.append((request.path, headers["X-API-Key"], headers["X-Correlation-ID"]))
        return web.json_response({"message_id": "m"}, status=202)

    async def scene(client: TestClient) -> None:
        bus = web.Application()
        bus.router.add_post("/erp/goods-receipts", take)
        async with TestServer(bus) as server:
            await client.post("/_sim/bus", json={"url": str(server.make_url("/"))})
            await client.post("/_sim/behave", json={"mode": "double"})
            answer = await client.post("/_sim/emit", json={"event": "goods-receipt", "data": RECEIPT})
            assert [one["status"] for one in (await answer.json())["answers"]] == [202, 202]
        assert (await state(client))["stock"]["L240917A"]["02"] == Decimal("5000.000")

    play(Erp(secrets={"ESB_SECRET_ERP_INBOUND": "key"}), scene)
    assert received == [("/erp/goods-receipts", "key", "GR-5000000123-2026")] * 2


def test_state_survives_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "wms.json"

    async def before(client: TestClient) -> None:
        headers = {"Idempotency-Key": "d1"}
        await client.post("/wms/v2/stock-status", json={"lot": "L1", "status": "BLOCKED"}, headers=headers)

    async def after(client: TestClient) -> None:
        assert (await client.post("/wms/v2/lots/L1/picks", json={})).status == 409
        headers = {"Idempotency-Key": "d1"}
        await client.post("/wms/v2/stock-status", json={"lot": "L1", "status": "BLOCKED"}, headers=headers)
        assert len((await state(client))["lots"]["L1"]["history"]) == 1

    play(Wms(secrets={}, state_file=file), before)
    play(Wms(secrets={}, state_file=file), after)


def test_calls_are_recorded_with_their_outcome_but_without_credentials() -> None:
    async def scene(client: TestClient) -> None:
        await client.post("/portal/v1/notifications", json={"nc_id": "NC-1"}, headers={"Authorization": "Bearer x"})
        text = await (await client.get("/_sim/requests", params={"path": "notifications"})).text()
        assert '"status":201' in text
        assert "Bearer" not in text

    play(Portal(secrets={}), scene)


def test_a_simulator_ends_with_the_process_that_started_it(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(serve(Wms(secrets={}), 0, parent=-1))
    assert capsys.readouterr().out.startswith("listening wms http://127.0.0.1:")
