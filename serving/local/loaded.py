"""Loads the versions that models.config names, and follows that file and the folders of the models.

TensorFlow Serving does the same.
"""

import contextlib
import gc
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.bundle import warmup
from serving.bundle.batching import PARAMETERS_FILE
from serving.bundle.configuration import read_models_config
from serving.bundle.graph_model import GraphModel
from serving.bundle.server_config_pb2 import BatchingParameters
from serving.local.metrics import WARM_UP_LATENCY, Metrics

LOG = logging.getLogger(__name__)
MOST_ROWS = 1000  # In one request, where the parameters of a version that joins requests name no number.
UNKNOWN, NOT_FOUND = 2, 5  # Codes of errors in the status of a version.


class AnswerError(Exception):
    """A request gets no answer.

    Attributes:
        code: the gRPC status that the client sees.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class LoadedVersion(GraphModel):
    """A version in memory.

    Attributes:
        most_rows: the most rows in one request; None where its requests are not joined.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.most_rows = _most_rows(directory)


class Failure(NamedTuple):
    """Why a version could not be loaded, as its status says it."""

    code: int
    message: str


class LoadedModel(NamedTuple):
    """The versions of one model. It is never changed; a new one takes its place."""

    versions: Mapping[int, LoadedVersion]
    labels: Mapping[str, int]
    failed: Mapping[int, Failure]
    ended: frozenset[int]  # Versions that were loaded before.


class LoadedModels:
    """Holds the loaded models, and finds the version that a request means.

    Args:
        config_file: models.config.
        models: folder of the models.
        warm_up: whether a version replays its warm-up requests before it takes traffic.

    Attributes:
        metrics: numbers and times of the requests and the warm-ups.
    """

    def __init__(self, config_file: Path, models: Path, warm_up: bool = True) -> None:
        self.config_file, self.models, self.warm_up = config_file, models, warm_up
        self.metrics = Metrics()
        self._served: dict[str, LoadedModel] = {}
        self._loading: tuple[str, int] | None = None
        self._config_read: bytes | None = None

    def refresh(self) -> None:
        """Loads new versions, then switches to them, then drops versions that the file no longer names.

        A request that is running keeps the version that it uses.

        Raises:
            BundleError: models.config is missing or broken.
        """
        if self._follow():
            # A graph of TensorFlow's refers to itself: without this, many versions stay in memory for long.
            gc.collect()

    def _follow(self) -> bool:
        """Does what `refresh` says; returns whether it has dropped a version."""
        text = self.config_file.read_bytes() if self.config_file.is_file() else None
        config, changed = read_models_config(self.config_file, self.models), text != self._config_read
        served = {}
        for model in config.model_config_list.config:
            before = self._served.get(model.name, LoadedModel({}, {}, {}, frozenset()))
            failed = {} if changed else dict(before.failed)
            versions = self._load_versions(model, before, failed)
            ended = (before.ended | set(before.versions)) - set(versions)
            served[model.name] = LoadedModel(versions, _labels(model, before, versions), failed, ended)
        dropped = any(
            set(model.versions) - set(served[name].versions if name in served else ())
            for name, model in self._served.items()
        )
        self._served, self._config_read = served, text
        return dropped

    @property
    def ready(self) -> bool:
        """Whether every model has a loaded version."""
        return bool(self._served) and all(model.versions for model in self._served.values())

    @property
    def summary(self) -> dict[str, str]:
        """The versions and labels of each model, in words."""
        return {
            name: f"versions {sorted(model.versions)}, labels {dict(model.labels)}"
            for name, model in self._served.items()
        }

    def find(self, spec: ModelSpec) -> tuple[int, LoadedVersion]:
        """Finds the version that a request names by number or label, else the highest one.

        Raises:
            AnswerError: there is no such model, version or label, or the request names no model.
        """
        if not spec.name:
            raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified")
        model = self._served.get(spec.name, LoadedModel({}, {}, {}, frozenset()))
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            if spec.version_label not in model.labels:
                raise AnswerError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Unrecognized servable version label {spec.version_label!r}: {spec.name} has {dict(model.labels)}",
                )
            version = model.labels[spec.version_label]
        else:
            version = spec.version.value if choice == "version" else max(model.versions, default=0)
        if version not in model.versions:
            there = sorted(model.versions) if spec.name in self._served else f"only {sorted(self._served)}"
            wanted = f"{spec.name!r}, version {version}" if choice else repr(spec.name)
            raise AnswerError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}; loaded are {there}"
            )
        return version, model.versions[version]

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """The state of all versions of a model, or of the one that the request names by its number.

        A label is not looked at, as in TensorFlow Serving.

        Raises:
            AnswerError: there is no such model or version.
        """
        states = self._states(spec.name)
        if spec.WhichOneof("version_choice") == "version":
            states = {version: state for version, state in states.items() if version == spec.version.value}
        if not states:
            named = f"version {spec.version.value}" if spec.HasField("version") else "any versions"
            raise AnswerError(
                grpc.StatusCode.NOT_FOUND,
                f"Could not find {named} of model {spec.name!r}; there are {sorted(self._served)}",
            )
        response = GetModelStatusResponse()
        for version in sorted(states, reverse=True):
            state, failure = states[version]
            status = response.model_version_status.add(version=version, state=state)
            status.status.error_code, status.status.error_message = failure
        return response

    def _states(self, name: str) -> dict[int, tuple[ModelVersionStatus.State.ValueType, Failure]]:
        """Version -> its state, and what is wrong with it."""
        model = self._served.get(name, LoadedModel({}, {}, {}, frozenset()))
        well = Failure(0, "")
        states = dict.fromkeys(model.ended, (ModelVersionStatus.END, well))
        states |= {version: (ModelVersionStatus.END, failure) for version, failure in model.failed.items()}
        if self._loading and self._loading[0] == name:
            states[self._loading[1]] = ModelVersionStatus.LOADING, well
        return states | dict.fromkeys(model.versions, (ModelVersionStatus.AVAILABLE, well))

    def _load_versions(
        self, model: ModelConfig, before: LoadedModel, failed: dict[int, Failure]
    ) -> Mapping[int, LoadedVersion]:
        """The versions that a model should have; what cannot be loaded is added to `failed`."""
        versions = {}
        for version in _wanted(Path(model.base_path), model.model_version_policy):
            if version in before.versions:
                versions[version] = before.versions[version]
            elif version not in failed:
                self._loading = model.name, version
                try:
                    versions[version] = self._load(Path(model.base_path) / str(version))
                except Exception as error:  # Whatever is wrong with one version, the others are served.
                    failed[version] = _failure(error)
                    LOG.error("%s version %d cannot be served: %s", model.name, version, error)
                finally:
                    self._loading = None
        return versions or before.versions  # Rather the old versions than none.

    def _load(self, directory: Path) -> LoadedVersion:
        model = LoadedVersion(directory)
        if self.warm_up:
            with self.metrics.timed(WARM_UP_LATENCY, str(directory), "OK"):
                warmup.replay(directory, model)  # TensorFlow Serving does not serve a version whose warm-up fails.
        return model


