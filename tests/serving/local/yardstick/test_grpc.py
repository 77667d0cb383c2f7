"""The gRPC API: answers field by field, specs of models, what is refused, and the other services."""

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.bundle.messages import model_spec
from serving.local.reflection_pb2 import ReflectionRequest, ReflectionResponse
from tests.serving.local.yardstick.bundle import HALF, JOINED, LABEL, MOST_ROWS, VERSION
from tests.serving.local.yardstick.cases import Case, cases, counted

GROUP = "gRPC"
OK, WRONG = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def stub(channel):
    return PredictionServiceStub(channel)


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return OK


def predict(signature="", filled=None, outputs=(), model=HALF, name="x", **spec):
    """A request with one tensor; `filled` are the fields of it."""
    request = PredictRequest(model_spec=model_spec(model, signature, **spec), output_filter=outputs)
    tensor = {"dtype": types_pb2.DT_FLOAT, "float_val": [2.0], "shape": [1], **(filled or {})}
    proto = TensorProto(**{key: value for key, value in tensor.items() if key != "shape"})
    proto.tensor_shape.SetInParent()
    for size in tensor["shape"]:
        proto.tensor_shape.dim.add(size=size)
    request.inputs[name].CopyFrom(proto)
    return request


def echoed(field, dtype, values, count=None):
    """A tensor that comes back in the field of its type."""
    return {"dtype": dtype, "float_val": [], field: values, "shape": [len(values) if count is None else count]}


FIELDS = [
    Case("float_val", ("float32", echoed("float_val", types_pb2.DT_FLOAT, [0.5, 2.0])), [0.5, 2.0]),
    Case("double_val", ("float64", echoed("double_val", types_pb2.DT_DOUBLE, [0.1])), [0.1]),
    Case("int_val of int32", ("int32", echoed("int_val", types_pb2.DT_INT32, [7, -7])), [7, -7]),
    Case("int_val of uint8", ("uint8", echoed("int_val", types_pb2.DT_UINT8, [255, 300])), [255, 44]),
    Case("int_val of int8", ("int8", echoed("int_val", types_pb2.DT_INT8, [-3])), [-3]),
    Case("int_val of int16", ("int16", echoed("int_val", types_pb2.DT_INT16, [-300])), [-300]),
    Case("int_val of uint16", ("uint16", echoed("int_val", types_pb2.DT_UINT16, [60000])), [60000]),
    Case("int64_val", ("int64", echoed("int64_val", types_pb2.DT_INT64, [2**40])), [2**40]),
    Case("uint32_val", ("uint32", echoed("uint32_val", types_pb2.DT_UINT32, [2**32 - 1])), [2**32 - 1]),
    Case("uint64_val", ("uint64", echoed("uint64_val", types_pb2.DT_UINT64, [2**64 - 1])), [2**64 - 1]),
    Case("bool_val", ("bool", echoed("bool_val", types_pb2.DT_BOOL, [True, False])), [True, False]),
    Case("string_val", ("string", echoed("string_val", types_pb2.DT_STRING, [b"a", b"\xff\0"])), [b"a", b"\xff\0"]),
    Case("half_val", ("float16", echoed("half_val", types_pb2.DT_HALF, [15360])), [15360]),
    Case("the last value is repeated", ("float32", echoed("float_val", types_pb2.DT_FLOAT, [1, 2], 4)), [1, 2, 2, 2]),
    Case("the last string is repeated", ("string", echoed("string_val", types_pb2.DT_STRING, [b"a"], 2)), [b"a", b"a"]),
    Case("without values all are zero", ("float32", echoed("float_val", types_pb2.DT_FLOAT, [], 2)), [0, 0]),
    Case("values beyond the shape", ("float32", echoed("float_val", types_pb2.DT_FLOAT, [1, 2, 3], 2)), [1, 2]),
    Case("no elements", ("float32", echoed("float_val", types_pb2.DT_FLOAT, [])), []),
    Case(
        "the content of a tensor",
        ("float32", {"float_val": [], "tensor_content": np.array([1.5, 2.5], np.float32).tobytes(), "shape": [2]}),
        [1.5, 2.5],
    ),
    Case(
        "the content of strings",
        ("string", {**echoed("string_val", types_pb2.DT_STRING, []), "tensor_content": b"\1\2abc", "shape": [2]}),
        [b"a", b"bc"],
        differs="no client is known that writes strings into tensor_content",
    ),
]


