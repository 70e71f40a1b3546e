"""Cloudflare's stateful platform for Python: `open` a directory and use what lives in it.

>>> import bunflare
>>> async with bunflare.open() as state:
...     await state.kv("GREETINGS").put("hello", "world")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .bindings.kv import KVKey, KVLimits, KVList, KVNamespace, KVValue
from .clock import Clock, ManualClock, SystemClock
from .errors import (
    BackupError,
    BodyUsedError,
    BunflareError,
    CacheError,
    CacheTypeError,
    CacheValueError,
    ConfigError,
    D1Error,
    D1TypeError,
    D1ValueError,
    DatabaseBusy,
    DatabaseCorrupt,
    DatabaseError,
    DatabaseFull,
    DatabaseReadOnly,
    DirectoryError,
    DurableObjectAbort,
    DurableObjectError,
    DurableObjectReset,
    DurableObjectSqlError,
    DurableObjectTypeError,
    DurableObjectValueError,
    FetchError,
    FetchRangeError,
    FetchSyntaxError,
    FetchTypeError,
    FutureFormatError,
    KVError,
    KVTypeError,
    KVValueError,
    NonRetryableError,
    QueueError,
    QueueTypeError,
    QueueValueError,
    R2Error,
    R2TypeError,
    R2ValueError,
    StateError,
    StoredError,
    ValueCorrupt,
    ValueNotSerializable,
    ValuesError,
    WorkerError,
    WorkflowChangedError,
    WorkflowError,
    WorkflowFatalError,
    WorkflowTimeoutError,
    WorkflowTypeError,
    WorkflowValueError,
)
from .state import State, StateTransaction, open  # noqa: A004
from .store.database import Database, get_database

if TYPE_CHECKING:
    from .bindings.cache import Cache, CacheStorage
    from .bindings.care import go_back, restore
    from .bindings.care_prune import Pruned
    from .bindings.changes import Changes
    from .bindings.d1 import (
        D1Database,
        D1DatabaseSession,
        D1ExecResult,
        D1Meta,
        D1PreparedStatement,
        D1Result,
    )
    from .bindings.durable_objects import (
        DurableObject,
        DurableObjectId,
        DurableObjectNamespace,
        DurableObjectStub,
    )
    from .bindings.object_alarms import AlarmInvocationInfo
    from .bindings.object_sql import SqlCursor, SqlStorage
    from .bindings.object_state import DurableObjectState
    from .bindings.object_storage import DurableObjectStorage, DurableObjectTransaction
    from .bindings.queue_answers import QueueSendMetadata, QueueSendResponse
    from .bindings.queue_arguments import MessageSendRequest
    from .bindings.queue_batch import Message, MessageBatch, MessageBatchMetadata, QueueMetrics
    from .bindings.queue_consumer import Consumer
    from .bindings.queues import (
        PeekedMessage,
        PulledMessage,
        Queue,
        QueueAckResult,
    )
    from .bindings.r2 import R2Bucket
    from .bindings.r2_care import R2Check, R2Problem
    from .bindings.r2_conditions import R2Conditional
    from .bindings.r2_multipart import R2MultipartUpload
    from .bindings.r2_objects import R2Object, R2ObjectBody, R2Objects, R2UploadedPart
    from .bindings.r2_options import R2Checksums, R2HTTPMetadata, R2Limits, R2Range
    from .bindings.r2_writing import R2PutOptions
    from .bindings.rpc import RpcTarget
    from .bindings.websocket import WebSocket, WebSocketPair, WebSocketRequestResponsePair
    from .bindings.workflow_events import WorkflowInstanceSubscription
    from .bindings.workflow_steps import WorkflowStep
    from .bindings.workflow_streams import WorkflowStream
    from .bindings.workflow_types import (
        InstanceStatus,
        WorkflowBatchCreateResult,
        WorkflowBatchDeleteResult,
        WorkflowEvent,
        WorkflowInstanceEvent,
        WorkflowRollbackContext,
        WorkflowStepContext,
        WorkflowStepEvent,
    )
    from .bindings.workflows import (
        Workflow,
        WorkflowEntrypoint,
        WorkflowInstance,
    )
    from .store.archive import Backup
    from .store.changes import Change
    from .store.checks import Problem, StateCheck, StateRepair
    from .store.compare import Difference
    from .store.figures import Figures, StateInfo
    from .store.snapshots import Snapshot
    from .store.vacuum import Vacuumed
    from .web import Blob, File, FormData, Headers, Request, Response

__version__ = "0.1.0"

# A program pays for the systems that it uses: the names of the others are looked up here when they
# are asked for.
_LATER = {
    "AlarmInvocationInfo": "bindings.object_alarms",
    "Backup": "store.archive",
    "Blob": "web",
    "Cache": "bindings.cache",
    "CacheStorage": "bindings.cache",
    "Change": "store.changes",
    "Changes": "bindings.changes",
    "Consumer": "bindings.queue_consumer",
    "D1Database": "bindings.d1",
    "D1DatabaseSession": "bindings.d1",
    "D1ExecResult": "bindings.d1",
    "D1Meta": "bindings.d1",
    "D1PreparedStatement": "bindings.d1",
    "D1Result": "bindings.d1",
    "Difference": "store.compare",
    "DurableObject": "bindings.durable_objects",
    "DurableObjectId": "bindings.durable_objects",
    "DurableObjectNamespace": "bindings.durable_objects",
    "DurableObjectState": "bindings.object_state",
    "DurableObjectStorage": "bindings.object_storage",
    "DurableObjectStub": "bindings.durable_objects",
    "DurableObjectTransaction": "bindings.object_storage",
    "Figures": "store.figures",
    "File": "web",
    "FormData": "web",
    "Headers": "web",
    "InstanceStatus": "bindings.workflow_types",
    "Message": "bindings.queue_batch",
    "MessageBatch": "bindings.queue_batch",
    "MessageBatchMetadata": "bindings.queue_batch",
    "MessageSendRequest": "bindings.queue_arguments",
    "PeekedMessage": "bindings.queues",
    "Problem": "store.checks",
    "Pruned": "bindings.care_prune",
    "PulledMessage": "bindings.queues",
    "Queue": "bindings.queues",
    "QueueAckResult": "bindings.queues",
    "QueueMetrics": "bindings.queue_batch",
    "QueueSendMetadata": "bindings.queue_answers",
    "QueueSendResponse": "bindings.queue_answers",
    "R2Bucket": "bindings.r2",
    "R2Check": "bindings.r2_care",
    "R2Checksums": "bindings.r2_options",
    "R2Conditional": "bindings.r2_conditions",
    "R2HTTPMetadata": "bindings.r2_options",
    "R2Limits": "bindings.r2_options",
    "R2MultipartUpload": "bindings.r2_multipart",
    "R2Object": "bindings.r2_objects",
    "R2ObjectBody": "bindings.r2_objects",
    "R2Objects": "bindings.r2_objects",
    "R2Problem": "bindings.r2_care",
    "R2PutOptions": "bindings.r2_writing",
    "R2Range": "bindings.r2_options",
    "R2UploadedPart": "bindings.r2_objects",
    "Request": "web",
    "Response": "web",
    "RpcTarget": "bindings.rpc",
    "Snapshot": "store.snapshots",
    "SqlCursor": "bindings.object_sql",
    "SqlStorage": "bindings.object_sql",
    "StateCheck": "store.checks",
    "StateInfo": "store.figures",
    "StateRepair": "store.checks",
    "Vacuumed": "store.vacuum",
    "WebSocket": "bindings.websocket",
    "WebSocketPair": "bindings.websocket",
    "WebSocketRequestResponsePair": "bindings.websocket",
    "Workflow": "bindings.workflows",
    "WorkflowBatchCreateResult": "bindings.workflow_types",
    "WorkflowBatchDeleteResult": "bindings.workflow_types",
    "WorkflowEntrypoint": "bindings.workflows",
    "WorkflowEvent": "bindings.workflow_types",
    "WorkflowInstance": "bindings.workflows",
    "WorkflowInstanceEvent": "bindings.workflow_types",
    "WorkflowInstanceSubscription": "bindings.workflow_events",
    "WorkflowRollbackContext": "bindings.workflow_types",
    "WorkflowStep": "bindings.workflow_steps",
    "WorkflowStepContext": "bindings.workflow_types",
    "WorkflowStepEvent": "bindings.workflow_types",
    "WorkflowStream": "bindings.workflow_streams",
    "go_back": "bindings.care",
    "restore": "bindings.care",
}


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


__all__ = [
    "AlarmInvocationInfo",
    "Backup",
    "BackupError",
    "Blob",
    "BodyUsedError",
    "BunflareError",
    "Cache",
    "CacheError",
    "CacheStorage",
    "CacheTypeError",
    "CacheValueError",
    "Change",
    "Changes",
    "Clock",
    "ConfigError",
    "Consumer",
    "D1Database",
    "D1DatabaseSession",
    "D1Error",
    "D1ExecResult",
    "D1Meta",
    "D1PreparedStatement",
    "D1Result",
    "D1TypeError",
    "D1ValueError",
    "Database",
    "DatabaseBusy",
    "DatabaseCorrupt",
    "DatabaseError",
    "DatabaseFull",
    "DatabaseReadOnly",
    "Difference",
    "DirectoryError",
    "DurableObject",
    "DurableObjectAbort",
    "DurableObjectError",
    "DurableObjectId",
    "DurableObjectNamespace",
    "DurableObjectReset",
    "DurableObjectSqlError",
    "DurableObjectState",
    "DurableObjectStorage",
    "DurableObjectStub",
    "DurableObjectTransaction",
    "DurableObjectTypeError",
    "DurableObjectValueError",
    "FetchError",
    "FetchRangeError",
    "FetchSyntaxError",
    "FetchTypeError",
    "Figures",
    "File",
    "FormData",
    "FutureFormatError",
    "Headers",
    "InstanceStatus",
    "KVError",
    "KVKey",
    "KVLimits",
    "KVList",
    "KVNamespace",
    "KVTypeError",
    "KVValue",
    "KVValueError",
    "ManualClock",
    "Message",
    "MessageBatch",
    "MessageBatchMetadata",
    "MessageSendRequest",
    "NonRetryableError",
    "PeekedMessage",
    "Problem",
    "Pruned",
    "PulledMessage",
    "Queue",
    "QueueAckResult",
    "QueueError",
    "QueueMetrics",
    "QueueSendMetadata",
    "QueueSendResponse",
    "QueueTypeError",
    "QueueValueError",
    "R2Bucket",
    "R2Check",
    "R2Checksums",
    "R2Conditional",
    "R2Error",
    "R2HTTPMetadata",
    "R2Limits",
    "R2MultipartUpload",
    "R2Object",
    "R2ObjectBody",
    "R2Objects",
    "R2Problem",
    "R2PutOptions",
    "R2Range",
    "R2TypeError",
    "R2UploadedPart",
    "R2ValueError",
    "Request",
    "Response",
    "RpcTarget",
    "Snapshot",
    "SqlCursor",
    "SqlStorage",
    "State",
    "StateCheck",
    "StateError",
    "StateInfo",
    "StateRepair",
    "StateTransaction",
    "StoredError",
    "SystemClock",
    "Vacuumed",
    "ValueCorrupt",
    "ValueNotSerializable",
    "ValuesError",
    "WebSocket",
    "WebSocketPair",
    "WebSocketRequestResponsePair",
    "WorkerError",
    "Workflow",
    "WorkflowBatchCreateResult",
    "WorkflowBatchDeleteResult",
    "WorkflowChangedError",
    "WorkflowEntrypoint",
    "WorkflowError",
    "WorkflowEvent",
    "WorkflowFatalError",
    "WorkflowInstance",
    "WorkflowInstanceEvent",
    "WorkflowInstanceSubscription",
    "WorkflowRollbackContext",
    "WorkflowStep",
    "WorkflowStepContext",
    "WorkflowStepEvent",
    "WorkflowStream",
    "WorkflowTimeoutError",
    "WorkflowTypeError",
    "WorkflowValueError",
    "get_database",
    "go_back",
    "open",
    "restore",
]
