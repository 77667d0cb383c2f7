"""Arrays to messages and back, with TensorFlow and its protos as the oracle."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor_pb2 import DescriptorProto
from tensorflow.core.framework.tensor_pb2 import TensorProto as TensorFlowProto
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2, prediction_log_pb2

from serving.client import messages_pb2
from serving.client.messages_pb2 import DataType, PredictResponse, TensorProto
from serving.client.tensors import TensorError, to_array, to_arrays, to_proto, to_protos

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
NUMBERS = [*INTEGERS, "float16", "float32", "float64", "bool", "complex64", "complex128"]
SHAPES = [(), (0,), (1,), (7,), (2, 3), (4, 0, 2), (1, 1, 1, 1), (3, 1, 5)]


def numbers(dtype, shape, rng):
    """Random bytes as elements, with all that a type can hold; for booleans and floats random values."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype)[..., 0]
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    parts = rng.normal(size=shape) + (1j * rng.normal(size=shape) if dtype.kind == "c" else 0)
    return np.asarray(parts).astype(dtype)


def strings(shape, rng):
    array = np.empty(int(np.prod(shape)), object)
    array[:] = [rng.bytes(int(size)) for size in rng.integers(0, 9, array.size)]
    return array.reshape(shape)


def equal(array, expected):
    assert array.dtype == expected.dtype and array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("dtype", [*NUMBERS, "string"])
def test_tensorflow_reads_what_the_client_sends_and_the_other_way_round(dtype):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        array = strings(shape, rng) if dtype == "string" else numbers(dtype, shape, rng)
        sent = to_proto(array).SerializeToString()
        equal(tf.make_ndarray(TensorFlowProto.FromString(sent)), array)
        tensor = tf.io.parse_tensor(sent, tf.as_dtype(dtype))  # TensorFlow's C++ side, which the server uses.
        equal(tensor.numpy() if shape else np.asarray(tensor.numpy(), array.dtype), array)
        equal(to_array(TensorProto.FromString(tf.make_tensor_proto(array).SerializeToString())), array)
        equal(to_array(TensorProto.FromString(tf.io.serialize_tensor(array).numpy())), array)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_elements_in_the_fields_of_their_type(dtype):
    """Fewer elements than the shape has room for: the last one is repeated; none: zeros."""
    rng, field = np.random.default_rng(1), FIELDS[dtype]
    for given in (0, 1, 4, 6):
        values = numbers(dtype, (given,), rng)
        proto = TensorFlowProto(dtype=tf.as_dtype(dtype).as_datatype_enum)
        proto.tensor_shape.dim.add(size=2)
        proto.tensor_shape.dim.add(size=3)
        if dtype == "float16":
            values_in_field = values.view(np.uint16)
        elif dtype.startswith("complex"):
            values_in_field = np.stack([values.real, values.imag], 1).ravel()
        else:
            values_in_field = values
        getattr(proto, field).extend(values_in_field.tolist())
        equal(to_array(TensorProto.FromString(proto.SerializeToString())), tf.make_ndarray(proto))


FIELDS = {
    **dict.fromkeys(["int8", "int16", "int32", "uint8", "uint16"], "int_val"),
    "float16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
}


def test_strings_are_repeated_too():
    proto = TensorProto(dtype=DataType.DT_STRING, string_val=[b"a", b"b"])
    proto.tensor_shape.dim.add(size=4)
    assert to_array(proto).tolist() == [b"a", b"b", b"b", b"b"]
    del proto.string_val[:]
    assert to_array(proto).tolist() == [b""] * 4


def test_bfloat16_becomes_float32_and_is_sent_as_it_is():
    values = tf.cast(tf.constant([[1.0, -3.14], [1e38, 0.0]]), tf.bfloat16)
    for sent in (tf.io.serialize_tensor(values).numpy(), tf.make_tensor_proto(values).SerializeToString()):
        equal(to_array(TensorProto.FromString(sent)), tf.cast(values, tf.float32).numpy())
    again = tf.io.parse_tensor(to_proto(values.numpy()).SerializeToString(), tf.bfloat16)
    np.testing.assert_array_equal(again.numpy(), values.numpy())


def test_strings_of_every_kind_and_bytes_of_every_order():
    for array in (np.array(["ä", "b"]), np.array(["ä", "b"], object), np.array(["ä".encode(), b"b"])):
        assert to_array(to_proto(array)).tolist() == ["ä".encode(), b"b"]
    equal(to_array(to_proto(np.array([1, 258], ">i4"))), np.array([1, 258], np.int32))
    equal(to_array(to_proto(np.arange(6).reshape(2, 3).T)), np.arange(6).reshape(2, 3).T)
    equal(to_array(to_proto(np.float32(0.5))), np.array(0.5, np.float32))
    to_array(to_proto(np.zeros(3)))[0] = 1  # The array belongs to the caller.


