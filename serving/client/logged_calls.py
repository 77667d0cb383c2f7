"""A logged request with its answer, as it is read and written: TensorFlow Serving's PredictionLog, and more."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import grpc
import numpy as np

from serving.client.contract import DEFAULT_SIGNATURE, Request
from serving.client.messages_pb2 import (
    LoggedCall,
    ModelSpec,
    PredictionLog,
    PredictLog,
    PredictRequest,
    PredictResponse,
)
from serving.client.tensors import to_arrays, to_protos

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class Logged(NamedTuple):
    """A request to a model, and the answer to it.

    Attributes:
        model: name of the model.
        request: signature and inputs.
        outputs: the answer; empty where the call failed.
        label: the label that was asked for; None where it was none.
        version: the version that has answered; None where the call failed or the answer does not say it.
        code: how the call ended: OK, or the name of a gRPC code.
        seconds: from the first attempt to the answer; None in a log of an earlier version, as the next two are.
        unix_seconds: when the answer came.
        request_id: the ID of the call. The parts of a large call share it.
    """

    model: str
    request: Request
    outputs: dict[str, np.ndarray]
    label: str | None = None
    version: int | None = None
    code: str = "OK"
    seconds: float | None = None
    unix_seconds: float | None = None
    request_id: str | None = None


class CallFacts(NamedTuple):
    """What a log keeps of a call beside its arrays; the attributes are those of `Logged`."""

    label: str | None = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    seconds: float = 0.0
    request_id: str = ""


def serialised(
    model: str,
    signature: str,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    facts: CallFacts,
) -> bytes:
    """The record of a request and its answer.

    Raises:
        TensorError: an array is no tensor.
    """
    spec = ModelSpec(name=model, signature_name=signature, version_label=facts.label)
    request = PredictRequest(model_spec=spec, inputs=to_protos(inputs, "input"))
    response = PredictResponse(outputs=to_protos(outputs, "output"))
    call = LoggedCall(request_id=facts.request_id, code=facts.code.value[0], seconds=facts.seconds)
    call.unix_seconds = time.time()
    log = PredictionLog(predict_log=PredictLog(request=request, response=response), call=call)
    return log.SerializeToString()


def logged_in(log: PredictionLog) -> Logged:
    """The request that a record holds, and its answer.

    Raises:
        TensorError: a message is no tensor.
    """
    spec = log.predict_log.request.model_spec
    request = Request(spec.signature_name or DEFAULT_SIGNATURE, to_arrays(log.predict_log.request.inputs, "input"))
    outputs = to_arrays(log.predict_log.response.outputs, "output")
    version = outputs.get("model_version", np.zeros(0))
    answered = Logged(
        spec.name,
        request,
        outputs,
        label=spec.version_label or None,
        version=int(version.ravel()[0]) if version.size else None,
    )
    if not log.HasField("call"):
        return answered
    return answered._replace(
        code=_CODES.get(log.call.code, grpc.StatusCode.UNKNOWN).name,
        seconds=log.call.seconds,
        unix_seconds=log.call.unix_seconds,
        request_id=log.call.request_id,
    )
