"""The versions that models.config names, loaded; follows that file and the models' folders, as TF Serving does."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig

from serving.bundle import warmup
from serving.bundle.configuration import read_models_config
from serving.bundle.graph_model import GraphModel

LOG = logging.getLogger(__name__)


class AnswerError(Exception):
    """A request gets no answer.

    Attributes:
        code: gRPC status.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class ServedModel(NamedTuple):
    """What of one model is loaded. Never changed: a new one takes its place."""

    versions: Mapping[int, GraphModel]
    labels: Mapping[str, int]
    failed: Mapping[int, str]  # Version -> why it could not be loaded.


class LoadedModels:
    """Answers which version a request means.

    Args:
        config_file: models.config.
        models: folder of the models.
        warm_up: replay the requests in a version before it takes traffic.
    """

    def __init__(self, config_file: Path, models: Path, warm_up: bool = True) -> None:
        self.config_file, self.models, self.warm_up = config_file, models, warm_up
        self._served: dict[str, ServedModel] = {}
        self._config_read: bytes | None = None

    def refresh(self) -> None:
        """Loads what is new, then switches, then lets go of what is not named any more; a request keeps what it uses.

        Raises:
            BundleError: models.config is missing or broken.
        """
        text = self.config_file.read_bytes() if self.config_file.exists() else None
        config, changed = read_models_config(self.config_file, self.models), text != self._config_read
        served = {}
        for one in config.model_config_list.config:
            before = self._served.get(one.name, ServedModel({}, {}, {}))
            versions, failed = {}, {} if changed else dict(before.failed)
            for version in _wanted(Path(one.base_path), one.model_version_policy):
                if version in before.versions:
                    versions[version] = before.versions[version]
                elif version not in failed:
                    try:
                        versions[version] = self._load(Path(one.base_path) / str(version))
                    except Exception as error:  # Whatever is wrong with one version, the others are served.
                        failed[version] = str(error) or repr(error)
                        LOG.error("%s version %d cannot be served: %s", one.name, version, error)
            if not versions and before.versions:
                versions = before.versions  # Rather the old versions than none.
            labels = {label: version for label, version in one.version_labels.items() if version in versions}
            # A label stays where it was until the version that it moves to is there.
            labels |= {
                label: before.labels[label]
                for label in set(one.version_labels) - set(labels)
                if before.labels.get(label) in versions
            }
            served[one.name] = ServedModel(versions, labels, failed)
        self._served, self._config_read = served, text

    @property
    def ready(self) -> bool:
        """Whether every model has a version that is loaded."""
        return bool(self._served) and all(model.versions for model in self._served.values())

    @property
    def summary(self) -> dict[str, str]:
        """Model -> versions and labels, in words."""
        return {
            name: f"versions {sorted(model.versions)}, labels {dict(model.labels)}"
            for name, model in self._served.items()
        }

    def find(self, spec: ModelSpec) -> tuple[int, GraphModel]:
        """The version that a request means: its number or label, else the highest.

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
        """The state of the versions of a model, of one of them if the request names it. Raises as `find`."""
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

    def _model(self, name: str) -> ServedModel:
        if name not in self._served:
            raise AnswerError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {name!r}; there are {sorted(self._served)}"
            )
        return self._served[name]

    def _load(self, directory: Path) -> GraphModel:
        model = GraphModel(directory)
        if self.warm_up:
            warmup.replay(directory, model)  # As with TF Serving, a version whose warm-up fails is not served.
        return model


def _wanted(base: Path, policy: FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> list[int]:
    """The versions of a model that a policy asks for, as far as they are there."""
    present: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        present = sorted(int(path.name) for path in base.iterdir() if path.name.isdigit())
    match policy.WhichOneof("policy_choice"):
        case "specific":
            return [version for version in present if version in policy.specific.versions]
        case "all":
            return present
        case _:
            return present[-(policy.latest.num_versions or 1) :]