@pytest.mark.parametrize(
    "array, message",
    [
        ([1, 2], "must be a NumPy array, but is list"),
        (np.zeros(2, "datetime64[s]"), r"type datetime64\[s\], which TensorFlow does not have"),
        (np.array([b"a", 3], object), "element 1 is int"),
    ],
)
def test_arrays_that_no_tensor_can_hold(array, message):
    with pytest.raises(TensorError, match=f"input 'x'.*{message}"):
        to_protos({"x": array}, "input")


def tensor(dtype, *shape, **fields):
    proto = TensorProto(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    "proto, message",
    [
        (tensor(DataType.DT_INVALID, 1), "type DT_INVALID"),
        (tensor(20, 1), "type number 20"),  # A resource.
        (tensor(DataType.DT_FLOAT, -1), "not known"),
        (TensorProto(dtype=DataType.DT_FLOAT, tensor_shape={"unknown_rank": True}), "not known"),
        (tensor(DataType.DT_FLOAT, 2, float_val=[1, 2, 3]), "3 elements, but the shape .* room for 2"),
        (tensor(DataType.DT_STRING, string_val=[b"a", b"b"]), "2 elements, but the shape .* room for 1"),
        (tensor(DataType.DT_FLOAT, 2, tensor_content=b"123"), "3 bytes, but 8 are needed"),
        (tensor(DataType.DT_UINT8, 2, int_val=[1, 256]), "holds values from 1 to 256, which do not fit into uint8"),
        (tensor(DataType.DT_HALF, 1, half_val=[-1]), "holds values from -1 to -1"),
        (tensor(DataType.DT_COMPLEX64, 2, scomplex_val=[1, 2, 3]), "no pairs"),
        (tensor(DataType.DT_FLOAT, 2**40, 2**40, float_val=[1]), "does not fit into memory"),
        (tensor(DataType.DT_FLOAT, 2**60, float_val=[1]), "does not fit into memory"),
    ],
)
def test_messages_that_are_no_tensors(proto, message):
    with pytest.raises(TensorError, match=f"^output 'y' .*{message}"):
        to_arrays({"y": proto}, "output")


ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "ids": np.array([b"i1", b"\xff"], object)}
SPEC = {"name": "m", "signature_name": "s", "version_label": "stable"}


def pairs():
    """(message of the client, message of TensorFlow Serving) with the same content."""
    theirs = {name: tf.make_tensor_proto(array) for name, array in ARRAYS.items()}
    ours = {name: TensorProto.FromString(proto.SerializeToString()) for name, proto in theirs.items()}
    their_request = predict_pb2.PredictRequest(model_spec=SPEC, inputs=theirs)
    our_request = messages_pb2.PredictRequest(model_spec=SPEC, inputs=ours)
    their_response, our_response = predict_pb2.PredictResponse(outputs=theirs), PredictResponse(outputs=ours)
    their_log = prediction_log_pb2.PredictLog(request=their_request, response=their_response)
    our_log = messages_pb2.PredictLog(request=our_request, response=our_response)
    states = [{"version": 3, "state": "AVAILABLE"}, {"version": 2**40, "state": "END"}]
    return [
        (our_request, their_request),
        (our_response, their_response),
        (messages_pb2.PredictionLog(predict_log=our_log), prediction_log_pb2.PredictionLog(predict_log=their_log)),
        *[
            (getattr(messages_pb2, name)(**content), getattr(get_model_status_pb2, name)(**content))
            for name, content in (
                ("GetModelStatusRequest", {"model_spec": SPEC}),
                ("GetModelStatusResponse", {"model_version_status": states}),
            )
        ],
    ]


def test_the_messages_are_tensorflow_servings_byte_by_byte():
    for ours, theirs in pairs():
        content = theirs.SerializeToString(deterministic=True)
        assert ours.SerializeToString(deterministic=True) == content and len(content) > 4
        assert type(ours).FromString(content) == ours and type(theirs).FromString(content) == theirs


def label_of(field):
    """Whether a field is repeated, and so on. Newer releases of protobuf warn of `field.label`."""
    message = DescriptorProto()
    field.containing_type.CopyToProto(message)
    return next(described.label for described in message.field if described.number == field.number)


def test_every_field_is_one_of_tensorflow_servings():
    """With the same number, type and name; but for what our logs add, which has a number that they do not use."""
    compared = set()

    def compare(ours, theirs):
        for field in ours.fields:
            if field.full_name == "courier.client.PredictionLog.call":
                assert field.number > 100 and field.number not in theirs.fields_by_number
                continue
            same = theirs.fields_by_number[field.number]
            assert (field.name, field.type, label_of(field)) == (same.name, same.type, label_of(same))
            if field.enum_type:
                values = {value.number: value.name for value in same.enum_type.values}
                assert {value.number: value.name for value in field.enum_type.values}.items() <= values.items()
            if field.message_type:
                compare(field.message_type, same.message_type)
            compared.add(field.full_name)

    for ours, theirs in pairs():
        compare(ours.DESCRIPTOR, theirs.DESCRIPTOR)
    assert {"courier.client.TensorProto.half_val", "courier.client.ModelSpec.version_label"} <= compared
