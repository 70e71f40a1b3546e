"""Testing Workers with pytest: the types of its fixtures, for annotations.

The fixtures ``env``, ``worker``, ``state`` and ``clock`` come with the package in a project that
has a wrangler file.
"""

from .client import WorkerClient
from .clock import WorkerClock
from .workflows import WorkflowIntrospector

__all__ = ["WorkerClient", "WorkerClock", "WorkflowIntrospector"]
