"""The doors that are no HTTP, with what stands in for the servers of the demo; `make run` goes through them with the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from esb.config.loader import load_workspace
from examples.demo import acts
from examples.demo.account import Account
from examples.demo.harness import ROOT, copy_workspace, new_secrets
from examples.demo.plant import Plant
from examples.demo.servers import INLETS, Servers


def test_table_upload_and_shop_floor_work_with_stand_ins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    servers = Servers(real=False)
    plant = Plant(tmp_path, environment=servers.environment)
    account = Account()
    try:
        servers.start(plant.workspace)
        plant.start()
        acts.inlets(plant, servers, account)
        assert account.verdict() == 0, capsys.readouterr().out
        assert "a SQLite file stands in" in dict(servers.words)["transfer table"]
    finally:
        plant.stop()
        servers.stop()


@pytest.mark.parametrize("orders", ["mes-orders-amqp", "mes-orders-files"])
def test_the_routes_of_all_doors_lint_without_a_word(tmp_path: Path, orders: str) -> None:
    workspace = copy_workspace(tmp_path)
    for path in INLETS.glob("*/*.yaml"):
        if not path.name.startswith("mes-orders") or path.stem == orders:
            (workspace / path.parent.name / f"inlet-{path.name}").write_text(path.read_text())
    (workspace / "connectors" / "partner-sftp.known_hosts").write_text("[127.0.0.1]:22 ssh-ed25519 AAAA\n")
    environment = {**new_secrets(), "ESB_SECRET_PARTNER_SFTP_KEY": "a key"}
    loaded, problems = load_workspace(workspace, environ=environment)
    unused = "mes-broker" if orders.endswith("files") else ""
    assert [str(problem) for problem in problems if not unused or unused not in str(problem)] == []
    assert loaded is not None
    assert {"production-orders-db", "certificates-sftp", "mes-orders"} <= set(loaded.routes)
    assert not (
        ROOT / "connectors" / "partner-sftp.yaml"
    ).exists()  # the repository's own workspace starts without them
