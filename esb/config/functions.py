"""The functions of the workspace's own modules (``connectors/*.py``), by the name that a ``python`` step gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from esb.spec import MISSING, Node, Reader, ScalarNode
from esb.steps.functions import Function

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(slots=True)
class Functions:
    """Finds functions; ``modules`` are the workspace's modules by name, None for one that has faults."""

    modules: Mapping[str, ModuleType | None] = field(default_factory=dict)

    def find(self, node: Node, reader: Reader) -> Any:
        """The :class:`Function` that ``node`` names, or MISSING after reporting what is wrong."""
        text = node.value if isinstance(node, ScalarNode) else None
        if isinstance(text, str) and ("/" in text or ":" in text):
            words = text.rpartition("connectors/")[2].replace(".py", "", 1).replace(":", ".").replace("/", ".")
            return reader.problem(
                "ESB103", f"a function is `module.function`, not {node.what}", node, hint=f"write `{words}`"
            )
        module_name, dot, name = text.rpartition(".") if isinstance(text, str) else ("", "", "")
        if not dot:
            example = f"write `{next(iter(self.modules), 'weights')}.<function>`"
            return reader.problem("ESB103", f"a function is `module.function`, not {node.what}", node, hint=example)
        if module_name not in self.modules:
            hint = reader.nearest(module_name, self.modules)
            hint = hint if hint.startswith("did you mean") else f"write it to connectors/{module_name}.py"
            return _missing(f"module `{module_name}` does not exist", node, reader, hint)
        module = self.modules[module_name]
        if module is None:
            return MISSING  # its fault is reported where it is
        path = f"connectors/{module_name}.py"
        own = {known: value for known, value in vars(module).items() if _is_own(value, module)}
        if name not in own:
            return _missing(f"{path} has no function `{name}`", node, reader, reader.nearest(name, own))
        return self._function(str(text), path, module, own[name], node, reader)

    @staticmethod
    def _function(
        text: str, path: str, module: ModuleType, call: Callable[..., Any], node: Node, reader: Reader
    ) -> Any:
        parameters = inspect.signature(call).parameters.values()
        if nameless := [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY]:
            hint = f"take the `/` out: parameters are given by name, here `{nameless[0]}`"
            return _missing(f"`{text}` cannot be called", node, reader, hint)
        return Function(
            name=text,
            path=path,
            file=str(module.__file__),
            call=call,
            takes=tuple(p.name for p in parameters if p.kind in _NAMED),
            needs=tuple(p.name for p in parameters if p.kind in _NAMED and p.default is p.empty),
            takes_all=any(p.kind is p.VAR_KEYWORD for p in parameters),
        )


def _is_own(value: Any, module: ModuleType) -> bool:
    return inspect.isfunction(value) and value.__module__ == module.__name__


def _missing(words: str, node: Node, reader: Reader, hint: str) -> Any:
    return reader.problem("ESB312", words, node, label="no such function", hint=hint)