@cases(GROUP, FIELDS)
def test_fields(server, stub, case):
    signature, filled = case.asked
    output = stub.Predict(predict(signature, filled)).outputs["y"]
    (values,) = [value for field, value in output.ListFields() if field.name.endswith("_val")] or [[]]
    assert list(values) == case.answer and not output.tensor_content


SPECS = [
    Case("by the highest version", {}, OK),
    Case("by a version", {"version": VERSION}, OK),
    Case("by a label", {"label": LABEL}, OK),
    Case("by a signature", {"signature": "other"}, OK),
    Case("an output by its name", {"outputs": ["y"]}, OK),
    Case("an unknown output", {"outputs": ["z"]}, WRONG),
    Case("an output twice", {"outputs": ["y", "y"]}, WRONG),
    Case("an unknown model", {"model": "foo"}, grpc.StatusCode.NOT_FOUND),
    Case("an unknown version", {"version": 99}, grpc.StatusCode.NOT_FOUND),
    Case("version 0", {"version": 0}, grpc.StatusCode.NOT_FOUND),
    Case("an unknown label", {"label": "none"}, WRONG),
    Case("an unknown model with a label", {"model": "foo", "label": LABEL}, WRONG),
    Case("an empty model", {"model": ""}, WRONG),
    Case("an unknown signature", {"signature": "none"}, grpc.StatusCode.FAILED_PRECONDITION),
    Case("an unknown input", {"name": "z"}, WRONG),
    Case("another type", {"filled": echoed("int_val", types_pb2.DT_INT32, [2])}, WRONG),
    Case("a type that is none", {"filled": {"dtype": 99}}, WRONG),
    Case("no type", {"filled": {"dtype": types_pb2.DT_INVALID}}, WRONG),
    Case("a type of references", {"filled": {"dtype": types_pb2.DT_FLOAT_REF}}, WRONG),
    Case("a resource", {"filled": {"dtype": types_pb2.DT_RESOURCE}}, WRONG),
    Case("a variant", {"filled": {"dtype": types_pb2.DT_VARIANT}}, WRONG),
    Case("a quantised type", {"filled": {"dtype": types_pb2.DT_QINT8}}, WRONG),
    Case("a size below zero", {"filled": {"shape": [-1]}}, WRONG),
    Case("a shape without end", {"filled": {"shape": [2**40, 2**20]}}, WRONG),
    Case(
        "content that is too short", {"filled": {"float_val": [], "tensor_content": b"\0\0\0\0", "shape": [3]}}, WRONG
    ),
    Case("content that is half a number", {"filled": {"float_val": [], "tensor_content": b"\0\0\0"}}, WRONG),
    Case("more rows than a batch may have", {"model": JOINED, "filled": {"shape": [MOST_ROWS + 1]}}, WRONG),
    Case(
        "more rows, but not all outputs",
        {"model": JOINED, "signature": "uneven", "filled": {"shape": [MOST_ROWS + 1]}, "outputs": ["y"]},
        WRONG,
    ),
]


@cases(GROUP, SPECS)
def test_predict(server, stub, case):
    assert code_of(lambda: stub.Predict(predict(**case.asked))) == case.answer


@counted(GROUP)
def test_predict_names_what_has_answered(server, stub):
    response = stub.Predict(predict(outputs=["y"]))
    assert response.model_spec == model_spec(HALF, "serving_default", version=VERSION)
    assert list(response.outputs["y"].float_val) == [3.0] and response.outputs["y"].dtype == types_pb2.DT_FLOAT
    assert list(stub.Predict(predict("other")).outputs["y"].float_val) == [3.0]


@counted(GROUP)
def test_predict_without_inputs(server, stub):
    assert code_of(lambda: stub.Predict(PredictRequest(model_spec=model_spec(HALF)))) == WRONG


@cases(
    GROUP,
    [
        Case("predict without a model", ("Predict", PredictRequest()), WRONG),
        Case("classify without a model", ("Classify", ClassificationRequest()), WRONG),
        Case("regress without a model", ("Regress", RegressionRequest()), WRONG),
        Case("metadata without a model", ("GetModelMetadata", GetModelMetadataRequest()), WRONG),
        Case("several without a model", ("MultiInference", MultiInferenceRequest()), WRONG),
    ],
)
def test_requests_without_a_model(server, stub, case):
    method, request = case.asked
    assert code_of(lambda: getattr(stub, method)(request)) == case.answer


