"""``esb service``: the files with which a service manager runs the bus."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import click

from esb.cli import exits
from esb.cli.places import workspace_folder

KINDS = ("systemd", "windows", "container")
_UNITS = Path("/etc/systemd/system")

_SYSTEMD = """\
# A bus of esb. `systemctl daemon-reload` after a change.
[Unit]
Description=esb bus {bus}
After=network-online.target time-sync.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} run {root} --log-format json
# takes over the files; `Type=notify-reload` would need systemd 253
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={root}
User={user}
UMask=0027
Restart=on-failure
RestartSec=2
# 78: the files have faults; 77: not allowed. Starting again would change nothing.
RestartPreventExitStatus=77 78
# a loop that stands still for so long is killed and started again; nothing that was acknowledged is lost
WatchdogSec=60
TimeoutStartSec=120
# longer than limits.drain of esb.yaml
TimeoutStopSec={stop}
KillSignal=SIGTERM
LimitNOFILE=65536
# secrets: one file each below this folder, readable by root alone; `${{secret:NAME}}` finds them
# LoadCredential=erp-password:/etc/esb/secrets/erp-password

NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
# what the bus writes: the store, and the folders of file routes
ReadWritePaths={root}

[Install]
WantedBy=multi-user.target
"""

_WINDOWS = """\
<!-- For WinSW (https://github.com/winsw/winsw): save as esb-{bus}.xml beside WinSW's program, renamed to esb-{bus}.exe; then
     `esb-{bus}.exe install`. -->
<service>
  <id>esb-{bus}</id>
  <name>esb bus {bus}</name>
  <description>Lightweight enterprise service bus</description>
  <executable>{python}</executable>
  <arguments>-m esb run "{root}" --log-format json</arguments>
  <workingdirectory>{root}</workingdirectory>
  <startmode>Automatic</startmode>
  <delayedAutoStart>true</delayedAutoStart>
  <stoptimeout>{stop} sec</stoptimeout>
  <onfailure action="restart" delay="2 sec"/>
  <onfailure action="restart" delay="10 sec"/>
  <onfailure action="restart" delay="60 sec"/>
  <resetfailure>1 hour</resetfailure>
  <log mode="roll-by-size"><sizeThreshold>10240</sizeThreshold><keepFiles>8</keepFiles></log>
  <serviceaccount><domain>NT SERVICE</domain><user>esb-{bus}</user></serviceaccount>
</service>
"""

_CONTAINER = """\
# Build in the folder of the workspace: podman build -t esb-{bus} .
# Run: podman run -v esb-{bus}:/bus/.esb -v ./secrets:/run/secrets:ro -p 8080:8080 --stop-timeout {stop} esb-{bus}
FROM docker.io/library/python:3.13-slim
RUN pip install --no-cache-dir 'plantbus[sftp,postgres,mqtt,excel]=={version}' \\
 && useradd --system --uid 10001 --home-dir /bus esb \\
 && mkdir -p /bus/.esb && chown -R esb /bus
WORKDIR /bus
COPY --chown=esb . /bus
USER esb
# the store must live in a volume on a local disk, never in the container's own layer
VOLUME /bus/.esb
EXPOSE 8080
# `secrets: /run/secrets` in esb.yaml finds mounted secrets; the admin listener needs `admin: {{ token: … }}` off loopback
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD \\
  ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8081/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["esb", "run", "/bus", "--http", "0.0.0.0:8080", "--log-format", "json"]
"""


@click.group()
def service() -> None:
    """Run the bus as a service: systemd, Windows, container."""


@service.command("print")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--user", default="esb", show_default=True, help="User of the service.")
@click.option("--kind", type=click.Choice(KINDS), default="windows" if sys.platform == "win32" else "systemd", help="systemd (default), windows (WinSW) or container.")  # fmt: skip
def service_print(directory: Path, user: str, kind: str) -> None:
    """The file for a service manager, on stdout: a systemd unit with notify and watchdog, a WinSW configuration, or a Containerfile."""
    click.echo(_text(kind, workspace_folder(directory, "service print"), user)[1], nl=False)


@service.command("install")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--user", default="esb", show_default=True, help="User of the service.")
@click.option("--units", type=click.Path(file_okay=False, path_type=Path), default=_UNITS, show_default=True, help="Folder of systemd's units.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a unit that is there.")
def service_install(directory: Path, user: str, units: Path, force: bool) -> None:
    """Write the systemd unit of the bus, and say how it is started. Starts nothing by itself."""
    name, text = _text("systemd", workspace_folder(directory, "service install"), user)
    if sys.platform == "win32":
        raise exits.Exit("Windows has no systemd", exits.USAGE, hint="`esb service print` gives the file for WinSW")
    place = units / name
    if place.exists() and place.read_text(encoding="utf-8") != text and not force:
        raise exits.Exit(f"{place} is there already, and differs", exits.NOT_ALLOWED, hint="--force replaces it")
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        hint = "with sudo; or `esb service print` and put it where it belongs"
        raise exits.Exit(f"cannot write {place}: {words}", exits.NOT_ALLOWED, hint=hint) from None
    click.echo(f"{place}\n\n  systemctl daemon-reload\n  systemctl enable --now {name}\n  journalctl -u {name} -f")


@service.command("uninstall")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--units", type=click.Path(file_okay=False, path_type=Path), default=_UNITS, show_default=True, help="Folder of systemd's units.")  # fmt: skip
def service_uninstall(directory: Path, units: Path) -> None:
    """Remove the unit of the bus. Store, files and messages stay."""
    name, _ = _text("systemd", workspace_folder(directory, "service uninstall"), "")
    place = units / name
    if not place.exists():
        raise exits.Exit(f"there is no {place}", exits.MISSING)
    place.unlink()
    click.echo(f"removed {place}\n\n  systemctl disable --now {name}\n  systemctl daemon-reload")


def _text(kind: str, root: Path, user: str) -> tuple[str, str]:
    """Name and text of the file; nothing that a name or path holds can add a line or a word to it."""
    from esb import __version__
    from esb.config.loader import settings_at

    settings = settings_at(root)
    bus = re.sub(r"[^A-Za-z0-9-]+", "-", settings.bus if settings is not None else root.name).strip("-") or "bus"
    drain = settings.limits.drain.total_seconds() if settings is not None else 25
    if "\n" in str(root) or "\r" in str(root):
        raise exits.Exit("the folder's name holds a line break", exits.BAD_INPUT)
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", user):
        raise exits.Exit(f"`{user}` is no name of a user", exits.USAGE)
    stop = int(drain) + 20
    if kind == "windows":
        words = {"bus": bus, "root": escape(str(root), {'"': "&quot;"}), "python": escape(sys.executable), "stop": stop}
        return f"esb-{bus}.xml", _WINDOWS.format(**words)
    if kind == "container":
        return "Containerfile", _CONTAINER.format(bus=bus.lower(), stop=stop, version=__version__)
    return f"esb-{bus}.service", _SYSTEMD.format(
        bus=bus, program=_program(), root=_quoted(str(root)), user=user, stop=stop
    )


def _program() -> str:
    """The command that runs this very program."""
    beside = Path(sys.executable).with_name("esb")
    return _quoted(str(beside)) if os.access(beside, os.X_OK) else f"{_quoted(sys.executable)} -m esb"


def _quoted(word: str) -> str:
    """As systemd reads a word: quoted where it must be, with its own signs (`%`, `$`) doubled."""
    word = word.replace("%", "%%").replace("$", "$$")
    return word if shlex.quote(word) == word else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
