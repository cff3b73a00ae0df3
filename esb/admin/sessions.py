"""Who is logged in to the pages: sessions in memory, gone with the process."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

from esb.access.roles import Principal
from esb.clock import Clock

#: Seconds without a request, and in all, after which a session ends.
IDLE, LONGEST = 30 * 60.0, 12 * 3600.0
#: Most sessions at once; the one that was quiet longest ends first.
MAX_SESSIONS = 200


@dataclass(slots=True)
class Session:
    """One login. ``csrf`` stands in every form; ``notice`` is what the next page tells once.

    ``stamp`` is the one of the user at the login: where it is another now, the session is over. ``token`` is what a session was
    begun with instead of a password.
    """

    actor: str
    began: float
    used: float
    who: Principal | None = None
    stamp: str = ""
    token: str = field(default="", repr=False)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    notice: str = ""

    def wrote(self, csrf: str) -> bool:
        """True where a form comes from a page of this session; compared in constant time."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode("utf-8", "surrogatepass"))

    def told(self) -> str:
        """The notice, once."""
        notice, self.notice = self.notice, ""
        return notice


class Sessions:
    """Open sessions by the id that the browser's cookie shows; every login makes a new id."""

    def __init__(self, clock: Clock, idle: float = IDLE, longest: float = LONGEST) -> None:
        self._clock = clock
        self._idle, self._longest = idle, longest
        self._open: dict[str, Session] = {}

    def begin(self, actor: str, who: Principal | None = None, stamp: str = "", token: str = "") -> Session:
        now = self._clock.monotonic()
        session = Session(actor, now, now, who, stamp, token)
        self._open = {id_: one for id_, one in self._open.items() if not self._over(one, now)}
        while len(self._open) >= MAX_SESSIONS:
            del self._open[min(self._open, key=lambda id_: self._open[id_].used)]
        self._open[session.id] = session
        return session

    def find(self, id_: str, *, by_itself: bool = False) -> Session | None:
        """The session, kept alive by being asked for; None where there is none or its time is up.

        A page that loads again ``by_itself`` keeps no session of a person alive, but one that was begun with a token: that is a
        screen on a wall.
        """
        session, now = self._open.get(id_), self._clock.monotonic()
        if session is None or self._over(session, now):
            self._open.pop(id_, None)
            return None
        if not by_itself or session.token:
            session.used = now
        return session

    def end(self, session: Session) -> None:
        self._open.pop(session.id, None)

    def _over(self, session: Session, now: float) -> bool:
        return now - session.used > self._idle or now - session.began > self._longest
