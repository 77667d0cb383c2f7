"""Writes new versions of served models, next to those that a server may be serving."""

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.served_model import ServedModel
from courier_tf.exporting.warm_up_requests import with_logged
from courier_tf.pretrain.frozen_encoder import save_module
from courier_tf.workdir import artefacts, atomic
from courier_tf.workdir.artefacts import ArtefactError
from courier_tf.workdir.facts import VersionFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import EXPORT
from serving.bundle import batching, warmup
from serving.bundle.graph_model import METHOD_NAMES, GraphModel, Method
from serving.bundle.stock_ops import require_stock_ops
from serving.bundle.warmup import WarmUpError
from serving.client.contract import Request

LOG = logging.getLogger(__name__)
LOCK_FILE = ".export.lock"
LONGEST_VERSION = 18  # Digits. TensorFlow Serving keeps 64 bits.
WARM_UP_LOG = "warm_up_log"  # Input of a version that warms up with logged requests.


class VersionError(ValueError):
    """A version of a served model is damaged, or has other signatures than its descriptor says."""


@dataclasses.dataclass(frozen=True)
class NewVersion:
    """A version to be written.

    Attributes:
        model: its descriptor.
        stages: what it is made from.
        logged: requests to warm up with; requests to the other signatures are made.
    """

    model: ServedModel
    stages: FinishedStages
    logged: Sequence[Request] = ()

    @property
    def made_by(self) -> MadeBy:
        """What determines the version."""
        made_by = self.model.made_by(self.stages)
        if not self.logged:
            return made_by
        logged = warmup.fingerprint(self.model.name, self.logged, self.model.signatures)
        return dataclasses.replace(made_by, inputs={**made_by.inputs, WARM_UP_LOG: logged})

    def write(self, directory: Path, version: int) -> int:
        """Writes the SavedModel, how it is batched, and its warm-up; returns the number of warm-up requests."""
        model, module = self.model, self.model.build(self.stages, version)
        if set(module.signatures) != set(model.signatures):
            raise VersionError(
                f"{model.name} has the signatures {sorted(module.signatures)}, "
                f"but its descriptor names {sorted(model.signatures)}"
            )
        save_module(module, module.signatures, directory)
        _write_methods(directory, model.signatures)
        if model.joined:
            _require_scalars(directory, model.name)
            batching.write_parameters(directory, model.most_rows)
        requests = with_logged(self.logged, model.requests(self.stages))
        number = warmup.write(directory, model.name, requests, model.signatures)
        if self.logged:
            _require_logged(directory, model.name)
        return number


def version_directory(models: Path, model: str, version: int) -> Path:
    """Where a version lies.

    >>> version_directory(Path("models"), "ctr_ranker", 3)
    PosixPath('models/ctr_ranker/3')
    """
    return models / model / str(version)


def is_version(directory: Path) -> bool:
    """Whether the name of a folder is that of a version, as TensorFlow Serving reads it.

    >>> is_version(Path("12")), is_version(Path("1\u00b2")), is_version(Path(".12.partial"))
    (True, False, False)
    """
    return directory.name.isascii() and directory.name.isdigit() and len(directory.name) <= LONGEST_VERSION


def newest_version(model: Path) -> Path | None:
    """The directory of the highest version in the folder of a model, None if there is none."""
    versions = [path for path in model.glob("*") if is_version(path)]
    return max(versions, key=lambda path: int(path.name), default=None)


def newest_versions(models: Path, names: Sequence[str]) -> dict[str, int]:
    """The highest version of each model that has one, by name."""
    newest = {name: newest_version(models / name) for name in names}
    return {name: int(directory.name) for name, directory in newest.items() if directory}


def require_undamaged(version: Path) -> MadeBy:
    """Refuses a version whose files are not those that were exported; returns what made it.

    Raises:
        VersionError: a file is missing, changed or added.
    """
    try:
        return artefacts.verify(artefacts.read(version, EXPORT), full=True).made_by
    except ArtefactError as error:
        raise VersionError(str(error)) from error


@contextlib.contextmanager
def export_lock(models: Path) -> Iterator[None]:
    """Lets one process at a time write versions and labels; another one waits."""
    waiting = f"[export] another export into {models} is running: waiting for it"
    with atomic.exclusive(models / LOCK_FILE, waiting):
        yield


def write_versions(models: Path, versions: Sequence[NewVersion]) -> list[Path]:
    """Writes new versions; hold `export_lock`. All of them appear, or after an error none.

    Args:
        models: directory of all models.
        versions: to write.

    Returns:
        Their directories.

    Raises:
        StockOpsError: a SavedModel holds an op that stock TensorFlow lacks.
        VersionError: a model has other signatures than its descriptor says.
        WarmUpError: there are no requests to warm up with, or logged ones that the model does not take.
        OSError: the disk is full, or the like.
    """
    targets = [models / version.model.name / str(_next(models / version.model.name)) for version in versions]
    partials: list[Path] = []
    try:
        for version, target in zip(versions, targets, strict=True):
            with artefacts.sealed(target, version.made_by) as draft:
                partial = draft.path
                partials.append(partial)
                number = int(target.name)
                draft.facts = VersionFacts(number, version.write(partial, number))
        require_stock_ops([path for path, version in zip(partials, versions, strict=True) if version.model.stock])
        atomic.rename_together(list(zip(partials, targets, strict=True)))
    except BaseException:
        # On a full disk what is left behind would be in the way of the next attempt.
        for partial in partials:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return targets


def _require_logged(directory: Path, model: str) -> None:
    try:
        warmup.replay(directory, GraphModel(directory))
    except WarmUpError as error:
        raise WarmUpError(f"{model} cannot answer the requests of the log: {error}") from error


def _require_scalars(directory: Path, model: str) -> None:
    """Refuses to have requests joined whose rows may differ in shape.

    A server compares the shapes of what it joins, and refuses the whole batch where one differs.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    (graph,) = SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs
    for signature, definition in sorted(graph.signature_def.items()):
        for name, given in definition.inputs.items():
            if given.tensor_shape.unknown_rank or len(given.tensor_shape.dim) != 1:
                raise VersionError(
                    f"{model} is joined, but the input '{name}' of its signature '{signature}' has not one value for a "
                    "row: a request with another shape would fail the whole batch. Set joined = False"
                )


def _next(model: Path) -> int:
    newest = newest_version(model)
    return int(newest.name) + 1 if newest else 1


def _write_methods(saved_model: Path, methods: Mapping[str, Method]) -> None:
    """TensorFlow 2 writes every signature as one for Predict; the other APIs look at the name of the method."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = saved_model / "saved_model.pb"
    content = SavedModel.FromString(file.read_bytes())
    for graph in content.meta_graphs:
        for signature, method in methods.items():
            graph.signature_def[signature].method_name = METHOD_NAMES[method]
    file.write_bytes(content.SerializeToString(deterministic=True))
