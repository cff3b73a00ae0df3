"""How many bytes of a subscription are in hand: the broker's prefetch counts messages, whatever their size."""

from __future__ import annotations

from dataclasses import dataclass, field

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
        return True

    def free(self, tag: int, *, multiple: bool) -> None:
        """A delivery, or all up to it, is acknowledged."""
        tags = [one for one in self._sizes if one <= tag] if multiple else [tag]
        for one in tags:
            self.bytes -= self._sizes.pop(one, 0)

    def clear(self) -> None:
        self._sizes.clear()
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether it is worth while to take deliveries again."""
        return self.bytes <= self.most // 2

    def narrow(self) -> None:
        """Ask for no more messages than fit, by the largest that was seen of late."""
        self.prefetch = max(1, min(self.asked, self.most // max(1, self._largest)))
        self._largest = self._seen = 0

    def may_widen(self) -> bool:
        """Whether the messages of late have been small enough for twice as many; asked once for each number of them."""
        if self.prefetch >= self.asked or self._seen < _CALM * self.prefetch:
            return False
        wider = min(self.asked, self.prefetch * 2)
        fits = self._largest * wider <= self.most
        self._largest = self._seen = 0
        if fits:
            self.prefetch = wider
        return fits


__all__ = ["Hand"]
