"""Functions of the workspace's own modules, as steps see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from esb.steps.base import ResourceKind


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the workspace: ``weights.net`` in ``connectors/weights.py``; ``file`` is that path as frames name it.

    It can be given the parameters ``takes`` by name (any other where ``takes_all``), and must be given ``needs``.
    """

    name: str
    path: str
    file: str
    call: Callable[..., Any]
    takes: tuple[str, ...]
    needs: tuple[str, ...]
    takes_all: bool


FunctionRef = Annotated[Any, ResourceKind("function", "a function of connectors/*.py (`module.function`)")]
