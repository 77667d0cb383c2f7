"""Runs a SavedModel the way a C++ server does: graph and session, none of the Python objects that made it."""

from pathlib import Path

import numpy as np
import tensorflow as tf


class GraphModel:
    """A SavedModel loaded into a session.

    Args:
        directory: of one version.
        signature: to call.
    """

    def __init__(self, directory: Path, signature: str = "serving_default") -> None:
        self.graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=self.graph)
        with self.graph.as_default():
            meta = tf.compat.v1.saved_model.loader.load(self.session, ["serve"], str(directory))
        self.inputs = {name: info.name for name, info in meta.signature_def[signature].inputs.items()}
        self.outputs = {name: info.name for name, info in meta.signature_def[signature].outputs.items()}

    def __call__(self, **values: np.ndarray) -> dict[str, np.ndarray]:
        """Feeds arrays by input name; returns arrays by output name."""
        return self.session.run(self.outputs, {self.inputs[name]: value for name, value in values.items()})
