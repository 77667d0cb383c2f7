"""JSON files that somebody has edited: one line names the field and the value."""

import dataclasses
import json
import os

import pytest

from courier_tf.typed_json import JsonError, fields_of, parse_json, read_json, require_kind


@dataclasses.dataclass(frozen=True)
class Thing:
    number: int
    share: float = 0.5
    names: tuple[str, ...] = ()
    maybe: tuple[int, ...] | None = None
    switch: bool = False


def test_what_a_dataclass_writes_is_read_back():
    for thing in (Thing(1), Thing(2, 3, ("a", "b"), (1, 2), True)):
        assert fields_of(Thing, json.loads(json.dumps(dataclasses.asdict(thing)))) == thing


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"number": "7"}, "thing.number='7': str is not an instance of int"),
        ({"number": 7.5}, "thing.number=7.5"),
        ({"number": True}, "thing.number=True: bool is not a number"),
        ({"number": None}, "thing.number=None"),
        ({"number": [7]}, r"thing.number=\[7\]"),
        ({"number": 1, "share": "0.5"}, "thing.share='0.5'"),
        ({"number": 1, "names": "ab"}, "thing.names='ab'"),
        ({"number": 1, "names": ["a", 1]}, r"thing.names=\['a', 1\]: item 1 of"),
        ({"number": 1, "maybe": ["1"]}, r"thing.maybe=\['1'\]"),
        ({"number": 1, "switch": 1}, "thing.switch=1"),
        ({"number": 1, "\x1b[2J": 1}, r"there is no field thing\.\\x1b\[2J"),
        ({"share": 1}, "the field thing.number is missing"),
        ([1], r"thing must be an object, but is \[1\]"),
        ({"number": "x" * 100_000}, r"thing.number='x{199}\.\.\. \(100,002 characters\): str"),
    ],
)
def test_a_value_of_another_kind_is_refused(values, told):
    with pytest.raises(JsonError, match=told):
        fields_of(Thing, values, "thing")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is no JSON: Expecting value"),
        (b'{"a": 1', "it is no JSON"),
        (b"\xff{}", "it is no UTF-8: .* at byte 0"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "'c' stands there twice"),
    ],
)
def test_a_file_that_is_broken_says_how(tmp_path, content, told):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(JsonError, match=told):
        read_json(tmp_path / "file")


def test_a_named_pipe_or_device_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(JsonError, match="no regular file"):
            read_json(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nowhere")


def test_numbers_are_no_booleans_and_may_be_whole():
    require_kind("x", 1, float)
    require_kind("x", True, bool | int)
    assert parse_json('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
