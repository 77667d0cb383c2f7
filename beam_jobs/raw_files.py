"""The files of a raw table: which count, which are left out, and why."""

import dataclasses
import hashlib
import os
import re
import stat
import urllib.parse
from collections.abc import Iterator, Mapping

from beam_jobs.raw_errors import RawDataError
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.files import transfer
from courier_tf.files.places import StorePlace, place_of

#: Ending -> the format that a file of this name is expected to have.
FORMATS = {
    "csv": "csv", "tsv": "csv", "txt": "csv", "psv": "csv",
    "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl",
    "parquet": "parquet", "pq": "parquet", "parq": "parquet",
    "avro": "avro",
}  # fmt: skip
PACKED = ("gz", "gzip", "bz2", "zst", "zstd", "xz", "lz4")
_ENDING = re.compile(rf"\.({'|'.join(FORMATS)})(\.({'|'.join(PACKED)}))?$", re.IGNORECASE)
_BACKUP = re.compile(r"(^|[^a-z])(backup|bak|bkp|copy|orig|tmp|temp)([^a-z]|$)|~", re.IGNORECASE)
_FOLDER = "is a folder"
_PARTS_OF_DATES = frozenset(["date", "day", "ds", "dt", "hour", "month", "week", "year"])
_DATE = re.compile(r"(19|20)\d\d[-_/]?\d\d([-_/]?\d\d)?([T _-]?\d\d(:?\d\d)*)?")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclasses.dataclass(frozen=True)
class Found:
    """The files of a table.

    Attributes:
        files: paths in their order.
        partitions: path -> (name, value) of each folder `name=value` above it.
        left_out: why files of the table are not read, each in a sentence.
    """

    files: tuple[str, ...]
    partitions: dict[str, tuple[tuple[str, str], ...]]
    left_out: tuple[str, ...]


def find_files(raw: str, table: str, follow_links: bool = False, optional: bool = False) -> Found:
    """The files of a raw table: `table.EXT`, `table-*.EXT`, and all below the folders `table` and `table.EXT`.

    EXT is an ending of `FORMATS`, with one of `PACKED` after it or none. Names that begin with a dot or an underscore
    are marks of other programs.

    Args:
        raw: folder or URI.
        table: its name.
        follow_links: whether links out of the folder are followed.
        optional: whether there may be none.

    Raises:
        RawDataError: there are none, or files of several formats.
    """
    files, left_out = [], []
    partitions = {}
    for path, name, problem in sorted(_all_files(raw, table, follow_links)):
        parts = name.split("/")
        counts = _of_table(parts, table)
        if not counts:
            if len(parts) == 1 and problem in ("", _FOLDER):
                left_out.append(
                    f"{path} is not read: the files of this table are {table}.EXT, {table}-*.EXT and those in {table}/"
                    + (", and EXT is one of " + ", ".join(FORMATS) if not _ENDING.search(parts[-1]) else "")
                )
            continue
        if problem:
            raise RawDataError(f"{path} {problem}")
        if not _ENDING.search(parts[-1]):
            left_out.append(f"{path} is not read: its name does not end like one of {', '.join(FORMATS)}")
        elif _BACKUP.search(_ENDING.sub("", parts[-1])[len(table) * (len(parts) == 1) :]):
            left_out.append(f"{path} is left out, as its name is that of a backup: rename it if it counts")
        else:
            files.append(path)
            partitions[path] = tuple(_partition(part) for part in parts[1:-1] if "=" in part)
    if not files and optional:
        return Found((), {}, ())
    if not files:
        kinds = ", ".join(f"{table}.{extension}" for extension in schema.RAW_EXTENSIONS)
        raise RawDataError("\n".join([f"{raw} holds none of {kinds}", *left_out]))
    _require_one_format(raw, table, files)
    return Found(tuple(files), partitions, tuple(left_out))


def _of_table(parts: list[str], table: str) -> bool:
    """Whether a file, as the parts of its path below the raw folder, is one of the table."""
    first = parts[0].lower()
    if len(parts) > 1:
        return first == table or bool(first.startswith(f"{table}.") and _ENDING.fullmatch(first[len(table) :]))
    return first.startswith(table) and bool(re.match(r"-|\.[^.]+(\.[^.]+)?$", first[len(table) :])) and bool(
        _ENDING.search(first)
    )  # fmt: skip


