"""How many files and sockets the process may have open at once."""

from __future__ import annotations

import contextlib
import resource


def allow(wanted: int) -> int:
    """Let the process have ``wanted`` descriptors, or as many as the system would give it.

    Returned is how many it may have now; it is never made less.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft < most:
        # macOS has a limit of its own below what it says.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return most
    return soft
