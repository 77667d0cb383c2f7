"""Runs a SavedModel as a C++ server does: by graph and session, without the Python objects that made it."""

import threading
import time
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
        self._made: set[tuple[str, frozenset[str], frozenset[str]]] = set()
        self._making = threading.Lock()

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
        kind = signature, frozenset(feeds), frozenset(fetches)
        if kind in self._made:
            return self._run(fetches, feeds, timeout_seconds)
        # A session prepares its graph for each new pair of feeds and fetches. Asked by many threads at once, it would
        # do so once for each of them, for half a minute.
        began = time.monotonic()
        if not self._making.acquire(
            timeout=-1 if timeout_seconds is None else min(timeout_seconds, threading.TIMEOUT_MAX)
        ):
            raise tf.errors.DeadlineExceededError(None, None, "the signature is still being prepared")
        try:
            if kind not in self._made:
                answer = self._run(fetches, feeds, _left(timeout_seconds, began))
                self._made.add(kind)
                return answer
        finally:
            self._making.release()
        return self._run(fetches, feeds, _left(timeout_seconds, began))

    def _run(
        self, fetches: dict[str, str], feeds: dict[str, np.ndarray], timeout_seconds: float | None
    ) -> dict[str, np.ndarray]:
        options = None
        if timeout_seconds is not None:
            milliseconds = int(min(max(1, 1000 * timeout_seconds), LONGEST_TIMEOUT))
            options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
        return self.session.run(fetches, feeds, options=options)


def _left(timeout_seconds: float | None, began: float) -> float | None:
    """What is left of a timeout since `began`, by the clock of `time.monotonic`."""
    return None if timeout_seconds is None else timeout_seconds - (time.monotonic() - began)
