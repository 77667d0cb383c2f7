"""NumPy arrays to TensorFlow's `TensorProto` and back, without TensorFlow."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from serving.client.messages_pb2 import DataType, TensorProto

#: The numeric types, with the NumPy type of their elements as bytes. NumPy lacks bfloat16; its bits are read as uint16.
_BITS: dict[int, np.dtype] = {
    DataType.DT_FLOAT: np.dtype("<f4"),
    DataType.DT_DOUBLE: np.dtype("<f8"),
    DataType.DT_HALF: np.dtype("<f2"),
    DataType.DT_BFLOAT16: np.dtype("<u2"),
    DataType.DT_INT8: np.dtype("i1"),
    DataType.DT_INT16: np.dtype("<i2"),
    DataType.DT_INT32: np.dtype("<i4"),
    DataType.DT_INT64: np.dtype("<i8"),
    DataType.DT_UINT8: np.dtype("u1"),
    DataType.DT_UINT16: np.dtype("<u2"),
    DataType.DT_UINT32: np.dtype("<u4"),
    DataType.DT_UINT64: np.dtype("<u8"),
    DataType.DT_BOOL: np.dtype("?"),
    DataType.DT_COMPLEX64: np.dtype("<c8"),
    DataType.DT_COMPLEX128: np.dtype("<c16"),
}
_BY_NAME: dict[str, int] = {bits.name: dtype for dtype, bits in _BITS.items() if dtype != DataType.DT_BFLOAT16}
_BY_NAME["bfloat16"] = DataType.DT_BFLOAT16  # The name that the package ml_dtypes gives to its type.


class TensorError(ValueError):
    """An array that no tensor can hold, or a message that is not a tensor."""


def to_proto(array: np.ndarray) -> TensorProto:
    """A message with the type, the shape and the elements of an array.

    Args:
        array: numbers, booleans, or strings. Strings are an array of objects (bytes or str), of bytes or of str. A
            bfloat16 array of the package ml_dtypes is sent as bfloat16.

    Raises:
        TensorError: TensorFlow has no such type, or an object is neither bytes nor str.

    >>> to_proto(np.array([1.5, 2.5], np.float32)).tensor_content.hex()
    '0000c03f00002040'
    """
    if not isinstance(array, np.ndarray | np.generic):
        raise TensorError(f"must be a NumPy array, but is {type(array).__name__}; make one with np.asarray")
    proto = TensorProto()
    proto.tensor_shape.SetInParent()  # A scalar has a shape, too.
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "OSU":
        proto.dtype = DataType.DT_STRING
        proto.string_val.extend(_bytes(element, place) for place, element in enumerate(array.ravel().tolist()))
        return proto
    dtype = _BY_NAME.get(array.dtype.name)
    if dtype is None:
        raise TensorError(f"has the type {array.dtype}, which TensorFlow does not have")
    proto.dtype = dtype  # type: ignore[assignment]  # The stubs have a class for enumerations; they are plain numbers.
    # On the wire numbers are little-endian.
    proto.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return proto


def to_array(proto: TensorProto) -> np.ndarray:
    """The array of a message. Strings are an array of objects (bytes); bfloat16 becomes float32, which loses nothing.

    Raises:
        TensorError: the type is none of those that `to_proto` sends, the shape is unknown, or the number of elements
            does not fit the shape.

    >>> to_array(TensorProto(dtype=DataType.DT_INT64, int64_val=[7]))
    array(7)
    """
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise TensorError("has a shape that is not known")
    try:
        if proto.dtype == DataType.DT_STRING:
            return _strings(proto.string_val, shape)
        if proto.dtype not in _BITS:
            raise TensorError(f"has the type {_name(proto.dtype)}, which the client cannot read")
        bits = _BITS[proto.dtype]
        if proto.tensor_content:
            values = _content(proto.tensor_content, bits, shape)
        else:
            values = _repeated(_values(proto, bits), shape)
    except (MemoryError, ValueError) as error:
        if isinstance(error, TensorError):
            raise
        raise TensorError(f"has the shape {shape}, which does not fit into memory") from error
    if proto.dtype == DataType.DT_BFLOAT16:  # A bfloat16 is the upper half of a float32.
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(bits.newbyteorder("="), copy=False)


def to_protos(arrays: Mapping[str, np.ndarray], kind: str) -> dict[str, TensorProto]:
    """The messages of named arrays. As `to_proto`; a `TensorError` begins with `kind` and the name."""
    protos = {}
    for name, array in arrays.items():
        try:
            protos[name] = to_proto(array)
        except TensorError as error:
            raise TensorError(f"{kind} '{name}' {error}") from error
    return protos


def to_arrays(protos: Mapping[str, TensorProto], kind: str) -> dict[str, np.ndarray]:
    """The arrays of named messages. As `to_array`; a `TensorError` begins with `kind` and the name."""
    arrays = {}
    for name, proto in protos.items():
        try:
            arrays[name] = to_array(proto)
        except TensorError as error:
            raise TensorError(f"{kind} '{name}' {error}") from error
    return arrays


def _bytes(element: object, place: int) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes):
        return element
    raise TensorError(f"must hold bytes or str, but element {place} is {type(element).__name__}")


def _name(dtype: int) -> str:
    return DataType.Name(dtype) if dtype in DataType.values() else f"number {dtype}"


def _strings(values: Sequence[bytes], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = list(values)
    return _repeated(array, shape, empty=b"")


def _content(content: bytes, bits: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if len(content) != math.prod(shape) * bits.itemsize:
        raise TensorError(
            f"has {len(content)} bytes, but {math.prod(shape) * bits.itemsize} are needed for {bits} {shape}"
        )
    return np.frombuffer(content, bits).reshape(shape).copy()


def _values(proto: TensorProto, bits: np.dtype) -> np.ndarray:
    """The elements of the field that belongs to the type, as [n] `bits`."""
    match proto.dtype:
        case DataType.DT_FLOAT:
            return np.array(proto.float_val, bits)
        case DataType.DT_DOUBLE:
            return np.array(proto.double_val, bits)
        case DataType.DT_COMPLEX64:
            return _pairs(proto.scomplex_val, np.dtype("<f4"), bits)
        case DataType.DT_COMPLEX128:
            return _pairs(proto.dcomplex_val, np.dtype("<f8"), bits)
        case DataType.DT_BOOL:
            return np.array(proto.bool_val, bits)
        case DataType.DT_HALF | DataType.DT_BFLOAT16:
            return _integers(proto.half_val, np.dtype("<u2")).view(bits)
        case DataType.DT_INT64:
            return np.array(proto.int64_val, bits)
        case DataType.DT_UINT32:
            return np.array(proto.uint32_val, bits)
        case DataType.DT_UINT64:
            return np.array(proto.uint64_val, bits)
        case _:
            return _integers(proto.int_val, bits)


def _integers(values: Sequence[int], bits: np.dtype) -> np.ndarray:
    """Elements of a field that is wider than they are."""
    wide, limits = np.array(values, np.int32), np.iinfo(bits)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise TensorError(f"holds values from {wide.min()} to {wide.max()}, which do not fit into {bits}")
    return wide.astype(bits)


def _pairs(values: Sequence[float], part: np.dtype, bits: np.dtype) -> np.ndarray:
    if len(values) % 2:
        raise TensorError(f"has {len(values)} real and imaginary parts, which are no pairs")
    return np.array(values, part).view(bits)


def _repeated(values: np.ndarray, shape: tuple[int, ...], empty: object = 0) -> np.ndarray:
    """The elements in their shape. TensorFlow may leave out the last ones where they are all equal."""
    size = math.prod(shape)
    if len(values) > size:
        raise TensorError(f"has {len(values)} elements, but the shape {shape} has room for {size}")
    if len(values) == size:
        return values.reshape(shape)
    array = np.full(size, values[-1] if len(values) else empty, values.dtype)
    array[: len(values)] = values
    return array.reshape(shape)
