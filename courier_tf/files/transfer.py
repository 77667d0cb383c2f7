"""Reading, writing, listing and copying files, wherever they lie.

A store is reached by pyarrow's file systems. Credentials, region and endpoint are those that each store's own tools
take from the environment and from their files. A file on a store appears whole or not at all: it is always written
from all of its bytes.
"""

import contextlib
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from courier_tf.escaping import printable
from courier_tf.files.places import MissingFileError, Place, StoreError, StorePlace

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

#: What a store says -> what it means, and the way out.
_REASONS = {
    r"NO_SUCH_BUCKET|InvalidBucketName|bucket.{0,80}(not found|does not exist)": "there is no such bucket",
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|PERMISSION_DENIED|UNAUTHENTICATED|HTTP status 40[13]"
    "|Permission denied": "permission denied: look at the credentials, and at the rights that they give",
    r"NETWORK_CONNECTION|UNAVAILABLE|resolve host|connect to|REQUEST_TIMEOUT": "the store does not answer: look at "
    "the network, and at the endpoint that is set",
    r"libhdfs|libjvm|CLASSPATH": "HDFS needs Java and Hadoop's libraries: set JAVA_HOME, HADOOP_HOME and CLASSPATH",
}
_LONGEST = 300  # Characters of a store's own words.
_GS_EMULATOR = "CLOUD_STORAGE_EMULATOR_ENDPOINT"  # The variable of Google's client.
_RETRY_SECONDS = 10  # Google's client would go on for 15 minutes.


class Entry(NamedTuple):
    """A file in a listing.

    Attributes:
        name: its path below the folder that was listed.
        size: in bytes.
        mtime_ns: time of the last change, nanoseconds since 1970.
    """

    name: str
    size: int
    mtime_ns: int


def exists(place: Place) -> bool:
    """Whether there is a file of that name, or a folder with something in it."""
    if isinstance(place, Path):
        return place.exists()
    with _told(place) as (system, path):
        return bool(system.get_file_info(path).type != _fs().FileType.NotFound)


def require_bucket(place: StorePlace) -> None:
    """Refuses a place on a store whose bucket is not there. A listing of what is in none would only be empty.

    Raises:
        StoreError: there is none, it may not be read, or the store does not answer.
    """
    with _told(place) as (system, path):
        if system.get_file_info(path.partition("/")[0] or "/").type == _fs().FileType.NotFound:
            raise StoreError(f"{printable(place)}: there is no such bucket")


