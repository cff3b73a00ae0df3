"""Functions for the example of the step `python`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from esb.errors import Rejected


def check_digit(body: dict[str, Any]) -> str:
    """The GS1 check digit of ``body.serial``."""
    digits = [int(digit) for digit in reversed(body["serial"])]
    total = sum(digit * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits))
    return str(-total % 10)


async def net(gross: Decimal, tare: Decimal) -> Decimal:
    """What is left of ``gross``; numbers come and go exactly."""
    if tare > gross:
        raise Rejected(f"the tare {tare} is more than the gross weight {gross}")
    return gross - tare
