"""Runs one request: what the gRPC and the REST API of the local server share."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.client.contract import DEFAULT_SIGNATURE
from serving.local.loaded import AnswerError, LoadedModels, LoadedVersion
from serving.local.metrics import RUNTIME_LATENCY
from serving.local.tensors import to_array

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def answer(
    models: LoadedModels,
    spec: ModelSpec,
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str] = (),
    timeout_seconds: float | None = None,
) -> tuple[ModelSpec, dict[str, np.ndarray]]:
    """Runs one request to Predict, which takes every signature.

    Args:
        models: the loaded models.
        spec: the model, version and signature that the request names.
        inputs: arrays by name.
        outputs: names of the outputs to return; none for all.
        timeout_seconds: how long the client waits for an answer.

    Returns:
        (spec with version and signature, arrays by output name).

    Raises:
        AnswerError: with the code that TensorFlow Serving gives.
    """
    version, model = models.find(spec)
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        message = f"Serving signature key {name!r} not found; there are {sorted(model.signatures)}"
        raise AnswerError(grpc.StatusCode.FAILED_PRECONDITION, message)
    signature = model.signatures[name]
    given = check(signature, inputs, outputs)
    check_rows(given, model.most_rows)
    with models.metrics.timed(RUNTIME_LATENCY, spec.name, "Predict", "TF1"):
        return used_spec(spec, version), run(model, name, given, outputs, timeout_seconds)


def used_spec(spec: ModelSpec, version: int) -> ModelSpec:
    """The model, signature and version that have answered."""
    used = ModelSpec(name=spec.name, signature_name=spec.signature_name or DEFAULT_SIGNATURE)
    used.version.value = version
    return used


def run(
    model: LoadedVersion,
    signature: str,
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str] = (),
    timeout_seconds: float | None = None,
) -> dict[str, np.ndarray]:
    """Runs a signature with inputs that fit it.

    Raises:
        AnswerError: with the code that the graph gives.
    """
    if timeout_seconds is not None and timeout_seconds <= 0:
        raise AnswerError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
    try:
        answers = model.run(signature, inputs, outputs, timeout_seconds)
        # A session gives a scalar of bytes as bytes.
        return {
            name: np.asarray(value, object if isinstance(value, bytes) else None) for name, value in answers.items()
        }
    except tf.errors.OpError as error:
        raise AnswerError(_CODES[error.error_code], error.message) from error
    except UnicodeDecodeError as error:
        # The message of TensorFlow quotes the request. Its bytes are no text, and Python cannot raise it.
        message = error.object.decode(errors="replace") if isinstance(error.object, bytes) else str(error)
        raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, message) from error
    except MemoryError as error:
        raise AnswerError(grpc.StatusCode.RESOURCE_EXHAUSTED, "the request needs more memory than there is") from error


def check(
    signature: SignatureDef, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """Refuses arrays that do not fit a signature, and adds its defaults for those that were not sent.

    Raises:
        AnswerError: with the code INVALID_ARGUMENT; the message names the input or output.
    """
    missing = sorted(set(signature.inputs) - set(inputs) - set(signature.defaults))
    extra = sorted(set(inputs) - set(signature.inputs))
    if missing or extra:
        refuse(f"input size does not match signature: missing {missing}, sent extra {extra}")
    unknown = sorted(set(outputs) - set(signature.outputs))
    if unknown:
        refuse(f"output tensor alias not found in signature: {unknown}; there are {sorted(signature.outputs)}")
    if len(set(outputs)) < len(outputs):
        refuse(f"duplicate output tensor alias: each may be named once, but are {sorted(outputs)}")
    for name, value in inputs.items():
        info = signature.inputs[name]
        dtype = tf.dtypes.as_dtype(info.dtype)
        sent = tf.string if value.dtype == object else tf.dtypes.as_dtype(value.dtype)
        if sent != dtype:
            refuse(f"input {name!r} must be {dtype.name}, but is {sent.name}")
        shape = tf.TensorShape(info.tensor_shape)
        if not shape.is_compatible_with(value.shape):
            refuse(f"input {name!r} must have the shape {shape}, but has {value.shape}")
    left = set(signature.inputs) - set(inputs)
    return {**inputs, **{name: to_array(f"the default of {name!r}", signature.defaults[name]) for name in left}}


def check_rows(inputs: Mapping[str, np.ndarray], most_rows: int | None) -> None:
    """Refuses what cannot be joined with other requests, where requests to a version are joined.

    Args:
        inputs: arrays by name.
        most_rows: the most rows in one request; None where requests are not joined.

    Raises:
        AnswerError: with the code INVALID_ARGUMENT.
    """
    if most_rows is None:
        return
    rows = {value.shape[0] if value.shape else None for value in inputs.values()}
    if len(rows) != 1 or None in rows:
        refuse(f"requests are joined: all inputs must have the same number of rows, but have {rows}")
    (size,) = rows
    if size is not None and size > most_rows:
        refuse(f"Task size {size} is larger than maximum input batch size {most_rows}")


def refuse(message: str) -> NoReturn:
    """Ends a request that is wrong.

    Raises:
        AnswerError: always, with the code INVALID_ARGUMENT.
    """
    raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, message)
