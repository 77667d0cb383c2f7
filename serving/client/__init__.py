"""The client of the served models, over gRPC or REST. It needs neither TensorFlow nor the rest of this project.

with CourierClient("localhost:8500") as client:
    scores = client.rank("u1", history=["i1", "i2"], candidates=["i7", "i8", "i9"])
"""

from serving.client.client import CourierClient, Photos, Retries, Scores, Similar
from serving.client.contract import RowStatus
from serving.client.request_log import RequestLog
from serving.client.transport import CallError

__all__ = ["CallError", "CourierClient", "Photos", "RequestLog", "Retries", "RowStatus", "Scores", "Similar"]
