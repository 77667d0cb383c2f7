"""The client of the served models, over gRPC or REST. It needs neither TensorFlow nor the rest of this project.

with CourierClient("localhost:8500") as client:
    scores = client.rank("u1", history=["i1", "i2"], candidates=["i7", "i8", "i9"])
"""

from serving.client.aio import AsyncCourierClient
from serving.client.calls import Photos, Scores, Similar
from serving.client.client import CourierClient
from serving.client.connection import Connection, Tls
from serving.client.contract import RowStatus
from serving.client.hooks import Attempt, Hook, Traceparent
from serving.client.request_log import RequestLog
from serving.client.retries import Retries
from serving.client.transport import CallError

__all__ = [
    "AsyncCourierClient",
    "Attempt",
    "CallError",
    "Connection",
    "CourierClient",
    "Hook",
    "Photos",
    "RequestLog",
    "Retries",
    "RowStatus",
    "Scores",
    "Similar",
    "Tls",
    "Traceparent",
]
