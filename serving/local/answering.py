"""Runs one request: what the gRPC and the REST API of the local server share."""

from collections.abc import Mapping, Sequence

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.bundle.graph_model import METHOD_NAMES, Method
from serving.client.contract import DEFAULT_SIGNATURE
from serving.local.loaded import AnswerError, LoadedModels

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def answer(
    models: LoadedModels,
    spec: ModelSpec,
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str] = (),
    timeout_seconds: float | None = None,
    method: Method | None = None,
) -> tuple[ModelSpec, dict[str, np.ndarray]]:
    """Runs one request.

    Args:
        models: the loaded models.
        spec: the model, version and signature that the request names.
        inputs: arrays by name.
        outputs: names of the outputs to return; none for all.
        timeout_seconds: how long the client waits for an answer.
        method: the API that the signature must be for; None for Predict, which takes every signature.

    Returns:
        (spec with version and signature, arrays by output name).

    Raises:
        AnswerError: with the code that TensorFlow Serving gives.
    """
    version, model = models.find(spec)
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        # Predict of TensorFlow Serving and its other APIs have different codes for this.
        code = grpc.StatusCode.INVALID_ARGUMENT if method else grpc.StatusCode.FAILED_PRECONDITION
        raise AnswerError(code, f"Serving signature key {name!r} not found; there are {sorted(model.signatures)}")
    signature = model.signatures[name]
    if method and signature.method_name != METHOD_NAMES[method]:
        message = f"signature {name!r} is for {signature.method_name}, not for {METHOD_NAMES[method]}"
        raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, message)
    check(signature, inputs, outputs)
    if timeout_seconds is not None and timeout_seconds <= 0:
        raise AnswerError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
    try:
        answers = model.run(name, inputs, outputs, timeout_seconds)
    except tf.errors.OpError as error:
        raise AnswerError(_CODES[error.error_code], error.message) from error
    except UnicodeDecodeError as error:
        # The message of TensorFlow quotes the request. Its bytes are no text, and Python cannot raise it.
        message = error.object.decode(errors="replace") if isinstance(error.object, bytes) else str(error)
        raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, message) from error
    except MemoryError as error:
        raise AnswerError(grpc.StatusCode.RESOURCE_EXHAUSTED, "the request needs more memory than there is") from error
    used = ModelSpec(name=spec.name, signature_name=name)
    used.version.value = version
    return used, answers


def check(signature: SignatureDef, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> None:
    """Refuses arrays that do not fit a signature.

    Raises:
        AnswerError: with the code INVALID_ARGUMENT; the message names the input or output.
    """
    missing, extra = sorted(set(signature.inputs) - set(inputs)), sorted(set(inputs) - set(signature.inputs))
    if missing or extra:
        _refuse(f"input size does not match signature: missing {missing}, sent extra {extra}")
    unknown = sorted(set(outputs) - set(signature.outputs))
    if unknown:
        _refuse(f"output tensor alias not found in signature: {unknown}; there are {sorted(signature.outputs)}")
    for name, value in inputs.items():
        info = signature.inputs[name]
        dtype = tf.dtypes.as_dtype(info.dtype)
        sent = tf.string if value.dtype.kind in "OSU" else tf.dtypes.as_dtype(value.dtype)
        if sent != dtype:
            _refuse(f"input {name!r} must be {dtype.name}, but is {sent.name}")
        shape = tf.TensorShape(info.tensor_shape)
        if not shape.is_compatible_with(value.shape):
            _refuse(f"input {name!r} must have the shape {shape}, but has {value.shape}")


def _refuse(message: str) -> None:
    raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, message)