def _partition(folder: str) -> tuple[str, str]:
    name, _, value = folder.partition("=")
    return name, "" if value == _NO_VALUE else urllib.parse.unquote(value)


def dates_among(partitions: Mapping[str, str]) -> set[str]:
    """The names of those folders `name=value` that tell when rows were written.

    >>> sorted(dates_among({"dt": "2020-09-13", "year": "2020", "brand": "b7"}))
    ['dt', 'year']
    """
    return {name for name, value in partitions.items() if name.lower() in _PARTS_OF_DATES or _DATE.fullmatch(value)}


def _all_files(raw: str, table: str, follow_links: bool) -> Iterator[tuple[str, str, str]]:
    """(path, path below the raw folder, why it cannot be read) of files in the raw folder and in those of the table."""
    place = place_of(raw)
    if isinstance(place, StorePlace):
        transfer.require_bucket(place)
        for name in _names_on_store(place, table):
            if not _is_mark(name):
                yield str(place / name), name, ""
        return
    root = os.path.realpath(raw)
    yield from _below(raw, "", root, table, follow_links, frozenset([root]))


def _names_on_store(raw: StorePlace, table: str) -> Iterator[str]:
    """The files of a raw folder whose paths in it begin as those of the table. Folders of photos are not listed."""
    for name in transfer.names_in(raw):
        if name.startswith(table):
            yield from (name + entry.name for entry in transfer.files_below(raw / name)) if name[-1] == "/" else (name,)


def _is_mark(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _below(
    raw: str, folder: str, root: str, table: str, follow_links: bool, above: frozenset[str]
) -> Iterator[tuple[str, str, str]]:
    """As `_all_files`, of one folder. `above` holds the folders that it lies in, against links in a circle."""
    try:
        names = sorted(os.listdir(os.path.join(raw, folder)))
    except OSError as error:
        if folder:
            yield os.path.join(raw, folder), folder, f"cannot be read: {error.strerror}"
        return
    for name in names:
        below = f"{folder}/{name}" if folder else name
        if _is_mark(name) or not (folder or table.rstrip("s") in name.lower()):
            continue
        path = os.path.join(raw, below)
        real = os.path.realpath(path)
        outside = os.path.commonpath([root, real]) != root
        if outside and not follow_links:
            yield path, below, f"is a link that leaves the raw folder, to {printable(real)}: --follow-links follows it"
            continue
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            yield path, below, f"cannot be read: {error.strerror}"
            continue
        if stat.S_ISDIR(mode):
            if not folder and not _of_table([name, ""], table):
                if os.access(path, os.R_OK) and any(map(_ENDING.search, os.listdir(path))):
                    yield path, below, _FOLDER
            elif real not in above:
                yield from _below(raw, below, root, table, follow_links, above | {real})
        elif not stat.S_ISREG(mode):
            yield path, below, "is no regular file"
        else:
            yield path, below, "" if os.access(path, os.R_OK) else "cannot be read: Permission denied"


def _require_one_format(raw: str, table: str, files: list[str]) -> None:
    formats: dict[str, str] = {}
    for file in files:
        ending = _ENDING.search(file)
        formats.setdefault(FORMATS[ending.group(1).lower()] if ending else "", file)
    if len(formats) > 1:
        raise RawDataError(f"{raw} holds '{table}' in several formats ({', '.join(formats)}): keep one")
    stems: dict[str, str] = {}
    for file in files:
        stem = _ENDING.sub("", file)
        if stem in stems:
            raise RawDataError(f"{stems[stem]} and {file} have one name: keep one of them")
        stems[stem] = file


def name_in(raw: str, path: str) -> str:
    """The path of a file of `find_files` below the raw folder; the address of a table as it is."""
    return path.removeprefix(f"{raw.rstrip('/')}/")


def copies(files: tuple[str, ...]) -> list[list[str]]:
    """Groups of files with the same size and the same first bytes, which may be copies. Empty files are none."""
    sizes: dict[int, list[str]] = {}
    for file in files:
        sizes.setdefault(transfer.size_of(place_of(file)), []).append(file)
    groups: dict[str, list[str]] = {}
    for size, alike in sizes.items():
        for path in alike if size and len(alike) > 1 else ():
            digest = hashlib.sha256(transfer.read_bytes(place_of(path), 1 << 20)).hexdigest()
            groups.setdefault(f"{size} {digest}", []).append(path)
    return [group for group in groups.values() if len(group) > 1]
