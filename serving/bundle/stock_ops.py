"""Checks that a stock server knows every op of a SavedModel, in a process that has loaded nothing but TensorFlow."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOREIGN = ("scann", "tensorflow_io", "tensorflow_text", "tensorflow_addons")  # Packages that register ops.


class StockOpsError(ValueError):
    """A SavedModel holds ops that stock TensorFlow lacks."""


def require_stock_ops(saved_models: Sequence[Path]) -> None:
    """Loads each SavedModel into a session, in a new process.

    Raises:
        StockOpsError: an op is not registered there, which the message names; or a file cannot be read.
    """
    run = subprocess.run(
        [sys.executable, "-m", "serving.bundle.stock_ops", *(str(path.resolve()) for path in saved_models)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        lines = run.stderr.strip().splitlines()
        raise StockOpsError(lines[-1] if lines else f"the check of the ops ended with code {run.returncode}")


def foreign_ops(saved_model: Path) -> set[str]:
    """The ops of a SavedModel that this process does not know."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    from tensorflow.python.framework import op_def_registry

    content = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    ops: set[str] = set()
    for graph in content.meta_graphs:
        functions = graph.graph_def.library.function
        ops |= {node.op for node in graph.graph_def.node}
        ops |= {node.op for function in functions for node in function.node_def}
        ops -= {function.signature.name for function in functions}
    return {op for op in ops if op_def_registry.get(op) is None}


def _main(saved_models: Sequence[str]) -> None:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    for saved_model in map(Path, saved_models):
        try:
            foreign = foreign_ops(saved_model)
            if foreign:
                sys.exit(f"{saved_model} holds ops that stock TensorFlow lacks: {', '.join(sorted(foreign))}")
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                tf.compat.v1.saved_model.loader.load(session, ["serve"], str(saved_model))
        except (DecodeError, OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            sys.exit(f"{saved_model} cannot be loaded: {' '.join(str(error).split())}")
    loaded = sorted(set(FOREIGN) & set(sys.modules))
    if loaded:
        sys.exit(f"this process has loaded {', '.join(loaded)}: it cannot tell what is stock")


if __name__ == "__main__":
    _main(sys.argv[1:])
