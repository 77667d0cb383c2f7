"""Runs a SavedModel as a C++ server does: by graph and session, without the Python objects that made it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

#: The APIs of TensorFlow Serving, and the name by which the signature of a SavedModel says which one it is for.
Method = Literal["predict", "classify", "regress"]
METHOD_NAMES: Mapping[Method, str] = {
    "predict": "tensorflow/serving/predict",
    "classify": "tensorflow/serving/classify",
    "regress": "tensorflow/serving/regress",
}
LONGEST_TIMEOUT = 2**31 - 1  # Milliseconds. gRPC says "no deadline" with a time beyond what the field holds.


class GraphModel:
    """A SavedModel loaded into a session. Several threads may call it.

    Args:
        directory: directory of one version.
        signature: name of the signature that `__call__` runs.

    Attributes:
        definitions: name -> SignatureDef, as the file has them.
        signatures: those that can be called.
    """

    def __init__(self, directory: Path, signature: str = "serving_default") -> None:
        self.graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=self.graph)
        with self.graph.as_default():
            meta = tf.compat.v1.saved_model.loader.load(self.session, ["serve"], str(directory))
        self.definitions = dict(meta.signature_def)
        # The initialiser of the tables is also a signature, but none to be called.
        self.signatures = {
            name: definition for name, definition in self.definitions.items() if not name.startswith("__")
        }
        self.signature = signature

    def __call__(self, **values: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the signature of the constructor: arrays by input name to arrays by output name."""
        return self.run(self.signature, values)

    def run(
        self,
        signature: str,
        values: Mapping[str, np.ndarray],
        outputs: Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: name of the signature.
            values: arrays by input name.
            outputs: names of the outputs to compute; none for all.
            timeout_seconds: time after which the call is given up.

        Returns:
            Arrays by output name.

        Raises:
            tf.errors.OpError: the graph refuses the values; DeadlineExceededError after the timeout.
            KeyError: there is no such signature.
            ValueError: a value has the name of no input, or does not fit the shape of its input.
        """
        definition = self.signatures[signature]
        unknown = sorted(set(values) - set(definition.inputs))
        if unknown:
            raise ValueError(f"the signature '{signature}' has no input {unknown}")
        fetches = {name: info.name for name, info in definition.outputs.items() if not outputs or name in outputs}
        feeds = {definition.inputs[name].name: value for name, value in values.items()}
        options = None
        if timeout_seconds is not None:
            milliseconds = int(min(max(1, 1000 * timeout_seconds), LONGEST_TIMEOUT))
            options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
        return self.session.run(fetches, feeds, options=options)
