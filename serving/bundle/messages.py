"""Translates arrays to the messages of TensorFlow Serving and back."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse


class MessageError(ValueError):
    """A message or a JSON text does not hold the arrays that it should; the text names the field."""


def model_spec(model: str, signature: str = "", *, version: int | None = None, label: str | None = None) -> ModelSpec:
    """Names a model, a signature, and a version by its number or its label.

    >>> model_spec("ctr_ranker", "rank", label="stable").version_label
    'stable'
    """
    spec = ModelSpec(name=model, signature_name=signature)
    if version is not None:
        spec.version.value = version
    elif label is not None:
        spec.version_label = label
    return spec


def predict_request(spec: ModelSpec, inputs: Mapping[str, np.ndarray]) -> PredictRequest:
    """Makes a request with these arrays. Strings are arrays of bytes objects."""
    request = PredictRequest(model_spec=spec)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def inputs_of(request: PredictRequest) -> dict[str, np.ndarray]:
    """Reads the arrays of a request, by the name of the input.

    Raises:
        MessageError: an input is no tensor.
    """
    return {name: _array(f"input '{name}'", proto) for name, proto in request.inputs.items()}


def outputs_of(response: PredictResponse) -> dict[str, np.ndarray]:
    """Reads the arrays of a response, by the name of the output.

    Raises:
        MessageError: an output is no tensor.
    """
    return {name: _array(f"output '{name}'", proto) for name, proto in response.outputs.items()}


def serialised_examples(content: Input) -> np.ndarray:
    """Reads the [B] serialised examples of a request to classify or regress, with its context merged into each.

    Raises:
        MessageError: there are none.
    """
    if content.WhichOneof("kind") == "example_list_with_context":
        examples = []
        for example in content.example_list_with_context.examples:
            whole = type(example)()
            whole.CopyFrom(content.example_list_with_context.context)
            for name, feature in example.features.feature.items():
                whole.features.feature[name].CopyFrom(feature)
            examples.append(whole)
    else:
        examples = content.example_list.examples
    if not examples:
        raise MessageError("the request holds no example")
    return np.array([example.SerializeToString() for example in examples], object)


def _array(name: str, proto: TensorProto) -> np.ndarray:
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise MessageError(f"{name} is not a tensor: {error}") from error
