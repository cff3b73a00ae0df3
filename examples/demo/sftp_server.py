"""A small SFTP server, for machines without OpenSSH: ``python -m examples.demo.sftp_server PORT FOLDER``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncssh


async def serve(port: int, folder: Path) -> None:
    """Serve the machine's files to the owner of the key in ``authorized_keys``, until it is ended."""
    await asyncssh.listen(
        "127.0.0.1",
        port,
        server_host_keys=[str(folder / "host")],
        authorized_client_keys=str(folder / "authorized_keys"),
        sftp_factory=True,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
