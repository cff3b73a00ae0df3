"""Writes a random secret for each system of the reference workspace into ``.secrets/``, where there is none yet.

With them ``esb run`` starts in the repository's own folder. A plant puts its real secrets there, or into the environment.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from examples.demo.harness import ROOT, SECRETS


def write(folder: Path) -> int:
    """Give every system a secret; what exists stays. Gives the number of files written."""
    folder.mkdir(mode=0o700, exist_ok=True)
    written = 0
    for name in SECRETS:
        path = folder / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(18), encoding="ascii")
            written += 1
    return written


if __name__ == "__main__":
    write(ROOT / ".secrets")
