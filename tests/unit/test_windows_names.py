"""What only some systems have is asked for where it is needed, and not while the program is read."""

from __future__ import annotations

import subprocess
import sys

_READ = """
import errno, importlib, os, pkgutil, signal, socket
import asyncio.unix_events, multiprocessing.util, uvicorn
for module, names in {
    errno: ["EREMOTEIO"],
    os: ["fork", "geteuid", "getpgrp", "tcgetpgrp", "WNOHANG"],
    signal: ["SIGHUP", "SIGCHLD", "SIGCONT", "SIGKILL"],
    socket: ["TCP_USER_TIMEOUT", "send_fds", "recv_fds"],
}.items():
    for name in names:
        delattr(module, name)
import esb
for one in pkgutil.walk_packages(esb.__path__, "esb."):
    if one.name not in ("esb.__main__", "esb.testing.plugin"):
        importlib.import_module(one.name)
"""


def test_every_module_can_be_read_with_the_names_that_windows_has() -> None:
    done = subprocess.run([sys.executable, "-c", _READ], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
