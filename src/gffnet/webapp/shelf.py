"""Sessions that browsers may come back to: the last few, for a while. Encoded images are large."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from gffnet.webapp.session import Session

MOST = 6
SECONDS = 3600.0


class Shelf:
    """At most `most` sessions by secret keys; one that nobody asked for in `seconds`, or the oldest, gives way."""

    def __init__(self, most: int = MOST, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Session]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, session: Session) -> str:
        """Keep a session; returns its key."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[key] = (self._clock(), session)
            self._expire()
        return key

    def get(self, key: object) -> Session | None:
        """The session of a key, or `None` if there is none, or no longer."""
        with self._lock:
            self._expire()
            if not isinstance(key, str) or key not in self._kept:
                return None
            session = self._kept.pop(key)[1]
            self._kept[key] = (self._clock(), session)  # now the one that was asked for last
            return session

    def drop(self, key: object) -> None:
        """Forget a session, if it is still there."""
        with self._lock:
            if isinstance(key, str):
                self._kept.pop(key, None)

    def _expire(self) -> None:
        """Forget those that are too old, and the oldest of those that are too many."""
        latest = self._clock() - self._seconds
        while self._kept and (len(self._kept) > self._most or next(iter(self._kept.values()))[0] < latest):
            self._kept.popitem(last=False)