@counted(GROUP)
def test_status_without_a_model(server, channel):
    assert code_of(lambda: ModelServiceStub(channel).GetModelStatus(GetModelStatusRequest())) == WRONG


@counted(GROUP, differs="they are the sender's fault, so INVALID_ARGUMENT here; gRPC in C++ calls them INTERNAL")
def test_bytes_that_are_no_message(server, channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    assert code_of(lambda: call(b"\xff\xff\xff no proto")) == grpc.StatusCode.INTERNAL


def example_request(kind, signature, *values, model=HALF):
    request = kind(model_spec=model_spec(model, signature))
    for value in values:
        feature = request.input.example_list.examples.add().features.feature["x"]
        feature.float_list.value.append(value)
    return request


@counted(GROUP)
def test_classify(server, stub):
    response = stub.Classify(example_request(ClassificationRequest, "classify", 2.0))
    assert response.model_spec == model_spec(HALF, "classify", version=VERSION)
    ((entry,),) = [row.classes for row in response.result.classifications]
    assert (entry.label, entry.score) == ("", 3.0)


@counted(GROUP)
def test_classify_with_classes_and_scores(server, stub):
    response = stub.Classify(example_request(ClassificationRequest, "both", 2.0, 4.0))
    rows = [[entry.label for entry in row.classes] for row in response.result.classifications]
    assert rows == [["car", "bike"]] * 2


@counted(GROUP)
def test_regress(server, stub):
    response = stub.Regress(example_request(RegressionRequest, "regress", 2.0, 4.0))
    assert response.model_spec == model_spec(HALF, "regress", version=VERSION)
    assert [row.value for row in response.result.regressions] == [3.0, 4.0]


@cases(
    GROUP,
    [
        Case("no examples", ("regress", []), WRONG),
        Case("an unknown signature to regress", ("none", [2.0]), WRONG),
        Case("to regress by a signature for classify", ("classify", [2.0]), WRONG),
        Case("to regress by a signature for predict", ("float32", [2.0]), WRONG),
    ],
)
def test_what_does_not_regress(server, stub, case):
    signature, values = case.asked
    assert code_of(lambda: stub.Regress(example_request(RegressionRequest, signature, *values))) == case.answer


@counted(GROUP)
def test_examples_with_a_context(server, stub):
    request = RegressionRequest(model_spec=model_spec(HALF, "sums"))
    given = request.input.example_list_with_context
    given.context.features.feature["n"].int64_list.value.append(2)
    for value in (1.5, 2.5):
        given.examples.add().features.feature["x"].float_list.value.append(value)
    assert [row.value for row in stub.Regress(request).result.regressions] == [2001.5, 2002.5]


def inference(*tasks, examples=(2.0,)):
    request = MultiInferenceRequest()
    for model, signature, method in tasks:
        request.tasks.add(model_spec=model_spec(model, signature), method_name=f"tensorflow/serving/{method}")
    for value in examples:
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    return request


REGRESS, CLASSIFY = (HALF, "regress", "regress"), (HALF, "classify", "classify")


@counted(GROUP)
def test_several_signatures_at_once(server, stub):
    regressed, classified = stub.MultiInference(inference(REGRESS, CLASSIFY)).results
    assert regressed.regression_result.regressions[0].value == 3.0
    assert classified.classification_result.classifications[0].classes[0].score == 3.0
    assert regressed.model_spec == model_spec(HALF, "regress", version=VERSION)
    assert classified.model_spec == model_spec(HALF, "classify", version=VERSION)


@cases(
    GROUP,
    [
        Case("a signature twice", inference(REGRESS, REGRESS), WRONG),
        Case("two models", inference(REGRESS, (JOINED, "classify", "classify")), WRONG),
        Case("predict among several", inference((HALF, "regress", "predict")), grpc.StatusCode.UNIMPLEMENTED),
        Case("an unknown signature among several", inference(REGRESS, (HALF, "none", "classify")), WRONG),
        Case("a method that does not fit", inference((HALF, "regress", "classify")), WRONG),
        Case("several of an unknown model", inference(("foo", "regress", "regress")), grpc.StatusCode.NOT_FOUND),
        Case("several without examples", inference(REGRESS, examples=()), WRONG),
    ],
)
def test_several_that_are_refused(server, stub, case):
    assert code_of(lambda: stub.MultiInference(case.asked)) == case.answer


@counted(GROUP)
def test_status(server, channel):
    request = GetModelStatusRequest(model_spec=model_spec(HALF))
    (state,) = ModelServiceStub(channel).GetModelStatus(request).model_version_status
    assert (state.version, state.state, state.status.error_code) == (VERSION, 30, 0)


@counted(GROUP)
def test_metadata(server, stub):
    request = GetModelMetadataRequest(model_spec=model_spec(HALF), metadata_field=["signature_def"])
    response, signatures = stub.GetModelMetadata(request), SignatureDefMap()
    assert response.model_spec == model_spec(HALF, version=VERSION) and list(response.metadata) == ["signature_def"]
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "regress", "__saved_model_init_op"} < set(signatures.signature_def)


