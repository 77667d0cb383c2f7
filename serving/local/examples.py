"""Classify, Regress and MultiInference: signatures of serialised examples, whose outputs have names of their own."""

from collections.abc import Mapping
from typing import NamedTuple

import grpc
import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.classification_pb2 import ClassificationResult
from tensorflow_serving.apis.inference_pb2 import InferenceTask, MultiInferenceRequest, MultiInferenceResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.regression_pb2 import RegressionResult

from serving.bundle.graph_model import METHOD_NAMES
from serving.bundle.messages import serialised_examples
from serving.client.contract import DEFAULT_SIGNATURE
from serving.local.answering import check, check_rows, refuse, run, used_spec
from serving.local.loaded import AnswerError, LoadedModels, LoadedVersion
from serving.local.metrics import RUNTIME_LATENCY

INPUT, CLASSES, SCORES, VALUES = "inputs", "classes", "scores", "outputs"  # Names that TensorFlow Serving looks for.


class Classified(NamedTuple):
    """The classes of [B] examples. A signature has one of these outputs or both."""

    classes: np.ndarray | None  # [B, C] bytes.
    scores: np.ndarray | None  # [B, C] float32.


def classify(
    models: LoadedModels, spec: ModelSpec, examples: np.ndarray, timeout_seconds: float | None
) -> tuple[ModelSpec, Classified]:
    """Runs a request to classify [B] serialised examples.

    Raises:
        AnswerError: with the code that TensorFlow Serving gives.
    """
    version, model = models.find(spec)
    with models.metrics.timed(RUNTIME_LATENCY, spec.name, "Classify", "TF1"):
        classified = _classified(model, spec.signature_name, examples, timeout_seconds)
    models.metrics.count_examples(spec.name, len(examples))
    return used_spec(spec, version), classified


def regress(
    models: LoadedModels, spec: ModelSpec, examples: np.ndarray, timeout_seconds: float | None
) -> tuple[ModelSpec, np.ndarray]:
    """As `classify`, for a request to regress; the values are [B]."""
    version, model = models.find(spec)
    with models.metrics.timed(RUNTIME_LATENCY, spec.name, "Regress", "TF1"):
        values = _regressed(model, spec.signature_name, examples, timeout_seconds)
    models.metrics.count_examples(spec.name, len(examples))
    return used_spec(spec, version), values


def infer(
    models: LoadedModels, request: MultiInferenceRequest, timeout_seconds: float | None
) -> MultiInferenceResponse:
    """Runs several signatures of one model on the same examples.

    Raises:
        AnswerError: with the code that TensorFlow Serving gives.
        MessageError: there are no examples.
    """
    version, model = models.find(request.tasks[0].model_spec if request.tasks else ModelSpec())
    _check_tasks(model, request)
    examples = serialised_examples(request.input)
    response = MultiInferenceResponse()
    for task in request.tasks:
        result = response.results.add(model_spec=used_spec(task.model_spec, version))
        name = task.model_spec.signature_name
        if task.method_name == METHOD_NAMES["classify"]:
            result.classification_result.CopyFrom(
                classification_of(_classified(model, name, examples, timeout_seconds))
            )
        else:
            result.regression_result.CopyFrom(regression_of(_regressed(model, name, examples, timeout_seconds)))
    models.metrics.count_examples(request.tasks[0].model_spec.name, len(examples))
    return response


def classification_of(classified: Classified) -> ClassificationResult:
    """Writes classes and scores as a message."""
    result = ClassificationResult()
    (rows, columns) = next(part.shape for part in classified if part is not None)
    for row in range(rows):
        classes = result.classifications.add().classes
        for column in range(columns):
            entry = classes.add()
            if classified.classes is not None:
                entry.label = classified.classes[row, column].decode(errors="replace")
            if classified.scores is not None:
                entry.score = classified.scores[row, column]
    return result


