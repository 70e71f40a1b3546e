"""The two forms of a batch of new instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import WorkflowTypeError, WorkflowValueError
from .workflow_options import MOST_IN_BATCH


def spread(batch: Mapping[str, Any]) -> Any:
    """The list that a batch's dict stands for."""
    if "instances" in batch:
        if len(batch) > 1:
            raise WorkflowTypeError("create_batch: beside `instances` there is nothing else")
        return batch["instances"]
    count = batch.get("count")
    if not isinstance(count, int) or isinstance(count, bool):
        raise WorkflowTypeError("create_batch: a dict has `instances`, or `count`")
    if count > MOST_IN_BATCH:
        raise WorkflowValueError(f"create_batch takes {MOST_IN_BATCH} instances at most")
    shared = {key: value for key, value in batch.items() if key != "count"}
    return [shared] * count


def arguments(item: object) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise WorkflowTypeError(f"create_batch takes dicts, not {type(item).__name__}")
    renamed: dict[str, str] = {"locationHint": "location_hint"}
    given: dict[str, Any] = {renamed.get(str(key), str(key)): value for key, value in item.items()}
    if unknown := given.keys() - {"id", "params", "retention", "location_hint"}:
        raise WorkflowTypeError(f"an instance has no option {sorted(unknown)[0]!r}")
    return given
