"""The support bundle: what somebody far away needs to know of a bus, and nothing that is secret.

Payloads, error texts of messages, keys, actors and reasons are not in it at all. Every known secret is taken out of every text in each of
its spellings, and so is what looks like a credential; before the bundle is written it is searched for them again.
"""

from __future__ import annotations

import base64
import io
import json
import os
import platform
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from esb import __version__
from esb.config.loader import secrets_of
from esb.config.secrets import SecretMissing
from esb.errors import EsbError

MASK = "***"
#: A shorter value would take half of every text away; nobody should have such a secret.
_SHORTEST = 4
#: What a line of a file or an address says who we are with, unless it only refers to a secret or a variable.
_CREDENTIAL = re.compile(
    r"(?P<name>(?<!\$\{)(?<![\w-])[\w-]*(?:passw(?:or)?d|passphrase|token|secret|api[_-]?key|credential)[\w-]*[\"']?\s*[:=]\s*[\"']?)"
    r"(?P<value>(?!\$\{|\{|\[|\*)[^\s,}\"']+)",
    re.IGNORECASE,
)
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@\"']+@")
#: Messages have ids; the objects of these actions are routes, indicators, jobs and the bus.
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
_OF_THINGS = ("route.", "reload", "regulated.", "send", "kpi.", "bulk.", "group.", "reconcile.", "approval.", "db.")
_KEPT_AUDIT = ("seq", "at", "action", "object")
_KEPT_GROUP = ("group", "route", "step", "class", "count", "oldest", "newest")


class Leaks(EsbError):
    """The bundle would hold a secret; it was not written."""


class Redactor:
    """Takes secrets out of texts."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values if len(value) >= _SHORTEST for form in _forms(value)}
        self._forms = sorted(forms, key=len, reverse=True)

    @classmethod
    def of(cls, root: Path, environ: Mapping[str, str] = os.environ) -> Redactor:
        """Everything that is a secret here: what the workspace names, the whole secrets folder, the environment's, tokens."""
        folder, used = secrets_of(root)
        values = {value for name, value in environ.items() if name.startswith("ESB_SECRET_")}
        names = set(used)
        if folder.folder.is_dir():
            names |= {one.name for one in folder.folder.iterdir() if one.is_file()}
        for name in names:
            try:
                values.add(folder.find(name).reveal())
            except SecretMissing:
                continue
        try:
            lock = json.loads((root / ".esb" / "bus.lock").read_text(encoding="utf-8"))
            values.add(str(lock.get("token", "")))
        except (OSError, ValueError):
            pass
        return cls(values)

    def text(self, text: str, *, guess: bool = True) -> str:
        """``guess`` also takes out what only looks like a credential."""
        for form in self._forms:
            text = text.replace(form, MASK)
        if not guess:
            return text
        return _USER_IN_URL.sub(f"{MASK}@", _CREDENTIAL.sub(lambda found: found["name"] + MASK, text))

    def leaks(self, text: str) -> bool:
        return any(form in text for form in self._forms)


def _forms(value: str) -> Iterable[str]:
    """The spellings in which a value may stand somewhere."""
    data = value.encode("utf-8", "surrogatepass")
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="")
    yield base64.b64encode(data).decode()
    yield data.hex()
    yield from (line for line in value.splitlines() if len(line) >= 8)  # a key of several lines


def about() -> dict[str, Any]:
    """The program, what it runs on, and the versions of what it uses."""
    packages = {one.metadata["Name"]: one.version for one in metadata.distributions() if one.metadata["Name"]}
    return {
        "esb": __version__,
        "python": sys.version,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": dict(sorted(packages.items(), key=lambda pair: pair[0].lower())),
    }


def parts(answers: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """The files of a bundle: ``answers`` of the bus by name (``status groups audit bus``, as the API gives them), ``texts`` as they are."""
    groups = [{name: item.get(name) for name in _KEPT_GROUP} for item in answers.get("groups") or ()]
    audit = [_entry(item) for item in answers.get("audit") or ()]
    documents = {
        "about.json": about(),
        "bus.json": answers.get("bus"),
        "status.json": answers.get("status"),
        "recent-errors.json": groups,
        "audit.json": audit,
    }
    found = {name: json.dumps(value, indent=2, default=str, ensure_ascii=False) for name, value in documents.items()}
    return {**found, **texts}


def _entry(item: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the audit; what it is about only where that names neither a person nor a key."""
    kept = {name: item.get(name) for name in _KEPT_AUDIT}
    about = str(kept["object"])
    plain = _ID.fullmatch(about) or str(kept["action"]).startswith(_OF_THINGS)
    return kept if plain else {**kept, "object": MASK}


def bundle(files: Mapping[str, str], redactor: Redactor, at: datetime) -> bytes:
    """The zip. Raises Leaks where a secret would be in it all the same."""
    clean = {name: redactor.text(text, guess=not name.endswith(".json")) for name, text in files.items()}
    if leaking := [name for name, text in clean.items() if redactor.leaks(text)]:
        raise Leaks(f"{', '.join(leaking)} would hold a secret, so nothing was written", hint="please report this")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(clean.items()):
            archive.writestr(zipfile.ZipInfo(name, at.timetuple()[:6]), text.encode("utf-8", "replace"))
    return buffer.getvalue()
