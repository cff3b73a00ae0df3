"""Every action of a person stands in the audit together with its effect: who, when, what, why; and its head goes outside."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

from esb.admin.access import Access
from esb.admin.actions import By
from esb.bus import Bus
from esb.clock import ManualClock
from esb.message import State
from esb.operations import Operations, Who
from esb.secret import Secret
from esb.store.base import Filter
from tests.runtime.conftest import write

WHO = Who("mia", "because")
SETTINGS = "http: { port: 0 }\nadmin: { port: 0 }\naudit: { anchor: elsewhere/bus.anchor }\n"
ROUTE = "route: refuses\nfrom: { route: {} }\nsteps: [ { reject: no } ]\n"


def test_each_action_is_audited_and_the_head_is_anchored(tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, {"esb.yaml": SETTINGS, "routes/a.yaml": ROUTE})
        clock = ManualClock()
        bus = await Bus.open(tmp_path, clock=clock, log=lambda *_, **__: None)  # type: ignore[arg-type]  # a double, or none
        await bus.supervisor.start()
        operations = Operations(bus.store, clock, bus.supervisor)
        sent = await bus.send("refuses", b"{}", {}, 5.0, ("mia", "because"))
        dead = Filter(ids=(sent["message_id"],))
        await operations.edit(sent["message_id"], b'{"a": 1}', WHO)
        await operations.retry(dead, WHO)
        while bus.store.get(sent["message_id"]).state is not State.DEAD:  # type: ignore[union-attr]  # it is there
            await asyncio.sleep(0)
        (replayed,) = await operations.replay(dead, WHO)
        await operations.discard(dead, WHO)
        await operations.pause("refuses", WHO, paused=True)
        assert bus.store.get_state("route", "refuses") == {"paused": True}
        await operations.pause("refuses", WHO, paused=False)
        write(tmp_path, {"routes/a.yaml": "route: [\n"})
        assert (await bus.reload("mia", "because"))["result"] == "refused"
        write(tmp_path, {"routes/a.yaml": ROUTE + "description: new\n"})
        assert (await bus.reload("mia", "because"))["result"] == "reloaded"
        entries = bus.store.audit_entries()
        assert [(entry["actor"], entry["reason"]) for entry in entries[1:]] == [("mia", "because")] * (len(entries) - 1)
        assert entries[0]["detail"] == {"changed": ["refuses"]}
        expected = "reload send dlq.edit dlq.retry replay dlq.discard route.pause route.resume reload.refused reload"
        assert [entry["action"] for entry in entries] == expected.split()
        assert entries[1]["object"] == sent["message_id"]
        assert entries[4]["detail"]["new"] == replayed["new_id"]
        assert entries[8]["detail"]["problems"][0].startswith("routes/a.yaml:1:")
        head = bus.store.audit_head()
        await bus.supervisor.stop(timedelta(0))
        await bus.housekeeping.stop()
        await bus.store.close()
        bus.lock.release()
        (line,) = (tmp_path / "elsewhere" / "bus.anchor").read_text().splitlines()
        assert (json.loads(line)["seq"], json.loads(line)["hash"]) == head

    asyncio.run(scenario())


def test_only_the_local_command_line_may_name_its_user() -> None:
    access = Access(Secret("local"), Secret("given"), (), ManualClock())

    def actor(token: str, claimed: str) -> str:
        who = access.by_token(token)
        assert who is not None
        return By(who, claimed=claimed).actor

    assert actor("local", "mia@desk") == "mia@desk"
    assert actor("given", "the boss") == "token:admin"