def files_below(folder: Place) -> list[Entry]:
    """All files below a folder, sorted by name; none where there is no such folder. No link to a folder is followed."""
    if isinstance(folder, Path):
        entries = []
        for above, _, names in os.walk(folder):
            for file in (Path(above, name) for name in names):
                with contextlib.suppress(FileNotFoundError):  # A link to nowhere, or removed meanwhile.
                    status = file.stat()
                    entries.append(Entry(file.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
        return sorted(entries)
    with _told(folder) as (system, path):
        return sorted(_entries(system, path, recursive=True))


def names_in(folder: Place) -> list[str]:
    """The names in a folder, sorted; those of folders end with a slash."""
    if isinstance(folder, Path):
        return sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir()) if folder.is_dir() else []
    if folder.root.startswith("gs:"):  # There pyarrow tells folders alone that were made as such.
        parts = [entry.name.partition("/") for entry in files_below(folder)]
        return sorted({name + slash for name, slash, _ in parts})
    with _told(folder) as (system, path):
        infos = system.get_file_info(_fs().FileSelector(path, allow_not_found=True))
        return sorted(info.base_name + "/" * (info.type == _fs().FileType.Directory) for info in infos)


def entry_of(file: Place) -> Entry:
    """Name, size and time of a file.

    Raises:
        MissingFileError: there is none on the store.
    """
    if isinstance(file, Path):
        status = file.stat()
        return Entry(file.name, status.st_size, status.st_mtime_ns)
    with _told(file) as (system, path):
        info = system.get_file_info(path)
        if info.type != _fs().FileType.File:
            raise MissingFileError(f"{printable(file)}: there is no such file")
        return Entry(info.base_name, int(info.size), info.mtime_ns or 0)


def size_of(file: Place) -> int:
    """The bytes of a file; errors as `entry_of`."""
    return entry_of(file).size


def open_file(file: Place) -> BinaryIO:
    """Opens a file for reading, from any place in it. Errors while it is read are those of pyarrow, OSErrors."""
    if isinstance(file, Path):
        return file.open("rb")
    with _told(file) as (system, path):
        return cast(BinaryIO, system.open_input_file(path))


def read_bytes(file: Place, most: int | None = None) -> bytes:
    """The content of a file; with `most` no more than so many bytes of its beginning."""
    with open_file(file) as stream:
        if isinstance(file, Path):
            return stream.read(-1 if most is None else most)
        with _told(file):
            return bytes(stream.read() if most is None else stream.read(most))


def write_bytes(file: Place, content: bytes) -> None:
    """Writes a file, with the folders above it. It appears whole or not at all."""
    if isinstance(file, Path):
        with written_aside(file) as aside:
            aside.write_bytes(content)
        return
    with _told(file) as (system, path):
        if _needs_folders(file):
            system.create_dir(path.rpartition("/")[0], recursive=True)
        with system.open_output_stream(path) as stream:
            stream.write(content)


@contextlib.contextmanager
def written_aside(file: Place) -> Iterator[Path]:
    """Yields a path of this machine to write to. Without an error it then becomes the file, which appears whole.

    The path is one of its own at each call: a job that a runner tries again may be writing the same file.
    """
    if isinstance(file, Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        os.close(descriptor)
        try:
            yield Path(aside)
            os.chmod(aside, 0o666 & ~_umask())
            os.replace(aside, file)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        return
    with tempfile.TemporaryDirectory(prefix="courier-") as folder:
        local = Path(folder, file.name)
        yield local
        upload(local, file)


@functools.cache
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def local_copy(place: Place) -> Iterator[Path]:
    """Yields a path of this machine with the content of a file or folder: itself, or a copy that is then removed."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="courier-") as folder:
        local = Path(folder, place.name)
        fetch(place, local)
        yield local


def fetch(source: Place, target: Path) -> None:
    """Copies a file or folder to this machine. What is in a folder of the target stays, where nothing has its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Path):
        shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copyfile(source, target)
        return
    with _told(source) as (system, path):
        info = system.get_file_info(path)
        if info.type == _fs().FileType.NotFound:
            raise MissingFileError(f"{printable(source)}: there is no such file or folder")
        if info.type == _fs().FileType.Directory:  # pyarrow makes the folders in it alone.
            target.mkdir(exist_ok=True)
        _fs().copy_files(path, str(target), system, _fs().LocalFileSystem())


def upload(source: Path, target: Place) -> None:
    """Copies a file or folder of this machine to another place, with the folders above it."""
    if isinstance(target, Path):
        fetch(source, target)
        return
    with _told(target) as (system, path):
        if _needs_folders(target):
            system.create_dir(path if source.is_dir() else path.rpartition("/")[0], recursive=True)
        _fs().copy_files(str(source), path, _fs().LocalFileSystem(), system)


def copy(source: Place, target: Place) -> None:
    """Copies a file or folder, also within a store or from one to another."""
    if isinstance(source, Path):
        upload(source, target)
    elif isinstance(target, Path):
        fetch(source, target)
    else:
        with _told(source) as (system, path), _told(target) as (other, copied):
            if _needs_folders(target):
                other.create_dir(copied, recursive=True)
            _fs().copy_files(path, copied, system, other)


def link(source: Place, target: Place) -> None:
    """Puts a file that nobody changes in a second place: a hard link where the file system has them, else a copy."""
    if isinstance(source, Path) and isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # A runner may try a job again.
        try:
            os.link(source, target)
        except OSError:  # There are none, or within one device only.
            shutil.copy2(source, target)
        return
    copy(source, target)


def remove(place: Place) -> None:
    """Removes a file, or a folder with all that is in it. There may be none."""
    if isinstance(place, Path):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        return
    if not place.key:
        raise StoreError(f"{printable(place)} is a whole bucket, which is never removed")
    with _told(place) as (system, path):
        kind = system.get_file_info(path).type
        if kind == _fs().FileType.Directory:
            with contextlib.suppress(FileNotFoundError):  # On gs the folder itself is often no object.
                system.delete_dir(path)
        elif kind != _fs().FileType.NotFound:
            system.delete_file(path)


def _entries(system: "FileSystem", path: str, recursive: bool) -> Iterator[Entry]:
    start = len(path) + 1
    for info in system.get_file_info(_fs().FileSelector(path, recursive=recursive, allow_not_found=True)):
        if info.type == _fs().FileType.File:
            yield Entry(info.path[start:], info.size, info.mtime_ns or 0)


def _needs_folders(place: StorePlace) -> bool:
    return place.root.startswith("hdfs:")


def _fs() -> Any:
    """Arrow's file systems, imported where the first one is asked for: a command's help needs none."""
    import pyarrow.fs

    return pyarrow.fs


@functools.cache
def _system(root: str) -> "FileSystem":
    """The file system of a bucket. Only by an address does pyarrow look for AWS_ENDPOINT_URL."""
    scheme, _, host = root.partition("://")
    if scheme != "gs":
        return _fs().FileSystem.from_uri(f"{root}/")[0]
    # Google's client would look for credentials for an emulator, too, which asks for none.
    user = "anonymous@" if _GS_EMULATOR in os.environ else ""
    return _fs().FileSystem.from_uri(f"gs://{user}{host}/?retry_limit_seconds={_RETRY_SECONDS}")[0]


@contextlib.contextmanager
def _told(place: StorePlace) -> Iterator[tuple["FileSystem", str]]:
    """The file system of a place and the path there; what it refuses becomes a StoreError."""
    from pyarrow import ArrowException

    try:
        host = place.root.partition("://")[2]
        path = f"/{place.key}" if _needs_folders(place) else f"{host}/{place.key}".rstrip("/")
        yield _system(place.root), path
    except FileNotFoundError as error:
        raise MissingFileError(f"{printable(place)}: there is no such file or folder") from error
    except (OSError, ArrowException) as error:
        raise StoreError(f"{printable(place)}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """What an error of a store means, in words that say what to do; else the store's own words, in one line.

    >>> reason_of(OSError("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: The bucket is none"))
    'there is no such bucket'
    """
    words = " ".join(str(error).split())
    for pattern, reason in _REASONS.items():
        if re.search(pattern, words, re.IGNORECASE):
            return reason
    return printable(words or type(error).__name__, _LONGEST)
