"""Where a site leaves its templates, and where its files are no longer what runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esb.cli import exits
from esb.cli.gateway import Gateway
from esb.config.loader import read_workspace
from esb.config.site_items import site_items
from esb.store.lock import read_owner


def drift_of(root: Path, only: str | None = None) -> list[dict[str, Any]]:
    """Every deviation: ``override`` (a field that the site says otherwise), and where a bus runs also ``file`` (changed since it
    was read), ``new``, ``gone`` and ``faulty`` (the files have faults, so the bus stays on the version before)."""
    loaded = read_workspace(root, need_secrets=False)
    disk = {site["site"]: site for site in site_items(loaded.workspace)} if loaded.workspace is not None else {}
    owner = read_owner(root / ".esb")
    running = None
    if owner is not None and owner.get("admin"):
        running = {site["site"]: site for site in Gateway(root).get("/sites")["items"]}
    known = {*disk, *(running or ())}
    if only is not None and only not in known and loaded.workspace is not None:
        raise exits.Exit(f"no site {only}", exits.MISSING, hint=f"known here: {', '.join(sorted(known)) or 'none'}")
    found = [*_faults(loaded.errors), *_overrides(disk if disk or running is None else running)]
    if running is not None and loaded.workspace is not None:
        found += _against(disk, running)
    return [item for item in found if only is None or item["site"] in (only, "")]


def _faults(errors: Any) -> Iterator[dict[str, Any]]:
    for problem in errors:
        words = f"{problem.code} {problem.message}"
        yield _item("", "", "faulty", problem.position.path, str(problem.position), words)


def _overrides(sites: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, site in sites.items():
        for route in site["routes"]:
            for one in route["overrides"]:
                words = "the site says otherwise than the template"
                item = _item(name, route["route"], "override", one["field"], one["at"], words)
                yield {**item, "template": one["template"], "here": one["site"]}


def _against(
    disk: Mapping[str, Mapping[str, Any]], running: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys((*disk, *running)):
        there = {route["route"]: route for route in disk.get(name, {}).get("routes", ())}
        live = {route["route"]: route for route in running.get(name, {}).get("routes", ())}
        for route, item in there.items():
            if route not in live:
                yield _item(name, route, "new", route, disk[name]["file"], "on disk, does not run")
                continue
            for path in dict.fromkeys((*item["files"], *live[route]["files"])):
                if item["files"].get(path) != live[route]["files"].get(path):
                    yield _item(name, route, "file", path, path, "changed on disk since the bus read it")
        for route in live.keys() - there.keys():
            yield _item(name, route, "gone", route, running[name]["file"], "runs, no longer on disk")


def _item(site: str, route: str, kind: str, what: str, at: str, words: str) -> dict[str, Any]:
    return {"site": site, "route": route, "kind": kind, "what": what, "at": at, "words": words}
