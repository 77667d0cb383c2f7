"""Writes new versions of served models, next to those that a server may be serving."""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import tensorflow as tf

from courier_tf import schema
from courier_tf.pretrain.frozen_encoder import save_module
from courier_tf.workdir import artefacts, atomic
from serving.bundle import batching, warmup
from serving.bundle.graph_model import GraphModel
from serving.bundle.messages import Request
from serving.bundle.stock_ops import require_stock_ops
from serving.bundle.warmup import WarmUpError

LOCK_FILE = ".export.lock"
WARM_UP_LOG = "warm_up_log"  # Input of a version that warms up with logged requests.

#: Signatures that TF Serving offers by another method than Predict.
_METHODS = {schema.CLASSIFY: "tensorflow/serving/classify", schema.REGRESS: "tensorflow/serving/regress"}


class Served(Protocol):
    """A module that can be served."""

    @property
    def signatures(self) -> Mapping[str, tf.types.experimental.GenericFunction]:
        """By name."""


@dataclasses.dataclass(frozen=True)
class NewVersion:
    """A version to be written.

    Attributes:
        model: its name.
        made_by: what determines it.
        build: version number -> the module.
        requests: () -> real requests for the warm-up.
        stock: it holds ops of stock TensorFlow alone, as every server that is not built otherwise needs.
    """

    model: str
    made_by: artefacts.MadeBy
    build: Callable[[int], Served]
    requests: Callable[[], Sequence[Request]]
    stock: bool = True


def newest_version(model: Path) -> Path | None:
    """The directory of the highest version of a model, None if there is none."""
    versions = [path for path in model.glob("*") if path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name), default=None)


def newest_versions(models: Path) -> dict[str, int]:
    """Model -> its highest version, of the models that have one."""
    newest = {model: newest_version(models / model) for model in schema.SERVED_MODELS}
    return {model: int(path.name) for model, path in newest.items() if path}


@contextlib.contextmanager
def exclusive(models: Path) -> Iterator[None]:
    """One export at a time; another waits."""
    waiting = f"[export] another export into {models} is running: waiting for it"
    with atomic.exclusive(models / LOCK_FILE, waiting):
        yield


def write_versions(models: Path, versions: Sequence[NewVersion]) -> list[Path]:
    """Writes new versions; call it inside `exclusive`. All of them appear, or after an error none.

    Args:
        models: directory of all models.
        versions: to write.

    Returns:
        Their directories.

    Raises:
        StockOpsError: a SavedModel holds an op that stock TensorFlow lacks.
        WarmUpError: there are no requests to warm up with, or logged ones that the model does not take.
        OSError: the disk is full, or the like.
    """
    targets = [models / version.model / str(_next(models / version.model)) for version in versions]
    partials: list[Path] = []
    try:
        for version, target in zip(versions, targets, strict=True):
            with artefacts.sealed(target, version.made_by) as (partial, facts):
                partials.append(partial)
                served = version.build(int(target.name))
                save_module(served, served.signatures, partial)
                _name_methods(partial)
                batching.write_parameters(partial, version.model)
                facts["version"] = int(target.name)
                facts["warm_up_requests"] = warmup.write(partial, version.model, version.requests())
                if WARM_UP_LOG in version.made_by.inputs:
                    _replay(partial, version.model)
        require_stock_ops([path for path, one in zip(partials, versions, strict=True) if one.stock])
        atomic.rename_together(list(zip(partials, targets, strict=True)))
    except BaseException:
        # On a full disk what is left behind would be in the way of the next attempt.
        for partial in partials:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return targets


def _replay(directory: Path, model: str) -> None:
    try:
        warmup.replay(directory, GraphModel(directory))
    except WarmUpError as error:
        raise WarmUpError(f"{model} does not take what the request log holds: {error}") from error


def _next(model: Path) -> int:
    newest = newest_version(model)
    return int(newest.name) + 1 if newest else 1


def _name_methods(saved_model: Path) -> None:
    """TensorFlow 2 writes every signature as one for Predict; the other APIs look at the name of the method."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = saved_model / "saved_model.pb"
    content = SavedModel.FromString(file.read_bytes())
    for graph in content.meta_graphs:
        for name, method in _METHODS.items():
            if name in graph.signature_def:
                graph.signature_def[name].method_name = method
    file.write_bytes(content.SerializeToString(deterministic=True))
