"""Progress lines of a child, not more often than anybody reads them."""

import time

from bot.worker.protocol import Channel

_TELL_EVERY = 0.2  # seconds


class Teller:
    """Sends ``{"progress": done, "total": total}``; `what` is told along where it is given."""

    def __init__(self, channel: Channel, *, what: str | None = None) -> None:
        self._channel, self._last = channel, 0.0
        self._more = {} if what is None else {"what": what}

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _TELL_EVERY or done == total:
            self._last = now
            self._channel.send({"progress": done, "total": total, **self._more})
