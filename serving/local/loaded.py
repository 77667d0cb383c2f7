"""Loads the versions that models.config names, and follows that file and the folders of the models.

TensorFlow Serving does the same.
"""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.bundle import warmup
from serving.bundle.configuration import read_models_config
from serving.bundle.graph_model import GraphModel

LOG = logging.getLogger(__name__)


class AnswerError(Exception):
    """A request gets no answer.

    Attributes:
        code: the gRPC status that the client sees.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class LoadedModel(NamedTuple):
    """The loaded versions of one model. It is never changed; a new one takes its place."""

    versions: Mapping[int, GraphModel]
    labels: Mapping[str, int]
    failed: Mapping[int, str]  # Version -> why it could not be loaded.


class LoadedModels:
    """Holds the loaded models, and finds the version that a request means.

    Args:
        config_file: models.config.
        models: folder of the models.
        warm_up: whether a version replays its warm-up requests before it takes traffic.
    """

    def __init__(self, config_file: Path, models: Path, warm_up: bool = True) -> None:
        self.config_file, self.models, self.warm_up = config_file, models, warm_up
        self._served: dict[str, LoadedModel] = {}
        self._config_read: bytes | None = None

    def refresh(self) -> None:
        """Loads new versions, then switches to them, then drops versions that the file no longer names.

        A request that is running keeps the version that it uses.

        Raises:
            BundleError: models.config is missing or broken.
        """
        text = self.config_file.read_bytes() if self.config_file.is_file() else None
        config, changed = read_models_config(self.config_file, self.models), text != self._config_read
        served = {}
        for model in config.model_config_list.config:
            before = self._served.get(model.name, LoadedModel({}, {}, {}))
            failed = {} if changed else dict(before.failed)
            versions = self._load_versions(model, before, failed)
            served[model.name] = LoadedModel(versions, _labels(model, before, versions), failed)
        self._served, self._config_read = served, text

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

    def find(self, spec: ModelSpec) -> tuple[int, GraphModel]:
        """Finds the version that a request names by number or label, else the highest one.

        Raises:
            AnswerError: there is no such model, version or label.
        """
        model = self._model(spec.name)
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
            raise AnswerError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: {spec.name} version {version}; loaded are {sorted(model.versions)}",
            )
        return version, model.versions[version]

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """The state of all versions of a model, or of the one that the request names.

        Raises:
            AnswerError: there is no such model, version or label.
        """
        model = self._model(spec.name)
        named = [self.find(spec)[0]] if spec.WhichOneof("version_choice") else {*model.versions, *model.failed}
        response = GetModelStatusResponse()
        for version in sorted(named, reverse=True):
            status = response.model_version_status.add(version=version)
            if version in model.versions:
                status.state = ModelVersionStatus.AVAILABLE
            else:
                status.state = ModelVersionStatus.END
                status.status.error_code, status.status.error_message = 2, model.failed[version]
        return response

    def _model(self, name: str) -> LoadedModel:
        if name not in self._served:
            raise AnswerError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {name!r}; there are {sorted(self._served)}"
            )
        return self._served[name]

    def _load_versions(
        self, model: ModelConfig, before: LoadedModel, failed: dict[int, str]
    ) -> Mapping[int, GraphModel]:
        """The versions that a model should have; what cannot be loaded is added to `failed`."""
        versions = {}
        for version in _wanted(Path(model.base_path), model.model_version_policy):
            if version in before.versions:
                versions[version] = before.versions[version]
            elif version not in failed:
                try:
                    versions[version] = self._load(Path(model.base_path) / str(version))
                except Exception as error:  # Whatever is wrong with one version, the others are served.
                    failed[version] = str(error) or repr(error)
                    LOG.error("%s version %d cannot be served: %s", model.name, version, error)
        return versions or before.versions  # Rather the old versions than none.

    def _load(self, directory: Path) -> GraphModel:
        model = GraphModel(directory)
        if self.warm_up:
            warmup.replay(directory, model)  # TensorFlow Serving does not serve a version whose warm-up fails, either.
        return model


def _labels(model: ModelConfig, before: LoadedModel, versions: Mapping[int, GraphModel]) -> dict[str, int]:
    """Label -> version. A label stays where it was until the version that it moves to is loaded."""
    labels = {label: version for label, version in model.version_labels.items() if version in versions}
    waiting = {label: before.labels.get(label) for label in model.version_labels if label not in labels}
    return labels | {label: version for label, version in waiting.items() if version in versions}


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
