"""The plant as a whole: all systems, the bus between them, and the questions that people ask about a lot."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from examples.demo.harness import ROOT, Bus, Simulators, call, copy_workspace, until
from examples.demo.story import Case

T = TypeVar("T")

#: Real files of other people that the bus must digest; see SOURCES.md in each folder.
DATA = ROOT / "examples" / "data"


class Plant:
    """Simulators and bus of one run, in one folder."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.systems = Simulators(folder / "systems")
        self._more = {} if environment is None else environment
        self.workspace = copy_workspace(folder / "workspace")
        self.bus: Bus = Bus(self.workspace, environment={})
        self._cases = 100

    def start(self) -> Plant:
        self.systems.start()
        self.start_bus()
        return self

    def start_bus(self) -> None:
        """Start the bus, again after a stop or a kill; the systems are told its address."""
        self.bus = Bus(self.workspace, environment={**self.systems.environment, **self._more}).start()
        self.systems.meet(self.bus.http)

    def stop(self) -> int:
        """Stop everything; the exit code of the bus."""
        try:
            return self.bus.stop()
        finally:
            self.systems.stop()

    def case(self) -> Case:
        """A delivery that nobody has heard of yet."""
        self._cases += 1
        return Case(self._cases)

    # -- what happens -------------------------------------------------------------------------------------------------
    def emit(self, system: str, event: str, data: Any, **order: Any) -> list[dict[str, Any]]:
        """A system tells the bus something. Raises AssertionError where the bus does not take it."""
        answers = self.systems.emit(system, event, data, **order)
        refused = [answer for answer in answers if answer["status"] != 202]
        assert not refused, f"the bus did not take `{event}`: {refused}"
        return answers

    def receive(self, case: Case) -> None:
        """Goods arrive; returns when the QMS has its inspection."""
        self.emit("erp", "goods-receipt", case.goods_receipt())
        self.expect(lambda: self.inspection(case), f"an inspection of {case.lot}")

    def post(self, path: str, file: str | Path, *, system: str, kind: str = "application/json") -> Any:
        """Post a real file to the bus with the credentials of a system."""
        key = self.systems.secrets[f"ESB_SECRET_{system.upper()}_INBOUND"]
        return call(self.bus.http + path, (DATA / file).read_bytes(), headers={"Content-Type": kind, "X-API-Key": key})

    def drop(self, folder: str, files: Iterable[str | Path]) -> None:
        """Put real files into a drop folder of the bus."""
        target = self.workspace / "var" / "in" / folder
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            draft = target / f"{Path(file).name}.part"
            shutil.copyfile(DATA / file, draft)
            draft.rename(target / Path(file).name)

    def expect(self, check: Callable[[], T], what: str, *, within: float = 60.0) -> T:
        """Wait until ``check`` gives something true. Raises TooLate."""
        return until(check, within=within, what=what)

    # -- what people ask ----------------------------------------------------------------------------------------------
    def inspection(self, case: Case) -> str:
        """Number of the inspection that the QMS has for the lot, empty where it has none."""
        known = self.systems.state("qms")["inspections"]
        return next((number for number, one in known.items() if one["lot"] == case.lot), "")

    def stock(self, case: Case) -> dict[str, Any]:
        return dict(self.systems.state("erp")["stock"][case.lot])

    def movements(self, case: Case) -> list[dict[str, Any]]:
        """Stock movements of the lot in the ERP, in the order of posting."""
        return [one for one in self.systems.state("erp")["material_documents"] if one["lot"] == case.lot]

    def posted(self, case: Case) -> list[str]:
        """Movement types of the lot in the ERP, in the order of posting."""
        return [one["movement"] for one in self.movements(case)]

    def history(self, system: str, case: Case) -> list[dict[str, Any]]:
        """What warehouse (``wms``) or shop floor (``mes``) was told about the lot."""
        lot = self.systems.state(system)["lots"].get(case.lot)
        return list(lot["history"]) if lot is not None else []

    def status(self, system: str, case: Case) -> str:
        lot = self.systems.state(system)["lots"].get(case.lot)
        return str(lot["status"]) if lot is not None else "AVAILABLE"

    def effects(self, decision: str) -> dict[str, list[dict[str, Any]]]:
        """What the QMS knows of a hold or release: system → confirmations."""
        known = self.systems.state("qms")["effects"].get(decision)
        return dict(known["systems"]) if known is not None else {}

    def of_case(self, system: str, collection: str, case: Case) -> list[dict[str, Any]]:
        """The records of a list or mapping of a system that belong to the case by its correlation id."""
        found = self.systems.state(system)[collection]
        records = found.values() if isinstance(found, dict) else found
        flat = [one for record in records for one in (record if isinstance(record, list) else [record])]
        return [one for one in flat if one.get("correlation_id") == case.correlation]

    def conserved(self) -> list[str]:
        """Routes where accepted messages are not the sum of their states, empty where none got lost."""
        wrong = []
        for name, one in self.bus.status().items():
            if one["accepted"] != sum(one["states"].values()) + one["purged"]:
                wrong.append(name)
        return wrong

    def open(self) -> int:
        """Messages that still have work to do."""
        waiting = ("queued", "running", "waiting", "held")
        return sum(one["states"][state] for one in self.bus.status().values() for state in waiting)
