"""The command line inside of this process: the same entry, options, streams and exit codes, without a second for each start of Python."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esb.cli import main


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def esb(*words: str, cwd: Path, code: int | None = 0, **environment: str) -> Done:
    """One command; its exit code must be ``code`` (None: any)."""
    out, err = io.StringIO(), io.StringIO()
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    ended = 0
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(words))
    except SystemExit as end:
        ended = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    done = Done(ended, out.getvalue(), err.getvalue())
    assert code is None or done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def items(*words: str, cwd: Path) -> list[dict[str, Any]]:
    """The items of a command's ``--json``."""
    found = json.loads(esb(*words, "--json", cwd=cwd).stdout)
    assert set(found) == {"kind", "items"}
    return list(found["items"])