@cases(
    GROUP,
    [
        Case("no metadata", [], WRONG),
        Case("other metadata", ["assets"], WRONG),
        Case("metadata and others", ["signature_def", "assets"], WRONG),
        Case("metadata twice", ["signature_def", "signature_def"], OK),
    ],
)
def test_kinds_of_metadata(server, stub, case):
    request = GetModelMetadataRequest(model_spec=model_spec(HALF), metadata_field=case.asked)
    assert code_of(lambda: stub.GetModelMetadata(request)) == case.answer


@cases(
    GROUP,
    [
        Case("health", "", health_pb2.HealthCheckResponse.SERVING),
        Case("health of the prediction service", "PredictionService", health_pb2.HealthCheckResponse.SERVING),
        Case("health of the model service", "ModelService", health_pb2.HealthCheckResponse.SERVING),
    ],
)
def test_health(server, channel, case):
    request = health_pb2.HealthCheckRequest(service=case.asked)
    assert health_pb2_grpc.HealthStub(channel).Check(request).status == case.answer


@counted(GROUP)
def test_health_of_another_service(server, channel):
    request = health_pb2.HealthCheckRequest(service="tensorflow.serving.PredictionService")
    call = health_pb2_grpc.HealthStub(channel).Check
    assert code_of(lambda: call(request)) == grpc.StatusCode.NOT_FOUND


@counted(GROUP, differs="the local server follows models.config, and nobody else can change what it serves")
def test_a_reload_without_a_configuration(server, channel):
    call = ModelServiceStub(channel).HandleReloadConfigRequest
    assert code_of(lambda: call(ReloadConfigRequest())) == WRONG


def reflected(channel, **question):
    """What server reflection answers."""
    call = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=ReflectionRequest.SerializeToString,
        response_deserializer=ReflectionResponse.FromString,
    )
    (answer,) = call(iter([ReflectionRequest(**question)]))
    return answer


@counted(GROUP)
def test_reflection_names_the_services(server, channel):
    names = {service.name for service in reflected(channel, list_services="*").list_services_response.service}
    assert {f"tensorflow.serving.{name}Service" for name in ("Model", "Prediction")} | {"grpc.health.v1.Health"} < names


@cases(
    GROUP,
    [
        Case("reflection of a service", {"file_containing_symbol": "tensorflow.serving.PredictionService"}, True),
        Case("reflection of a file", {"file_by_filename": "tensorflow_serving/apis/prediction_service.proto"}, True),
        Case("reflection of another service", {"file_containing_symbol": "shop.Service"}, False),
        Case("reflection of another file", {"file_by_filename": "shop.proto"}, False),
    ],
)
def test_reflection_of_messages(server, channel, case):
    answer = reflected(channel, **case.asked)
    found = [FileDescriptorProto.FromString(file) for file in answer.file_descriptor_response.file_descriptor_proto]
    if case.answer:
        assert "PredictRequest" in {message.name for file in found for message in file.message_type}
        imported = {name for file in found for name in file.dependency}
        assert imported <= {file.name for file in found} or server.local is None  # There each file is asked for alone.
    else:
        assert not found and answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