def regression_of(values: np.ndarray) -> RegressionResult:
    """Writes [B] values as a message."""
    result = RegressionResult()
    for value in values.tolist():
        result.regressions.add(value=value)
    return result


def _check_tasks(model: LoadedVersion, request: MultiInferenceRequest) -> None:
    """All of one model, each signature once, each to classify or to regress."""
    names = [task.model_spec.signature_name or DEFAULT_SIGNATURE for task in request.tasks]
    if {task.model_spec.name for task in request.tasks} != {request.tasks[0].model_spec.name}:
        refuse("all tasks of a request must name the same model")
    if len(set(names)) < len(names):
        refuse(f"the tasks of a request must have different signatures, but have {names}")
    for task, name in zip(request.tasks, names, strict=True):
        _check_method(task, _signature(model, name))


def _check_method(task: InferenceTask, signature: SignatureDef) -> None:
    if task.method_name == METHOD_NAMES["classify"]:
        _classification_outputs(signature)
    elif task.method_name == METHOD_NAMES["regress"]:
        _regression_output(signature)
    else:
        raise AnswerError(grpc.StatusCode.UNIMPLEMENTED, f"a task cannot have the method {task.method_name!r}")


def _classified(model: LoadedVersion, name: str, examples: np.ndarray, timeout_seconds: float | None) -> Classified:
    outputs = _classification_outputs(_signature(model, name))
    answers = _run(model, name, examples, outputs, timeout_seconds)
    for output, value in answers.items():
        kind = object if output == CLASSES else np.float32
        if value.ndim != 2 or len(value) != len(examples) or value.dtype != kind:
            refuse(f"output {output!r} must be [B, C] {kind.__name__}, but is {value.shape} {value.dtype}")
    if len({value.shape for value in answers.values()}) > 1:
        refuse("classes and scores must have the same shape")
    return Classified(answers.get(CLASSES), answers.get(SCORES))


def _regressed(model: LoadedVersion, name: str, examples: np.ndarray, timeout_seconds: float | None) -> np.ndarray:
    output = _regression_output(_signature(model, name))
    value = _run(model, name, examples, [output], timeout_seconds)[output]
    if value.shape not in ((len(examples),), (len(examples), 1)) or value.dtype != np.float32:
        refuse(f"output {output!r} must be [B] or [B, 1] float32, but is {value.shape} {value.dtype}")
    return value.ravel()


def _signature(model: LoadedVersion, name: str) -> SignatureDef:
    name = name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        refuse(f"No signature was found with the name {name!r}; there are {sorted(model.signatures)}")
    return model.signatures[name]


def _classification_outputs(signature: SignatureDef) -> list[str]:
    """The outputs to compute. What a signature is for shows in their names alone, as in TensorFlow Serving."""
    _check_input(signature)
    outputs = [name for name in (CLASSES, SCORES) if name in signature.outputs]
    if not outputs or len(signature.outputs) > 2:
        refuse(f"to classify, a signature must have {CLASSES!r} or {SCORES!r}, but has {sorted(signature.outputs)}")
    return outputs


def _regression_output(signature: SignatureDef) -> str:
    _check_input(signature)
    if list(signature.outputs) != [VALUES]:
        refuse(f"to regress, a signature must have the one output {VALUES!r}, but has {sorted(signature.outputs)}")
    return VALUES


def _check_input(signature: SignatureDef) -> None:
    if list(signature.inputs) != [INPUT]:
        refuse(f"a signature of examples must have the one input {INPUT!r}, but has {sorted(signature.inputs)}")


def _run(
    model: LoadedVersion, name: str, examples: np.ndarray, outputs: list[str], timeout_seconds: float | None
) -> Mapping[str, np.ndarray]:
    name = name or DEFAULT_SIGNATURE
    given = check(model.signatures[name], {INPUT: examples}, outputs)
    check_rows(given, model.most_rows)
    return run(model, name, given, outputs, timeout_seconds)
