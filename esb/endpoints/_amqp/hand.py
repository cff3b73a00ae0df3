"""How many bytes of a subscription are in hand: the broker's prefetch counts messages, whatever their size.

A quorum queue puts what it gets back behind everything else that it got back and has not sent again yet. To keep the order
nothing may therefore be given back twice: until all of it has come again, only as many are asked for as fit at their largest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

#: Windows of messages without trouble after which twice as many are asked for.
_CALM = 20


@dataclass(slots=True)
class Hand:
    """Deliveries that are not acknowledged yet, and the prefetch that keeps them within ``most`` bytes.

    One delivery is always taken, so that a message larger than ``most`` gets through alone.
    """

    most: int
    asked: int  #: prefetch of the source
    prefetch: int = field(init=False)
    bytes: int = 0
    owed: int = 0  #: given back to the queue and not come again
    _sizes: dict[int, int] = field(default_factory=dict)
    _largest: int = 0
    _seen: int = 0

    def __post_init__(self) -> None:
        self.prefetch = self.asked

    def take(self, tag: int, size: int) -> bool:
        """Whether there is room for a delivery; it is in hand then."""
        self._seen += 1
        self._largest = max(self._largest, size)
        if self._sizes and self.bytes + size > self.most:
            return False
        self._sizes[tag] = size
        self.bytes += size
        self.owed = max(0, self.owed - 1)
        return True

    def give_back(self, size: int) -> None:
        """A delivery is not taken; it comes again before anything that is new."""
        self._largest = max(self._largest, size)
        self.owed += 1

    def free(self, tag: int, *, multiple: bool) -> None:
        """A delivery, or all up to it, is acknowledged."""
        # a channel counts its deliveries: they are in the order of their tags
        tags = list(takewhile(tag.__ge__, self._sizes)) if multiple else [tag]
        for one in tags:
            self.bytes -= self._sizes.pop(one, 0)

    def clear(self) -> None:
        self._sizes.clear()
        self.bytes = self.owed = 0

    @property
    def is_empty(self) -> bool:
        """Whether deliveries may be taken again: what is in hand is not counted in a new prefetch."""
        return not self._sizes

    def narrow(self) -> None:
        """Ask for no more messages than fit, by the largest that was seen of late."""
        self.prefetch = max(1, min(self.asked, self.most // max(1, self._largest)))
        self._largest = self._seen = 0

    def may_widen(self) -> bool:
        """Whether the messages of late have been small enough for twice as many; asked once for each number of them."""
        if self.owed or self.prefetch >= self.asked or self._seen < _CALM * self.prefetch:
            return False
        wider = min(self.asked, self.prefetch * 2)
        fits = self._largest * wider <= self.most
        self._largest = self._seen = 0
        if fits:
            self.prefetch = wider
        return fits


__all__ = ["Hand"]
