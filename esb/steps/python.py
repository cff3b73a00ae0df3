"""``python``: a function of the workspace's own."""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from esb.errors import InternalFault, MessageError
from esb.language import Expression
from esb.message import EMPTY, Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Context
from esb.steps.functions import FunctionRef

#: What a function is given by the names of its parameters.
PARTS = ("body", "headers", "vars", "meta", "site")


@step("python", pattern="Service Activator")
@dataclass(frozen=True, slots=True)
class Python:
    """Call a function of the workspace's `connectors/*.py`; what it gives is the new body, or stays where `into:` puts it.

    The function gets copies of what its parameters name: `body`, `headers`, `vars`, `meta`, `site`, and every name under
    `values`. It gives back what JSON can say; dates as text. A plain function runs in a worker process, which is ended at
    the step's `timeout`, so that it may compute for long or block; an `async` one runs with the bus, must not block, and is
    cancelled at the `timeout`. Both may be called again for the same message, by a retry or after a crash. An exception is
    class `internal` and names its line; an error of `esb.errors` (`Rejected`, `Unavailable`, …) keeps its class. An edit of
    the file is taken over by a reload like any other.
    """

    call: FunctionRef = option(
        doc="`module.function`: `weights.net` is `def net(…)` in connectors/weights.py.",
        example="weights.net",
        shorthand=True,
        aliases=("function", "func", "run", "code", "script"),
    )
    values: Mapping[str, Expression] = option(
        factory=lambda: EMPTY, doc="Further parameters of the function.", example="{ tare: body.tare }"
    )

    def check(self, node: Node, reader: Reader) -> None:
        function, given = self.call, {*PARTS, *self.values}
        strangers = [name for name in function.needs if name not in given]
        if strangers:
            reader.problem(
                "ESB102",
                f"`{function.name}` needs `{strangers[0]}`",
                part_of(node, "call"),
                hint=f"add `values: {{ {strangers[0]}: body.{strangers[0]} }}`; without it a function is given "
                + ", ".join(f"`{name}`" for name in PARTS),
            )
        unknown = [name for name in self.values if name not in function.takes and not function.takes_all]
        if unknown:
            hint = reader.nearest(unknown[0], function.takes) or f"`{function.name}` takes no parameters"
            reader.problem(
                "ESB101", f"`{function.name}` has no parameter `{unknown[0]}`", part_of(node, "values"), hint=hint
            )

    @property
    def waits(self) -> bool:
        """Whether the pipeline awaits this step."""
        return inspect.iscoroutinefunction(self.call.call)

    @property
    def apart(self) -> bool:
        """Whether it must not run on the loop."""
        return not self.waits

    def apply(self, message: Message, context: Context) -> Message | Awaitable[Message]:
        if self.waits:
            return self._awaited(message, context)
        arguments = self._arguments(message, context)
        try:
            return self._result(message, self.call.call(**arguments))
        except Exception as error:
            raise self._fault(error) from error

    async def _awaited(self, message: Message, context: Context) -> Message:
        arguments = self._arguments(message, context)
        try:
            return self._result(message, await self.call.call(**arguments))
        except Exception as error:
            raise self._fault(error) from error

    def _arguments(self, message: Message, context: Context) -> dict[str, Any]:
        scope = context.scope(message)
        names = (name for name in PARTS if name in self.call.takes and name not in self.values)
        found = {name: plain(scope[name], name) for name in names}
        return found | {name: plain(value(scope), name) for name, value in self.values.items()}

    def _result(self, message: Message, result: Any) -> Message:
        return message.derive(body=plain(result, f"what `{self.call.name}` gives"))

    def _fault(self, error: Exception) -> MessageError:
        if isinstance(error, MessageError):
            return error
        at = self.call.path
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == self.call.file:
                at = f"{self.call.path}:{frame.lineno}"
        return InternalFault(f"{at}: `{self.call.name}` raised {type(error).__name__}: {error}", hint=f"mend {at}")


def plain(value: Any, what: str) -> Any:
    """A copy of ``value`` made of what a message can hold; numbers of ``float`` as they are printed.

    Raises InternalFault, which says where in ``what`` a value is that a message cannot hold.
    """
    if value is None or isinstance(value, (str, bytes, bool, int)):
        return value
    if isinstance(value, Decimal) and value.is_finite():
        return value
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value))
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{what}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: plain(item, f"{what}.{name}") for name, item in value.items()}
    kind = "an object whose keys are no texts" if isinstance(value, Mapping) else f"of type {type(value).__name__}"
    shown = f"{value}, no number" if isinstance(value, (Decimal, float)) else kind
    raise InternalFault(
        f"{what} is {shown}, which a message cannot hold",
        hint="give texts, numbers, true, false, null, lists and objects; dates as text by `.isoformat()`",
    )
