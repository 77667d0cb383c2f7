"""Server reflection of gRPC: tells programs such as grpcurl which services there are, and with which messages."""

from collections.abc import Iterator

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.local.reflection_pb2 import ReflectionRequest, ReflectionResponse

SERVICE = "grpc.reflection.v1alpha.ServerReflection"
PACKAGE = "tensorflow.serving"
#: File -> (service, messages of each method). The package has these files in a form that its Protobuf cannot load.
_SERVICES = {
    "tensorflow_serving/apis/prediction_service.proto": (
        "PredictionService",
        {
            "Classify": (classification_pb2, "ClassificationRequest", "ClassificationResponse"),
            "Regress": (regression_pb2, "RegressionRequest", "RegressionResponse"),
            "Predict": (predict_pb2, "PredictRequest", "PredictResponse"),
            "MultiInference": (inference_pb2, "MultiInferenceRequest", "MultiInferenceResponse"),
            "GetModelMetadata": (get_model_metadata_pb2, "GetModelMetadataRequest", "GetModelMetadataResponse"),
        },
    ),
    "tensorflow_serving/apis/model_service.proto": (
        "ModelService",
        {
            "GetModelStatus": (get_model_status_pb2, "GetModelStatusRequest", "GetModelStatusResponse"),
            "HandleReloadConfigRequest": (model_management_pb2, "ReloadConfigRequest", "ReloadConfigResponse"),
        },
    ),
}


class Reflection:
    """Answers by the descriptors of the services, and of the messages that are loaded."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()
        self._files = {name: _with_service(name, *service) for name, service in _SERVICES.items()}
        self._file_of = {f"{PACKAGE}.{service}": name for name, (service, _) in _SERVICES.items()}

    def add_to(self, server: grpc.Server) -> None:
        """Registers the service."""
        method = grpc.stream_stream_rpc_method_handler(
            lambda requests, _: map(self.answer, requests),
            request_deserializer=ReflectionRequest.FromString,
            response_serializer=ReflectionResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(SERVICE, {"ServerReflectionInfo": method})]
        )

    def answer(self, request: ReflectionRequest) -> ReflectionResponse:
        """The answer to one question."""
        response = ReflectionResponse(valid_host=request.host, original_request=request)
        try:
            match request.WhichOneof("message_request"):
                case "list_services":
                    for name in sorted([*self._file_of, health.SERVICE_NAME, SERVICE]):
                        response.list_services_response.service.add(name=name)
                case "file_by_filename":
                    self._write(response, request.file_by_filename)
                case "file_containing_symbol":
                    symbol = request.file_containing_symbol
                    service = next((name for name in self._file_of if f"{symbol}.".startswith(f"{name}.")), None)
                    file = self._file_of[service] if service else self._pool.FindFileContainingSymbol(symbol).name
                    self._write(response, file)
                case _:
                    _refuse(response, grpc.StatusCode.UNIMPLEMENTED, "the messages have no extensions")
        except KeyError as error:
            _refuse(response, grpc.StatusCode.NOT_FOUND, str(error))
        return response

    def _write(self, response: ReflectionResponse, name: str) -> None:
        """Writes a file and all that it imports."""
        files = {}
        if name in self._files:
            files[name] = self._files[name].SerializeToString()
        for imported in self._files[name].dependency if name in self._files else [name]:
            files |= {file.name: file.serialized_pb for file in _with_imports(self._pool.FindFileByName(imported))}
        response.file_descriptor_response.file_descriptor_proto.extend(files.values())


def _with_service(name: str, service: str, methods: dict) -> FileDescriptorProto:
    """A file that holds a service alone."""
    imported = sorted({module.DESCRIPTOR.name for module, _, _ in methods.values()})
    file = FileDescriptorProto(name=name, package=PACKAGE, syntax="proto3", dependency=imported)
    described = file.service.add(name=service)
    for method, (_, request, response) in methods.items():
        described.method.add(name=method, input_type=f".{PACKAGE}.{request}", output_type=f".{PACKAGE}.{response}")
    return file


def _with_imports(file: FileDescriptor) -> Iterator[FileDescriptor]:
    yield file
    for imported in file.dependencies:
        yield from _with_imports(imported)


def _refuse(response: ReflectionResponse, code: grpc.StatusCode, message: str) -> None:
    response.error_response.error_code, response.error_response.error_message = code.value[0], message
