"""The file layer against a server that speaks S3, and the same calls on a local folder."""

import itertools
import json
import os
import random
import socket

import pytest

from courier_tf.files import transfer
from courier_tf.files.lock import LockedError, only_writer
from courier_tf.files.places import MissingFileError, StoreError, place_of
from tests.object_stores import store

NUMBER = itertools.count()


@pytest.fixture(scope="module")
def bucket():
    with store("s3") as root:
        yield root


@pytest.fixture(scope="module")
def google():
    with store("gs") as root:
        yield root


@pytest.fixture(params=["local", "bucket", "google"])
def folder(request, tmp_path):
    """An empty folder, here and there."""
    if request.param == "local":
        return tmp_path / "folder"
    return place_of(f"{request.getfixturevalue(request.param)}/folder {next(NUMBER)}")


NAMES = ["a.txt", "b/c.bin", "b/[x] *?.txt", "b/d/å#%20.bin", "b.txt"]


def random_files(seed):
    draw = random.Random(seed)
    return {name: draw.randbytes(draw.randrange(200_000)) for name in NAMES}


def test_what_is_written_is_listed_and_read(folder):
    files = random_files(0) | {"empty": b""}
    for name, content in files.items():
        transfer.write_bytes(folder / name, content)
    listed = transfer.files_below(folder)
    assert {entry.name: entry.size for entry in listed} == {name: len(content) for name, content in files.items()}
    assert [entry.name for entry in listed] == sorted(files)
    assert transfer.names_in(folder) == ["a.txt", "b.txt", "b/", "empty"]
    for name, content in files.items():
        assert transfer.exists(folder / name)
        assert transfer.size_of(folder / name) == len(content)
        assert transfer.read_bytes(folder / name) == content
        assert transfer.read_bytes(folder / name, 10) == content[:10]
    with transfer.open_file(folder / "b/c.bin") as stream:
        stream.seek(100)
        assert stream.read(50) == files["b/c.bin"][100:150]
        stream.seek(-3, os.SEEK_END)
        assert stream.read() == files["b/c.bin"][-3:]


def test_a_file_is_replaced_as_a_whole(folder):
    transfer.write_bytes(folder / "x", b"long before")
    transfer.write_bytes(folder / "x", b"after")
    assert transfer.read_bytes(folder / "x") == b"after"
    with pytest.raises(ZeroDivisionError), transfer.written_aside(folder / "x") as aside:
        aside.write_bytes(b"half")
        raise ZeroDivisionError
    assert [entry.name for entry in transfer.files_below(folder)] == ["x"]
    with transfer.written_aside(folder / "y/z") as aside:
        aside.write_bytes(b"whole")
    assert transfer.read_bytes(folder / "y/z") == b"whole"


def test_folders_travel_both_ways_and_are_removed(folder, tmp_path):
    files = random_files(1)
    for name, content in files.items():
        transfer.write_bytes(tmp_path / "here" / name, content)
    transfer.upload(tmp_path / "here", folder / "there")
    transfer.write_bytes(folder / "there too/x", b"x")  # Its name begins like that of the folder.
    transfer.fetch(folder / "there", tmp_path / "back")
    back = {path.relative_to(tmp_path / "back").as_posix(): path for path in (tmp_path / "back").rglob("*.*")}
    assert {name: path.read_bytes() for name, path in back.items()} == files
    with transfer.local_copy(folder / "there/b") as copy:
        assert (copy / "c.bin").read_bytes() == files["b/c.bin"]
    with transfer.local_copy(folder / "there/a.txt") as copy:
        assert copy.name == "a.txt" and copy.read_bytes() == files["a.txt"]
    transfer.remove(folder / "there/a.txt")
    assert not transfer.exists(folder / "there/a.txt") and transfer.exists(folder / "there/b/c.bin")
    transfer.remove(folder / "there")
    assert [entry.name for entry in transfer.files_below(folder)] == ["there too/x"]
    transfer.remove(folder / "there")  # There is none.
    transfer.write_bytes(folder / "alone/x", b"x")
    transfer.remove(folder / "alone")
    assert not transfer.exists(folder / "alone/x")


def test_what_is_not_there(folder):
    assert not transfer.exists(folder / "none")
    assert transfer.files_below(folder / "none") == [] == transfer.names_in(folder / "none")
    with pytest.raises((FileNotFoundError, MissingFileError)) as caught:
        transfer.read_bytes(folder / "none")
    assert "none" in str(caught.value)


def test_errors_of_a_store_are_one_line_that_names_the_place(bucket, monkeypatch):
    with pytest.raises(StoreError, match=r"^s3://no-such/x: there is no such bucket$"):
        transfer.write_bytes(place_of("s3://no-such/x"), b"")
    with pytest.raises(StoreError, match=r"^s3://no-such/x: there is no such bucket$"):
        transfer.require_bucket(place_of("s3://no-such/x"))
    transfer.require_bucket(place_of(f"{bucket}/x"))
    with pytest.raises(StoreError, match="a whole bucket"):
        transfer.remove(place_of(bucket))
    with socket.socket() as taken:  # Nobody listens there.
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StoreError, match=r"^s3://other/x: the store does not answer: look at the network"):
            transfer.write_bytes(place_of("s3://other/x"), b"")


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("When listing: AWS Error ACCESS_DENIED during ListObjectsV2 operation: Access Denied", "permission denied"),
        ("AWS Error UNKNOWN (HTTP status 403) during HeadObject operation: No response body.", "permission denied"),
        ("Unable to load libjvm: libjvm.so: cannot open shared object file", "HDFS needs Java"),
        ("Something\nelse", "Something else"),
    ],
)
def test_reasons_of_a_store_say_what_to_do(words, meaning):
    assert transfer.reason_of(OSError(words)).startswith(meaning)


def test_one_writer_at_a_time(bucket):
    lock, target = place_of(f"{bucket}/w/.ingest.lock"), place_of(f"{bucket}/w/ingest")
    with only_writer(lock, target):
        with (
            pytest.raises(LockedError, match=rf"^{target} is being written by process {os.getpid()} of .* on ") as told,
            only_writer(lock, target),
        ):
            pass
        (ticket,) = transfer.files_below(lock)
        assert str(told.value).endswith(f"If it is gone, remove {lock / ticket.name}")
    with only_writer(lock, target):  # It was given back.
        pass
    assert transfer.files_below(lock) == []


def test_the_lock_of_a_process_that_was_killed_here_is_free(bucket):
    lock, target = place_of(f"{bucket}/k/.ingest.lock"), place_of(f"{bucket}/k/ingest")
    gone = {"host": socket.gethostname(), "process": 999999999, "started": 1.0}
    transfer.write_bytes(lock / "gone.json", json.dumps(gone).encode())
    with only_writer(lock, target):
        assert len(transfer.files_below(lock)) == 1
    for alive in ('{"host": "elsewhere", "process": 999999999, "started": 1.0}', "no JSON"):
        transfer.write_bytes(lock / "there.json", alive.encode())
        with pytest.raises(LockedError, match=r"remove .*there\.json$"), only_writer(lock, target):
            pass
        assert [entry.name for entry in transfer.files_below(lock)] == ["there.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://host/x", "no address of a store that is known"),
        ("s3:/bucket/x", "names no bucket"),
        ("gs://", "names no bucket"),
        ("s3://bucket/a/../b", "write the whole address"),
    ],
)
def test_addresses_that_name_nothing(text, message):
    with pytest.raises(StoreError, match=message):
        place_of(text)
