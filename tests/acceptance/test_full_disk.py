"""A disk without room when the bus starts: no bad configuration, so a service manager tries again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_program import TO_FILE, workspace

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("room", [0, 20_000], ids=["none", "too little"])
def test_a_start_on_a_full_disk_exits_with_try_again_and_says_so(tmp_path: Path, room: int) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "esb", "run", str(root), "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert done.returncode == 75, done.stderr
    assert "disk full" in done.stderr
    assert "Traceback" not in done.stderr
