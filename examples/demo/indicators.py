"""The indicators of the bus, held against what the systems around it say themselves."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from examples.demo.account import Account
from examples.demo.harness import call
from examples.demo.plant import Plant
from examples.demo.story import UNIT_COST

#: What is compared: words, what the indicator says, what the systems say.
Compared = tuple[str, Any, Any]


def kpis(plant: Plant) -> dict[str, dict[str, Any]]:
    """The indicators by name, as the API gives them."""
    return {item["kpi"]: item for item in call(f"{plant.bus.admin}/api/v1/kpis")["items"]}


def compared(plant: Plant) -> Iterator[Compared]:
    """Every indicator beside the number that ERP, QMS, portal and the bus's own books give for it."""
    found, erp, qms = kpis(plant), plant.systems.state("erp"), plant.systems.state("qms")
    blocked = sum((Decimal(stock["07"]) for stock in erp["stock"].values()), Decimal(0))
    inventory = found["blocked-inventory"]
    yield "blocked stock, pieces", inventory["level"], blocked
    yield "blocked stock, EUR", inventory["level_weight"], blocked * UNIT_COST
    lots = sum(Decimal(stock["07"]) != 0 for stock in erp["stock"].values())
    yield "lots with blocked stock", inventory["keys"], lots

    holds, releases = _effective(qms, "HOLD"), _effective(qms, "RELEASE")
    exposure = found["hold-propagation"]
    for part in exposure["parts"]:
        known = sum(part["part"] in systems for systems in holds)
        yield f"holds that the {part['part']} has", part["ended"], known
    everywhere = sum({"ERP", "WMS", "MES"} <= systems for systems in holds)
    yield "holds in every system", exposure["closed"], everywhere
    yield "holds that some system lacks", exposure["open"], exposure["started"] - everywhere
    yield "releases in the ERP", found["delayed-releases"]["closed"], sum("ERP" in systems for systems in releases)

    scrapped = [one for one in erp["material_documents"] if one["movement"] == "555"]
    yield "scrap postings", found["scrap-posting"]["closed"], len(scrapped)
    yield "supplier defects not closed", found["supplier-defects"]["open"], _defects(plant)

    books = [one for name, one in plant.bus.status().items() if not name.startswith("alert-")]
    dead = sum(one["states"]["dead"] + one["states"]["discarded"] for one in books)
    yield "dead letters", found["exception-rate"]["count"], dead
    accepted = sum(one["accepted"] - one["states"]["duplicate"] for one in books)
    replays = sum(entry["action"] == "replay" for entry in plant.bus.json("audit", "ls", "--limit", "10000"))
    yield "accepted messages", found["exception-rate"]["of"] + replays, accepted
    yield "replays", found["replay-activity"]["count"], replays


def _effective(qms: dict[str, Any], kind: str) -> list[set[str]]:
    """For each decision of a kind, the systems that the QMS knows to have it."""
    return [
        {system for system, told in known["systems"].items() if any(one["state"] == "EFFECTIVE" for one in told)}
        for known in qms["effects"].values()
        if known["kind"] == kind
    ]


def _defects(plant: Plant) -> int:
    """Nonconformances of incoming goods that the supplier was told of; nobody has closed one."""
    return len(plant.systems.state("portal")["notifications"])


def told(plant: Plant, account: Account) -> None:
    """The indicators after everything that happened."""
    account.act("What the plant manager sees")
    found = kpis(plant)
    exposure = found["hold-propagation"]
    account.aside(
        f"holds in every system in time: {exposure['on_time_percent']} %, half within {_ms(exposure['p50_seconds'])},"
        f" 95 % within {_ms(exposure['p95_seconds'])}"
    )
    account.expect("nothing is left to do", lambda: not plant.open(), within=60)
    plant.bus.run("send", "stock-against-holds", "--data", "{}", "--wait")
    differences = plant.bus.json("reconcile", "ls")
    account.check(
        "ERP and QMS agree on the stock of every lot", not differences, detail=f"{len(differences)} differences"
    )
    for words, said, true in compared(plant):
        account.check(f"{words}: the indicator says what the systems say", said == true, detail=f"{said} / {true}")


def _ms(seconds: float | None) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds is not None else "–"
