"""Inputs of a wrong shape, as a server in C++ hands them to a graph: it compares none with the signature."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import CallableOptions

from courier_tf.exporting import registry
from serving.bundle.graph_model import GraphModel


def unchecked(model, signature):
    """A signature as a function of its inputs, without the comparison of shapes that Python's session makes."""
    definition = model.signatures[signature]
    names, outputs = sorted(definition.inputs), sorted(definition.outputs)
    options = CallableOptions(
        feed=[definition.inputs[name].name for name in names], fetch=[definition.outputs[name].name for name in outputs]
    )
    run = model.session._make_callable_from_options(options)
    return lambda inputs: dict(zip(outputs, run(*(inputs[name] for name in names)), strict=True))


@pytest.mark.parametrize("served", registry.SERVED_MODELS, ids=lambda served: served.name)
@pytest.mark.slow
def test_each_input_of_another_rank_or_width_is_refused(shop, served):
    model = GraphModel(shop.workdir / "models" / served.name / "1")
    first = {request.signature: request for request in reversed(served.requests(shop.stages))}
    assert set(first) == set(served.signatures)
    for signature, request in first.items():
        run = unchecked(model, signature)
        assert len(next(iter(run(request.inputs).values()))) == len(next(iter(request.inputs.values())))
        for name, value in request.inputs.items():
            wrong = [value[..., None], value.ravel()[0]]
            width = model.signatures[signature].inputs[name].tensor_shape.dim[-1].size
            wrong += [value[:, :-1], np.concatenate([value, value], axis=1)] if width > 0 else []
            for other in wrong:
                with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
                    run({**request.inputs, name: np.asarray(other)})
