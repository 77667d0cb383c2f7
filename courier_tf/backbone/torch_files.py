"""Reads the tensors of PyTorch files (.pth, .pt) without PyTorch, and without running anything that they hold.

Such a file is a pickle, which is a program: it may name any function and call it. Here its instructions are carried
out by an interpreter that knows no functions. It builds numbers, texts, containers, and descriptions of tensors; any
other name is refused. Both forms are read: the zip archive (since PyTorch 1.6), and the row of pickles before it.
"""

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from courier_tf.escaping import printable

MAGIC = 0x1950A86A20F9469CFC6C  # The first pickle of the older form.


class TorchFileError(ValueError):
    """A file holds no tensors that can be read; the message is the reason."""


class _Global(NamedTuple):
    """The name of something that a pickle wants to call. It is compared, and never looked up."""

    module: str
    name: str


class _Storage(NamedTuple):
    """Numbers that tensors share, still in the file."""

    key: str
    kind: str  # A key of `STORAGES`.
    numbers: int  # How many.


class _Tensor(NamedTuple):
    """A view of a storage. Offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


#: Kind of storage -> how its numbers lie in the file. bfloat16 is the upper half of a float32.
STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_DICT = _Global("collections", "OrderedDict")
_MARK = object()
_TORCH = "torch._utils"

#: What is put on the stack as it stands in the file.
_PLAIN = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}


def read_torch_file(file: Path) -> Any:
    """What `torch.save` wrote: dictionaries, lists and the like, with NumPy arrays in place of tensors.

    Args:
        file: a .pth or .pt file. Floats of any width become float32, other numbers stay.

    Raises:
        TorchFileError: it is none, it is cut, or it holds something else than data.
        OSError: it cannot be opened.
    """
    with file.open("rb") as stream:
        try:
            return _from_zip(stream) if zipfile.is_zipfile(stream) else _from_pickles(stream)
        except TorchFileError:
            raise
        # Of bytes in any order, so all errors of the parsers may come.
        except Exception as error:
            reason = printable(str(error) or type(error).__name__)
            raise TorchFileError(f"it is no PyTorch file, or it is damaged ({reason})") from error


def _from_zip(stream: Any) -> Any:
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise TorchFileError("it is a zip file, but not one that PyTorch wrote (it needs one data.pkl)")
        folder = pickles[0].removesuffix("data.pkl")

        def record(name: str) -> bytes:
            # PyTorch does not compress. So no small file can unpack to a large one.
            if archive.getinfo(folder + name).compress_type != zipfile.ZIP_STORED:
                raise TorchFileError(f"its part {name} is compressed, which PyTorch never does")
            return archive.read(folder + name)

        order = record("byteorder").decode() if folder + "byteorder" in names else "little"
        content = _Interpreter(io.BytesIO(record("data.pkl"))).run()
        return _Arrays(lambda storage: record(f"data/{storage.key}"), "<" if order == "little" else ">").fill(content)


def _from_pickles(stream: Any) -> Any:
    stream.seek(0)
    if _Interpreter(stream).run() != MAGIC:
        raise TorchFileError("it is no PyTorch file")
    _Interpreter(stream).run()  # The version of the form, which was always the same.
    system = _Interpreter(stream).run()
    reader = _Interpreter(stream)
    content = reader.run()
    keys = _Interpreter(stream).run()
    parts: dict[str, bytes] = {}
    for key in keys:
        storage = reader.storages.get(key)
        if storage is None:
            raise TorchFileError(f"it has no type for its part {printable(key)}")
        (count,) = struct.unpack("<q", stream.read(8))
        if count != storage.numbers:
            raise TorchFileError(f"its part {printable(key)} has {count} numbers instead of {storage.numbers}")
        parts[key] = _exactly(stream, count * np.dtype(STORAGES[storage.kind]).itemsize)
    order = "<" if system.get("little_endian", True) else ">"
    return _Arrays(lambda storage: parts[storage.key], order).fill(content)


def _exactly(stream: Any, size: int) -> bytes:
    """The next bytes of a file. Asked for more than there is, `read` would first take the memory."""
    here = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    stream.seek(here)
    if not 0 <= size <= end - here:
        raise TorchFileError("it is cut")
    content: bytes = stream.read(size)
    return content


class _Interpreter:
    """Carries out one pickle. Nothing that the pickle names is imported or called.

    Args:
        stream: where the pickle begins; afterwards, where it ends.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self) -> Any:
        """The object that the pickle describes, with `_Tensor` in place of tensors."""
        for opcode, argument, _ in pickletools.genops(self.stream):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise TorchFileError("it is cut")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _PLAIN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            number = int(name[-1])
            stack[-number:] = [tuple(stack[-number:])]
        elif name in ("APPEND", "APPENDS"):
            items = self._to_mark() if name == "APPENDS" else [stack.pop()]
            _require(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            _set_items(_require(stack[-1], dict), items)
        elif name == "GLOBAL":
            stack.append(_Global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [_Global(*(_require(part, str) for part in stack[-2:]))]
        elif name == "REDUCE":
            function, arguments = stack[-2:]
            stack[-2:] = [_call(function, _require(arguments, tuple))]
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "BUILD":
            # Of a state dict: the versions of its modules, which say nothing of the tensors.
            stack.pop()
            _require(stack[-1], dict)
        elif name not in ("PROTO", "FRAME"):
            raise TorchFileError(f"it holds more than data (the instruction {name})")

    def _to_mark(self) -> list[Any]:
        """Takes what stands above the last mark off the stack, and the mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise TorchFileError("it is damaged")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _storage(self, name: Any) -> _Storage:
        """The storage that a pickle refers to: ("storage", type, key, device, number of elements[, None])."""
        _, kind, key, _, count, *view = _require(name, tuple)
        if name[0] != "storage" or not isinstance(kind, _Global) or any(part is not None for part in view):
            raise TorchFileError("it refers to something that is no storage")
        if kind.module != "torch" or kind.name not in STORAGES:
            raise TorchFileError(f"it holds numbers of an unknown type ({printable('.'.join(kind))})")
        storage = _Storage(_require(key, str), kind.name, _require(count, int))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise TorchFileError(f"its part {printable(storage.key)} has two types")
        return storage


def _call(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What one of the few known functions would return: here, descriptions of it."""
    if function == _DICT:
        made: dict[Any, Any] = {}
        for pair in arguments[0] if arguments else ():
            _set_items(made, pair)
        return made
    if function == (_TORCH, "_rebuild_parameter"):  # (data, whether it learns, hooks)
        return _require(arguments[0], _Tensor)
    if function in ((_TORCH, "_rebuild_tensor"), (_TORCH, "_rebuild_tensor_v2")):
        storage, offset, shape, strides = arguments[:4]
        sizes = [_require(number, int) for numbers in (shape, strides) for number in _require(numbers, tuple)]
        if len(shape) != len(strides) or min([offset, *sizes]) < 0:
            raise TorchFileError("a tensor of it has no possible shape")
        return _Tensor(_require(storage, _Storage), _require(offset, int), shape, strides)
    what = ".".join(function) if isinstance(function, _Global) else type(function).__name__
    raise TorchFileError(f"it holds more than data: it wants to call {printable(what)}, which is not done")


def _set_items(target: dict[Any, Any], items: Any) -> None:
    """Keys and values in turn. Names and numbers alone are keys: the hash of nested tuples may take for ever."""
    if len(items) % 2:
        raise TorchFileError("it is damaged")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_require(key, str, int)] = value


def _require(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TorchFileError(f"it is damaged, or holds more than data (a {type(value).__name__} at a wrong place)")
    return value


class _Arrays:
    """Turns descriptions of tensors into arrays.

    Args:
        part: gives the bytes of a storage.
        order: "<" or ">", the order of their bytes.
    """

    def __init__(self, part: Callable[[_Storage], bytes], order: str) -> None:
        self.part, self.order = part, order
        self.known: dict[int, Any] = {}

    def fill(self, content: Any) -> Any:
        """The same containers with arrays in them. A container that stands at several places is filled once."""
        if id(content) in self.known:
            return self.known[id(content)]
        filled: Any = content
        if isinstance(content, _Tensor):
            filled = self._array(content)
        elif type(content) is dict:
            filled = self.known[id(content)] = {}
            filled.update({key: self.fill(value) for key, value in content.items()})
        elif type(content) in (list, tuple):
            filled = type(content)(self.fill(value) for value in content)
        self.known[id(content)] = filled
        return filled

    def _array(self, tensor: _Tensor) -> np.ndarray:
        kind = np.dtype(self.order + STORAGES[tensor.storage.kind])
        part = self.part(tensor.storage)
        furthest = tensor.offset + sum(
            (size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True)
        )
        elements = math.prod(tensor.shape)
        # More elements than numbers would be repeats, by which a small file could fill the memory.
        if elements and (furthest >= len(part) // kind.itemsize or elements > len(part) // kind.itemsize):
            raise TorchFileError(f"a tensor of {elements} numbers reaches beyond its part, which has {len(part)} bytes")
        if not elements:
            values = np.zeros(tensor.shape, kind)
        else:
            numbers = np.frombuffer(part, kind, len(part) // kind.itemsize)[tensor.offset :]
            steps = [step * kind.itemsize for step in tensor.strides]
            values = np.lib.stride_tricks.as_strided(numbers, tensor.shape, steps, writeable=False)
        if tensor.storage.kind == "BFloat16Storage":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32 if kind.kind == "f" else kind.newbyteorder("="))
