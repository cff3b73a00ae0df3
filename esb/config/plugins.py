"""A workspace's own steps and endpoints: ``connectors/*.py``, loaded by path as ``esb_workspace.<name>``."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, ModuleType

from esb.config.files import everybody_writes
from esb.errors import Position, Problem
from esb.registry import Family, Registry, components_of
from esb.spec import kind_of, options_of

_METHODS: Mapping[Family, str] = {"step": "apply", "source": "bind", "sink": "send", "connection": "open"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles every time: bytecode files would wake the folder watcher, and could be older than the edit."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def load_plugins(
    root: Path, paths: list[str], registry: Registry, report: Callable[[Problem], None]
) -> tuple[Registry, dict[str, ModuleType | None]]:
    """The registry with everything that the workspace's own modules declare, and the modules by name.

    A fault in one becomes a problem, and None stands for the module.
    """
    modules: dict[str, ModuleType | None] = {}
    for path in paths:
        module = modules[Path(path).stem] = _load(root, path, report)
        if module is None or not _check(module, path, report):
            continue
        try:
            registry = registry.with_modules((module,))
        except ValueError as error:
            report(Problem("ESB109", str(error), Position(path), hint="give your component another name"))
    return registry, modules


def _load(root: Path, path: str, report: Callable[[Problem], None]) -> ModuleType | None:
    place = root / path
    stem = place.stem
    if not _NAME.fullmatch(stem):
        report(
            Problem("ESB110", f"`{stem}` is no name for a module", Position(path), hint="use letters, digits and `_`")
        )
        return None
    for where in (place, place.parent):
        if everybody_writes(where):
            what = "file" if where is place else "folder"
            report(
                Problem(
                    "ESB506",
                    f"everybody may write to this {what}, so its code is not run",
                    Position(path),
                    hint=f"chmod o-w {where.relative_to(root)}",
                )
            )
            return None
    name = f"esb_workspace.{stem}"
    loader = _Loader(name, str(place))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is being made
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the workspace's own code may do anything
        sys.modules.pop(name, None)
        report(_fault(error, path, place))
        return None
    return module


def _check(module: ModuleType, path: str, report: Callable[[Problem], None]) -> bool:
    """True where every component of a module is declared so that it can be read."""
    for component in components_of(module):
        try:
            for spec in options_of(component.cls):
                kind_of(spec.annotation)
        except (TypeError, NameError) as error:
            message = f"{component.family} `{component.name}` cannot be read: {error}"
            report(Problem("ESB802", message, Position(path), hint="a component is a frozen dataclass of options"))
            return False
        method = _METHODS.get(component.family, "")
        if method and not callable(getattr(component.cls, method, None)):
            message = f"{component.family} `{component.name}` has no method `{method}`"
            report(Problem("ESB802", message, Position(path), hint=f"define `{method}` in {component.cls.__name__}"))
            return False
    return True


def plugin_fault(error: Exception, root: Path) -> Problem | None:
    """The problem of an error that the workspace's own code raised while it was asked; None where it was not its code."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = Path(last.filename)
    if place.parent != root / "connectors":
        return None
    return _fault(error, f"connectors/{place.name}", place)


def _fault(error: BaseException, path: str, place: Path) -> Problem:
    line = 1
    if isinstance(error, SyntaxError) and error.filename == str(place):
        line = error.lineno or 1
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(place) and frame.lineno:
            line = frame.lineno
    words = error.msg if isinstance(error, SyntaxError) else f"{type(error).__name__}: {error}"
    return Problem(
        "ESB802", f"this module cannot be loaded: {words}", Position(path, line), hint="run it with python -c"
    )
