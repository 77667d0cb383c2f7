"""A replica without models, which follows models.config by TensorFlow Serving's rules alone.

A label in use moves to an available version only: else the whole configuration is refused, before anything is loaded. A
label that is not in use may name a version that is not there yet (--allow_version_labels_for_unavailable_models).
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.protobuf import text_format
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigResponse
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

State = ModelVersionStatus.State


class StrictReplica(ModelServiceServicer, PredictionServiceServicer):
    """Starts with a models.config, then reads it every `poll_seconds`.

    Attributes:
        aspired: model -> the versions that it was told to have.
        address: IP:PORT.
        asleep: whether it does not look at the file for now.
        refused: configurations that it refused.
        moves: every (model, label, version) that a label was given, in order.
    """

    def __init__(self, file: Path, poll_seconds=0.05, load_seconds=0.0, broken=(), takes_reloads=True, port=0):
        self._file, self._poll, self._load_seconds = file, poll_seconds, load_seconds
        self._broken, self._takes_reloads = dict(broken), takes_reloads
        self.refused, self.moves, self.asleep = 0, [], False
        self._states, self._labels, self.aspired = {}, {}, {}
        self._lock, self._stopped = threading.RLock(), threading.Event()
        self._take(text_format.Parse(file.read_text(), ModelServerConfig()))
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        add_ModelServiceServicer_to_server(self, self._server)
        add_PredictionServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        self._server.start()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._server.stop(0).wait()
        self._follower.join()

    def labels(self, model="m"):
        """Label -> version."""
        with self._lock:
            return dict(self._labels.get(model, {}))

    def _follow(self):
        while not self._stopped.wait(self._poll):
            if self.asleep:
                continue
            self._take(text_format.Parse(self._file.read_text(), ModelServerConfig()))

    def _take(self, config) -> bool:
        with self._lock:
            labels = {}
            for model in config.model_config_list.config:
                for label, version in model.version_labels.items():
                    in_use = self._labels.get(model.name, {}).get(label, version)
                    if in_use != version and not self._available(model.name, version):
                        self.refused += 1
                        return False
                    labels.setdefault(model.name, {})[label] = version
            for model, given in labels.items():
                for label, version in given.items():
                    if self._labels.get(model, {}).get(label) != version:
                        self.moves.append((model, label, version))
            self._labels = labels
            for model in config.model_config_list.config:
                self._aspire(model.name, set(model.model_version_policy.specific.versions))
        return True

    def _aspire(self, model, versions):
        states, before = self._states.setdefault(model, {}), self.aspired.get(model, set())
        self.aspired[model] = versions
        for version in before - versions:
            if states[version][0] != State.END:  # One that could not be loaded keeps its error.
                states[version] = (State.END, "")
        for version in sorted(versions - before):
            states[version] = (State.LOADING, "")
            threading.Thread(target=self._load, args=(model, version), daemon=True).start()

    def _load(self, model, version):
        time.sleep(self._load_seconds)
        with self._lock:
            why = self._broken.get((model, version))
            self._states[model][version] = (State.END, why) if why else (State.AVAILABLE, "")

    def _available(self, model, version):
        return self._states.get(model, {}).get(version, (None, ""))[0] == State.AVAILABLE

    def GetModelStatus(self, request, context):
        response = GetModelStatusResponse()
        with self._lock:
            states = dict(self._states.get(request.model_spec.name, {}))
        if not states:
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model")
        for version, (state, why) in states.items():
            status = response.model_version_status.add(version=version, state=state)
            if why:
                status.status.error_code, status.status.error_message = 3, why
        return response

    def GetModelMetadata(self, request, context):
        spec = request.model_spec
        version = self.labels(spec.name).get(spec.version_label)
        if version is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label")
        if not self._available(spec.name, version):
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
        response = GetModelMetadataResponse()
        response.model_spec.name, response.model_spec.version.value = spec.name, version
        return response

    def HandleReloadConfigRequest(self, request, context):
        if not self._takes_reloads:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no reloads here")
        if not self._take(request.config):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "Request to assign label to version")
        return ReloadConfigResponse()
