"""The ids of messages."""

from __future__ import annotations

import itertools
import os
import secrets


class _Ids:
    """32 hexadecimal digits that grow with time, so that their index does at its end, and that keep
    the order of one process within a millisecond."""

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self._process = secrets.token_hex(6)
        # Of the number, its last eight hexadecimal digits count.
        self._count = itertools.count(2**32 + 1)
        self._now = -1
        self._prefix = ""

    def new(self, now: int) -> str:
        if now != self._now:
            # Many are made within a millisecond.
            self._now, self._prefix = now, f"{now:012x}"
        return self._prefix + hex(next(self._count))[-8:] + self._process


#: The id of a message that is sent at a time (ms epoch).
new_id = _Ids().new