def _most_rows(directory: Path) -> int | None:
    """What the parameters in the folder of a version allow. A request that is split has this limit, too."""
    file = directory / PARAMETERS_FILE
    if not file.is_file():
        return None
    parameters = text_format.Parse(file.read_text(), BatchingParameters())
    return parameters.max_batch_size.value if parameters.HasField("max_batch_size") else MOST_ROWS


def _failure(error: Exception) -> Failure:
    message = str(error) or repr(error)
    if isinstance(error, tf.errors.OpError):
        return Failure(error.error_code, message)
    return Failure(NOT_FOUND if isinstance(error, OSError) else UNKNOWN, message)


def _labels(model: ModelConfig, before: LoadedModel, versions: Mapping[int, LoadedVersion]) -> dict[str, int]:
    """Label -> version. A label stays where it was until the version that it moves to is loaded.

    A new label may lead to a version that is not loaded: requests with it are NOT_FOUND.
    """
    kept = {label: version for label, version in before.labels.items() if version in versions}
    return {
        label: version if version in versions else kept.get(label, version)
        for label, version in model.version_labels.items()
    }


def _wanted(base: Path, policy: FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> list[int]:
    """The versions that a policy asks for and that are on the disk."""
    present: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        present = sorted(int(path.name) for path in base.iterdir() if path.name.isascii() and path.name.isdigit())
    match policy.WhichOneof("policy_choice"):
        case "specific":
            return [version for version in present if version in policy.specific.versions]
        case "all":
            return present
        case _:
            return present[-(policy.latest.num_versions or 1) :]
