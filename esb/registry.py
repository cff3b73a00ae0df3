"""Which components exist: steps, sources, sinks, connections and formats, each registered under its YAML name.

Discovery is one visible call (:func:`load`) that imports every module of ``esb.steps``, ``esb.endpoints`` and
``esb.formats``; a workspace's own ``connectors/*.py`` register the same way.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

Family = Literal["step", "source", "sink", "connection", "format"]
FAMILIES: tuple[Family, ...] = ("step", "source", "sink", "connection", "format")
PACKAGES = ("esb.formats", "esb.steps", "esb.endpoints")

C = TypeVar("C", bound=type)


@dataclass(frozen=True, slots=True)
class Component:
    """A registered class: its family, YAML name and, for a step, the pattern of *Enterprise Integration Patterns*."""

    family: Family
    name: str
    cls: type
    pattern: str = ""

    @property
    def doc(self) -> str:
        return (self.cls.__doc__ or "").strip()

    @property
    def summary(self) -> str:
        return self.doc.split("\n", 1)[0]


_marks = "__esb_components__"


def _register(family: Family, name: str, pattern: str = "") -> Callable[[C], C]:
    def mark(cls: C) -> C:
        component = Component(family, name, cls, pattern)
        setattr(cls, _marks, (*cls.__dict__.get(_marks, ()), component))
        return cls

    return mark


def step(name: str, *, pattern: str = "") -> Callable[[C], C]:
    """Register a step. ``pattern`` is its EIP name, empty where it has none."""
    return _register("step", name, pattern)


def source(name: str) -> Callable[[C], C]:
    """Register a source: an endpoint that messages come from."""
    return _register("source", name)


def sink(name: str) -> Callable[[C], C]:
    """Register a sink: an endpoint that messages go to."""
    return _register("sink", name)


def connection(name: str) -> Callable[[C], C]:
    """Register what a connector of ``type: name`` holds: address, credentials, transport settings."""
    return _register("connection", name)


def format_(name: str) -> Callable[[C], C]:
    """Register a codec between bytes and a body."""
    return _register("format", name)


class Registry:
    """The components by family and name."""

    def __init__(self, components: tuple[Component, ...]) -> None:
        self._by_family: dict[Family, dict[str, Component]] = {family: {} for family in FAMILIES}
        for component in components:
            known = self._by_family[component.family].setdefault(component.name, component)
            if known.cls is not component.cls:
                raise ValueError(f"two components are called {component.family} {component.name!r}")

    def family(self, family: Family) -> Mapping[str, Component]:
        return self._by_family[family]

    def get(self, family: Family, name: str) -> Component | None:
        return self._by_family[family].get(name)

    def with_modules(self, modules: tuple[Any, ...]) -> Registry:
        """This registry plus what other modules (a workspace's plugins) declare."""
        own = tuple(component for names in self._by_family.values() for component in names.values())
        return Registry(own + tuple(c for module in modules for c in components_of(module)))


def components_of(module: Any) -> tuple[Component, ...]:
    """The components that a module itself defines."""
    found = []
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            found.extend(value.__dict__.get(_marks, ()))
    return tuple(found)


@lru_cache(maxsize=1)
def load() -> Registry:
    """Import every component that ships with esb."""
    components: list[Component] = []
    for package_name in PACKAGES:
        package = importlib.import_module(package_name)
        for info in pkgutil.iter_modules(package.__path__):
            components.extend(components_of(importlib.import_module(f"{package_name}.{info.name}")))
    return Registry(tuple(components))
