"""Translates tensors of the gRPC API to arrays and back, field by field as the C++ of TensorFlow does."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving.bundle.messages import MessageError

MOST_BYTES = 1 << 31  # Of one tensor. A message of a few bytes may name a shape of any size.
#: Type -> field that holds its elements.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    **dict.fromkeys((tf.int8, tf.uint8, tf.int16, tf.uint16, tf.int32), "int_val"),
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
}


def to_proto(array: np.ndarray) -> TensorProto:
    """A message with one value for each element, in the field of their type: clients of others read no other.

    >>> to_proto(np.array([0.5, 2], np.float32)).float_val
    [0.5, 2.0]
    """
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    proto = TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.SetInParent()  # A scalar has a shape, too.
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if dtype in (tf.float16, tf.bfloat16):
        flat = flat.view(np.uint16)
    elif dtype.is_complex:
        flat = flat.view(dtype.real_dtype.as_numpy_dtype)
    getattr(proto, _FIELDS[dtype]).extend(flat.tolist())
    return proto


def to_array(name: str, proto: TensorProto) -> np.ndarray:
    """Reads a tensor. Where there are fewer values than elements, the last one stands for the rest.

    Raises:
        MessageError: it is none; the text begins with `name`.
    """
    try:
        dtype = tf.as_dtype(proto.dtype)
    except TypeError as error:
        raise MessageError(f"{name} is not a tensor: {error}") from error
    if dtype not in _FIELDS:
        raise MessageError(f"{name} is not a tensor: there are none of the type {dtype.name}")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    count = math.prod(shape)
    size = np.dtype(dtype.as_numpy_dtype).itemsize  # Of a string, that of a reference.
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0 or count * size > MOST_BYTES:
        raise MessageError(f"{name} is not a tensor: its shape is {shape}")
    if proto.tensor_content:
        values = _content(proto.tensor_content, dtype)
        if len(values) != count:
            raise MessageError(f"{name} is not a tensor: the shape {shape} holds {count} elements, not {len(values)}")
    else:
        values = _values(proto, dtype, count)
    try:
        return values.reshape(shape)
    except ValueError as error:  # NumPy has fewer axes than TensorFlow.
        raise MessageError(f"{name} is not a tensor: {error}") from error


def _content(content: bytes, dtype: tf.DType) -> np.ndarray:
    """Elements that lie together; too few, where the content has no whole number of them."""
    if dtype == tf.string:
        return np.empty(0, object)  # TensorFlow reads these too, but no client is known to write them.
    if len(content) % dtype.size:
        return np.empty(0, dtype.as_numpy_dtype)
    return np.frombuffer(content, dtype.as_numpy_dtype)


def _values(proto: TensorProto, dtype: tf.DType, count: int) -> np.ndarray:
    values = getattr(proto, _FIELDS[dtype])[: 2 * count if dtype.is_complex else count]
    if dtype == tf.string:
        array = np.empty(count, object)
        array[: len(values)], array[len(values) :] = values, values[-1] if values else b""
        return array
    if dtype in (tf.float16, tf.bfloat16):
        array = np.array(values, np.uint16).view(dtype.as_numpy_dtype)
    elif dtype.is_complex:
        array = np.array(values[: len(values) // 2 * 2], dtype.real_dtype.as_numpy_dtype).view(dtype.as_numpy_dtype)
    elif _FIELDS[dtype] == "int_val":  # Numbers of more bits than the type has are cut.
        array = np.array(values, np.int32).astype(dtype.as_numpy_dtype)
    else:
        array = np.array(values, dtype.as_numpy_dtype)
    return np.concatenate([array, np.full(count - len(array), array[-1] if len(array) else 0, dtype.as_numpy_dtype)])
