"""A SavedModel of somebody else as a feature source."""

from pathlib import Path

import tensorflow as tf

from courier_tf.escaping import LONGEST_PATH, printable
from courier_tf.features.feature_error import FeatureError
from courier_tf.features.feature_source import FeatureSource, reason_of
from courier_tf.workdir.artefacts import fingerprint_of_tree
from courier_tf.workdir.provenance import fingerprint_of


class SavedModelSource(FeatureSource):
    """A SavedModel of somebody else, whose signature `serving_default` takes photos and gives vectors.

    Args:
        directory: of the SavedModel. Its signature takes one tensor [B, S, S, 3] of uint8 or float32 (0 to 255). It
            gives one float32 tensor [B, W]; of several the one called `features`, or `embedding`, counts.

    Raises:
        FeatureError: there is none, it cannot be loaded, or it takes or gives something else.
    """

    of_others = True

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.source, self.directory = directory, Path(directory)
        shown = f"features: the SavedModel {printable(directory, LONGEST_PATH)}"
        file = self.directory / "saved_model.pb"
        if not file.is_file():
            raise FeatureError(f"features: {directory} holds no SavedModel (saved_model.pb is missing)")
        try:
            python = _python_ops(file)
            self.loaded = tf.saved_model.load(directory)
        except Exception as error:  # Whatever TensorFlow makes of files that are cut, missing or something else.
            raise FeatureError(
                f"{shown} cannot be loaded ({reason_of(error)}): save it again, or copy it anew"
            ) from error
        if python:
            raise FeatureError(
                f"{shown} calls Python ({', '.join(python)}, of tf.py_function or tf.numpy_function), which is not "
                "saved with it, but stock TensorFlow ops are needed: write it with them, and save it again"
            )
        signature = getattr(self.loaded, "signatures", {}).get("serving_default")
        if signature is None:
            raise FeatureError(f"{shown} has no signature serving_default")
        inputs = signature.structured_input_signature[1]
        if len(inputs) != 1:
            raise FeatureError(f"{shown} takes {sorted(inputs)}, but one input is needed")
        ((self.input, spec),) = inputs.items()
        if spec.dtype not in (tf.uint8, tf.float32) or not _takes_photos(spec.shape):
            raise FeatureError(
                f"{shown} takes {spec.dtype.name} {spec.shape}, but uint8 or float32 [None, height, width, 3] is "
                "needed, with both sides fixed or none: save it with a signature that takes such photos"
            )
        self.dtype, self.size = spec.dtype, spec.shape[1:3]
        outputs = {n: t for n, t in signature.structured_outputs.items() if t.shape.rank == 2 and t.shape[1]}
        self.output = next((name for name in ("features", "embedding") if name in outputs), None) or (
            next(iter(outputs)) if len(outputs) == 1 else ""
        )
        if not self.output or outputs[self.output].dtype != tf.float32:
            raise FeatureError(
                f"{shown} gives {dict(signature.structured_outputs)}, but one float32 [None, width] is needed, called "
                "features where there are others"
            )
        self.width, self.signature = int(outputs[self.output].shape[1]), signature

    def vectors(self, photos: tf.Tensor) -> tf.Tensor:
        if self.size.is_fully_defined():
            resized = tf.image.resize(photos, self.size, method="area")
            photos = tf.cast(tf.round(resized), tf.uint8) if self.dtype == tf.uint8 else resized
        return self.signature(**{self.input: tf.cast(photos, self.dtype)})[self.output]

    def fingerprint(self) -> str:
        return fingerprint_of([self.source, fingerprint_of_tree(self.directory)])


def _takes_photos(shape: tf.TensorShape) -> bool:
    """Whether photos of any number fit a shape, and either of any size or of one."""
    if shape.rank != 4:
        return False
    rows, height, width, channels = shape
    return rows is None and (height is None) == (width is None) and channels in (3, None)


def _python_ops(file: Path) -> list[str]:
    """The ops of a `saved_model.pb` that call a function of the process which saved it."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graphs, nodes = SavedModel.FromString(file.read_bytes()).meta_graphs, set[str]()
    if not graphs:
        raise ValueError(f"{file.name} is empty")
    for graph in graphs:
        for part in (graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function)):
            nodes |= {node.op for node in part}
    return sorted(nodes & {"PyFunc", "PyFuncStateless", "EagerPyFunc"})
