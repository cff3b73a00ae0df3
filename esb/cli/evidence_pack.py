"""The archive of ``esb evidence``: how it is written, and how it is checked without the bus that made it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from esb import __version__
from esb.admin.sealing import is_signed
from esb.cli import exits
from esb.cli.gateway import Gateway, actor
from esb.formats.json import Json
from esb.store.chain import START, link

FORMAT = "esb-evidence/1"
MANIFEST, SEAL = "manifest.json", "seal.json"
#: What reading a damaged or hostile archive may raise.
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError)  # fmt: skip
#: A fixed date for every member, so that the same content gives the same archive.
_DATE = (2000, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the archive is about."""

    track: tuple[str, ...]
    since: str | None
    until: str | None
    reason: str

    @property
    def subject(self) -> str:
        return ", ".join(self.track)


@dataclass(slots=True)
class _Archive:
    zip: zipfile.ZipFile
    hashes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, content: bytes) -> None:
        info = zipfile.ZipInfo(name, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        self.zip.writestr(info, content)
        self.hashes[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _encoded(value: Any) -> bytes:
    """JSON with exact numbers; what people may look at is laid out in lines."""
    import msgspec

    return msgspec.json.format(Json().encode(value), indent=2) + b"\n"


# -- writing ------------------------------------------------------------------------------------------------------------
def pack(gateway: Gateway, asked: Asked, output: Path) -> dict[str, Any]:
    """Write the archive, whole or not at all; gives what the command tells. Raises Exit."""
    words = {"track": asked.track, "since": asked.since, "until": asked.until}
    found = gateway.get("/evidence", words)["items"]
    if not found:
        raise exits.Exit(f"no message tracks {asked.subject}", exits.MISSING, hint="esb messages ls --track NAME=VALUE")
    draft = output.with_name(output.name + ".part")
    try:
        with zipfile.ZipFile(draft, "w") as zip_:
            archive = _Archive(zip_)
            digest = _write(archive, gateway, asked, found)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    return {"file": str(output), "messages": len(found), "files": len(archive.hashes), "manifest_sha256": digest}


def _write(archive: _Archive, gateway: Gateway, asked: Asked, found: list[dict[str, Any]]) -> str:
    messages = []
    for number, item in enumerate(found, 1):
        full = gateway.get(f"/evidence/messages/{item['id']}")["items"][0]
        payload = full.pop("payload_base64", None)  # who may not see payloads gets their hashes
        name = f"{number:05}-{item['id']}"
        at = f"payloads/{name}" if payload is not None else None
        full |= {"tracked": item["tracked"], "file": f"messages/{name}.json", "payload_file": at}
        archive.add(full["file"], _encoded(full))
        if at is not None:
            archive.add(at, base64.b64decode(payload))
        messages.append(full)
    versions = dict.fromkeys((one["route"], one["version"]) for one in messages if one["version"])
    for route, version in versions:
        texts = gateway.get(f"/evidence/versions/{quote(route, safe='')}/{version}")["items"][0]
        archive.add(f"versions/{route}/{version}.json", _encoded(texts))
    entries = list(_entries(gateway))
    ids = {one["id"] for one in messages}
    concerning = [entry for entry in entries if _concerns(entry, ids)]
    archive.add("audit.json", _encoded(concerning))
    links = [{"seq": entry["seq"], "prev_hash": entry["prev_hash"], "hash": entry["hash"]} for entry in entries]
    archive.add("audit-chain.json", _encoded(links))
    about = {
        "format": FORMAT,
        "subject": asked.subject,
        "since": asked.since,
        "until": asked.until,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "made_by": actor(),
        "reason": asked.reason,
        "program": f"esb {__version__}",
        "messages": len(messages),
    }
    archive.add("summary.html", summary(about, messages, concerning).encode())
    manifest = _encoded({**about, "files": archive.hashes})
    digest = hashlib.sha256(manifest).hexdigest()
    archive.add(MANIFEST, manifest)
    seal = {"sha256": digest, "subject": asked.subject, "messages": len(messages), "reason": asked.reason}
    archive.add(SEAL, _encoded(gateway.post("/evidence/seal", seal)["items"][0]))
    return digest


def _entries(gateway: Gateway) -> Iterator[dict[str, Any]]:
    after = 0
    while items := gateway.get("/audit", {"limit": 10_000, "after": str(after)})["items"]:
        yield from items
        after = items[-1]["seq"]


def _concerns(entry: Mapping[str, Any], ids: set[str]) -> bool:
    detail = entry["detail"]
    return entry["object"] in ids or bool({str(detail.get("message")), str(detail.get("new"))} & ids)


def summary(about: Mapping[str, Any], messages: list[dict[str, Any]], audit: list[dict[str, Any]]) -> str:
    """The page for the reader: what happened to the subject, in order, and who did what by hand."""
    from esb.admin.render import environment

    open_states = ("queued", "running", "waiting", "held", "dead")
    rows = [{**one, "sent": [entry for entry in one["trace"] if entry.get("delivery_id")]} for one in messages]
    unfinished = [one for one in rows if one["state"] in open_states]
    versions = sorted({(one["route"], one["version"]) for one in messages})
    template = environment().get_template("evidence.html")
    return template.render(about=about, messages=rows, audit=audit, unfinished=unfinished, versions=versions)


# -- checking -----------------------------------------------------------------------------------------------------------
def verify(path: Path, gateway: Gateway | None = None, key: str = "") -> tuple[list[str], dict[str, Any]]:
    """What is wrong with an archive, in words, and what it says of itself; with ``gateway`` its bus is asked, too.

    ``key`` is the public key that must have signed it; without one whoever holds any key may have.
    """
    try:
        with zipfile.ZipFile(path) as zip_:
            return _verify(zip_, path.stat().st_size, gateway, key)
    except _BROKEN as error:
        return [f"this is no whole archive of evidence: {error}"], {}


def _verify(zip_: zipfile.ZipFile, size: int, gateway: Gateway | None, key: str) -> tuple[list[str], dict[str, Any]]:
    faults: list[str] = []
    manifest_bytes = zip_.read(MANIFEST)
    manifest, seal = json.loads(manifest_bytes), json.loads(zip_.read(SEAL))
    if manifest["format"] != FORMAT:
        return [f"format {manifest['format']} is not known to this version"], {}
    names = zip_.namelist()
    if zip_.comment or any(one.comment or one.extra or one.date_time != _DATE for one in zip_.infolist()):
        faults.append("the archive has marks that it was not made with")
    if _length(zip_) != size:
        faults.append("there is something before, between or behind the files of the archive")
    faults += [f"{name} is there twice" for name in {name for name in names if names.count(name) > 1}]
    strangers = set(names) - set(manifest["files"]) - {MANIFEST, SEAL}
    faults += [f"{name} was added" for name in sorted(strangers)]
    for name, known in manifest["files"].items():
        if name not in names:
            faults.append(f"{name} is missing")
        elif hashlib.sha256(zip_.read(name)).hexdigest() != known["sha256"]:
            faults.append(f"{name} was changed")
    if zip_.read(SEAL) != _encoded(seal) or not is_signed(seal):
        faults.append(f"{SEAL} was changed, or is not signed")
    elif key and seal["public_key"] != key:
        faults.append(f"another key has signed it: {seal['public_key']}")
    digest = hashlib.sha256(manifest_bytes).hexdigest()
    if seal["manifest_sha256"] != digest:
        faults.append(f"{MANIFEST} is not the one that was sealed")
    if not faults:
        faults += _payloads(zip_, manifest)
        faults += _chain(json.loads(zip_.read("audit-chain.json")), json.loads(zip_.read("audit.json")), seal)
    if gateway is not None and not faults:
        faults += _asked(gateway, digest, seal)
    facts = {name: manifest[name] for name in ("subject", "made_at", "made_by", "reason", "messages")}
    return faults, {
        **facts,
        "files": len(manifest["files"]),
        "manifest_sha256": digest,
        "public_key": seal.get("public_key", ""),
    }


def _length(zip_: zipfile.ZipFile) -> int:
    """Bytes of an archive that holds its files and nothing else: their headers (30 and 46 bytes, and the name), their data, the end."""
    return sum(76 + 2 * len(one.filename.encode()) + one.compress_size for one in zip_.infolist()) + 22


def _payloads(zip_: zipfile.ZipFile, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Each message names the hash of its own payload."""
    for name in manifest["files"]:
        if name.startswith("messages/"):
            message = json.loads(zip_.read(name))
            at = message["payload_file"]
            if at is not None and manifest["files"][at]["sha256"] != message["payload_sha256"]:
                yield f"{at} is not the payload of {message['id']}"


def _chain(links: list[dict[str, Any]], entries: Iterable[Mapping[str, Any]], seal: Mapping[str, Any]) -> Iterator[str]:
    """The links of the whole audit follow each other, its entries here are what the links say, the seal comes after them."""
    before, hashes = START, {}
    for number, one in enumerate(links, 1):
        if one["seq"] != number or one["prev_hash"] != before:
            yield f"link {one['seq']} of the audit does not follow the one before it"
            return
        before = hashes[number] = one["hash"]
    for entry in entries:
        row = {**entry, "detail": _canonical(entry["detail"])}
        if link(row) != entry["hash"] or hashes.get(entry["seq"]) != entry["hash"]:
            yield f"entry {entry['seq']} of the audit was changed"
    if seal["audit_seq"] <= len(links):
        yield "the seal is older than the audit in the archive"


def _canonical(detail: Any) -> str:
    from esb.store.chain import canonical

    return canonical(detail)


def _asked(gateway: Gateway, digest: str, seal: dict[str, Any]) -> Iterator[str]:
    """What the bus that made it says."""
    from esb.admin.evidence import seal_mac
    from esb.config.loader import settings_at

    found = gateway.get("/audit", {"limit": 1, "after": str(seal["audit_seq"] - 1)})["items"]
    entry = found[0] if found else None
    if entry is None or entry["action"] != "evidence.export" or entry["detail"].get("sha256") != digest:
        yield f"the audit of this bus does not know the archive at entry {seal['audit_seq']}"
    elif entry["hash"] != seal["audit_hash"]:
        yield f"entry {seal['audit_seq']} of the audit was written anew since the archive was made"
    known = {one["public_key"] for one in gateway.get("/evidence/key")["items"]}
    if seal["public_key"] not in known:
        yield "another key has signed it than the one of this bus"
    settings = settings_at(gateway.root)
    key = settings.audit.key if settings is not None else None
    if key is not None and seal.get("mac") != seal_mac(key, seal):
        yield "the seal has not the mark of the key of this bus (`audit: { key: … }`)"
