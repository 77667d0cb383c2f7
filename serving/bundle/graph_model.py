"""Runs a SavedModel the way a C++ server does: graph and session, none of the Python objects that made it."""

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
    """A SavedModel loaded into a session. May be called from several threads.

    Args:
        directory: of one version.
        signature: that a call means.

    Attributes:
        signatures: name -> SignatureDef.
    """

    def __init__(self, directory: Path, signature: str = "serving_default") -> None:
        self.graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=self.graph)
        with self.graph.as_default():
            meta = tf.compat.v1.saved_model.loader.load(self.session, ["serve"], str(directory))
        # The initialiser of the tables is a signature, too, but none to be called.
        self.signatures = {
            name: definition for name, definition in meta.signature_def.items() if not name.startswith("__")
        }
        self.signature = signature

    def __call__(self, **values: np.ndarray) -> dict[str, np.ndarray]:
        """Feeds arrays by input name; returns arrays by output name."""
        return self.run(self.signature, values)

    def run(
        self,
        signature: str,
        values: Mapping[str, np.ndarray],
        outputs: Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Calls a signature.

        Args:
            signature: its name.
            values: arrays by input name.
            outputs: names of the outputs to compute; none for all.
            timeout_seconds: until which the call is given up.

        Returns:
            Arrays by output name.

        Raises:
            tf.errors.OpError: what the graph has to say against the values; DeadlineExceededError after the timeout.
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
