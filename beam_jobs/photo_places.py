"""Finds and reads the photo that a row of the catalogue names.

A name is taken as it is where there is such a file. Otherwise it is read as other systems write paths, and looked up
among the files below `images/`, without regard to case; there a name needs no folder and no extension.
"""

import errno
import logging
import os
import posixpath
import re
import stat
import unicodedata
import urllib.parse
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from beam_jobs.downloads import file_of
from beam_jobs.photo_names import EXTENSIONS, is_web_address
from courier_tf.escaping import printable
from courier_tf.files import transfer
from courier_tf.files.places import MissingFileError, StoreError, StorePlace, place_of
from courier_tf.images import PhotoError

LOG = logging.getLogger(__name__)

MAX_PHOTO_BYTES = 64 * 2**20  # A larger file is no product photo, and a worker holds it in memory.
MOST_INDEXED = 1_000_000  # File names that a worker holds in memory, about 250 MB.
MOST_NAME = 4096  # Bytes of a path that Linux takes.
PHOTO_FOLDER = "images"

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


class MissingPhotoError(PhotoError):
    """There is no file of that name."""


class Found(NamedTuple):
    """A photo.

    Attributes:
        content: the bytes of the file; empty where only its state was asked for.
        state: size and time of the last change, as a text.
        by_name: whether its name had to be matched to that of a file.
    """

    content: bytes
    state: str
    by_name: bool = False


class PhotoPlaces:
    """The photos of a raw folder. Only regular files are opened.

    Args:
        raw: the raw folder, or its URI.
        follow_links: take symbolic links that leave the folder.
    """

    def __init__(self, raw: str, follow_links: bool) -> None:
        self.raw, self.follow_links = raw, follow_links
        self.place = place_of(raw)
        self.root = os.path.realpath(self.place) if isinstance(self.place, Path) else raw
        self.start = os.path.join(self.root, "")  # Of the paths of all files in it.
        self._index: dict[str, list[str]] | None = None
        self._inside: dict[str, bool] = {}  # Folder -> whether it lies in the raw folder, behind all links.
        self._refusals: dict[str, str] = {}  # Bucket -> why it cannot be read; empty if it can.

    def read(self, image: str, whole: bool = True) -> Found:
        """The photo that a row names.

        Args:
            image: what the catalogue has.
            whole: read the content; otherwise the state alone is looked up.

        Raises:
            MissingPhotoError: there is no such file. The message names files that look alike.
            PhotoError: the name fits several files, or the file cannot be read.
        """
        # Most names are printable, which is known at once.
        if not image.isprintable() and any(unicodedata.category(sign) in ("Cc", "Cs") for sign in image):
            raise PhotoError("the name of the photo holds control characters, such as a NUL byte")
        if len(image.encode()) > MOST_NAME:
            raise PhotoError(
                f"{len(image)} characters are no name of a file; photos inside the rows are read from a column of "
                "bytes in a Parquet file"
            )
        if is_web_address(image):
            downloaded = self._read_inside(file_of(image), whole)
            if downloaded is None:
                raise MissingPhotoError(
                    f"it is not downloaded yet: run `courier download {self.raw}`{self._hint_at_file(image)}"
                )
            return downloaded
        if _ADDRESS.match(image):
            return self._read_uri(image, whole)
        failure: PhotoError | None = None
        for number, spelled in enumerate(spellings(image)):
            try:
                photo = self._read_inside(spelled, whole)
            except PhotoError as error:  # A folder may have the name of a photo without extension.
                failure = failure or error
            else:
                if photo is not None:
                    return photo._replace(by_name=number > 0)
        return self._read_by_name(image, failure, whole)

    def _read_inside(self, image: str, whole: bool) -> Found | None:
        """A file of the raw folder; None where there is none."""
        if isinstance(self.place, StorePlace):
            if ".." in image.split("/") or image.startswith("/"):
                raise PhotoError("the path leaves the raw folder")
            try:
                return _read_stored(self.place / posixpath.normpath(image), whole)
            except MissingPhotoError:
                return None
        path = os.path.normpath(os.path.join(self.root, image))
        try:
            status = os.lstat(path)
            if not os.path.join(path, "").startswith(self.start):
                raise PhotoError("the path leaves the raw folder")
            if not self.follow_links and not self._lies_inside(path, status):
                raise PhotoError("the path leaves the raw folder by a symbolic link (--follow-links takes them)")
            return _read_regular(path, os.stat(path) if stat.S_ISLNK(status.st_mode) else status, whole)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise PhotoError(f"it cannot be read: {error}") from error

    def _lies_inside(self, path: str, status: os.stat_result) -> bool:
        if stat.S_ISLNK(status.st_mode):
            path = os.path.realpath(path)
        folder = os.path.dirname(path)
        if folder not in self._inside:
            if len(self._inside) > 10_000:
                self._inside.clear()
            self._inside[folder] = os.path.commonpath([self.root, os.path.realpath(folder)]) == self.root
        return self._inside[folder]

    def _read_uri(self, address: str, whole: bool) -> Found:
        """A file on a store. One that does not answer is asked once, and not for each photo."""
        try:
            place = place_of(address)
        except StoreError as error:
            raise PhotoError(f"it cannot be read: {error}") from error
        if isinstance(place, Path):
            raise PhotoError("it cannot be read: file:// leaves the raw folder")
        if place.root not in self._refusals:
            self._refusals[place.root] = _refusal(place.root)
        if refusal := self._refusals[place.root]:
            raise PhotoError(f"it cannot be read: {refusal}")
        return _read_stored(place, whole)

    def _read_by_name(self, image: str, failure: PhotoError | None, whole: bool) -> Found:
        similar: list[str] = []
        for spelled in reversed([*spellings(image)]):  # The last is the plainest.
            same_stem = self._indexed().get(_stem(spelled), [])
            fitting = [file for file in same_stem if _fits(spelled, file)]
            if len(fitting) > 1:
                raise PhotoError(f"several files fit: {_listed(fitting)}")
            if fitting:
                photo = self._read_inside(fitting[0], whole)
                if photo is not None:
                    return photo._replace(by_name=True)
            similar = similar or same_stem
        if failure:
            raise failure
        raise MissingPhotoError("there is no such file" + (f"; there is {_listed(similar)}" if similar else ""))

    def _hint_at_file(self, address: str) -> str:
        """Names a file with the name of a photo on the web. It is not taken for it: many addresses share a name."""
        name = posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(address).path))
        alike = [file for file in self._indexed().get(_stem(name), ()) if _fits(name, file)] if name else []
        return f", or write the name of the file that is there: {_listed(alike)}" if alike else ""

    def _indexed(self) -> dict[str, list[str]]:
        """Name without folder and extension -> files below `images/`, as paths in the raw folder."""
        if self._index is None:
            index: dict[str, list[str]] = {}
            for number, file in enumerate(self.files(), start=1):
                if number > MOST_INDEXED:
                    LOG.warning(
                        "%s holds more than %d files, too many to match names without folder or extension",
                        PHOTO_FOLDER,
                        MOST_INDEXED,
                    )
                    index.clear()
                    break
                index.setdefault(_stem(file), []).append(file)
            self._index = index
        return self._index

    def files(self) -> Iterator[str]:
        """The files below `images/`, as paths in the raw folder."""
        if isinstance(self.place, StorePlace):
            yield from (f"{PHOTO_FOLDER}/{entry.name}" for entry in transfer.files_below(self.place / PHOTO_FOLDER))
            return
        with os.scandir(self.root) as entries:
            tops = sorted(entry.name for entry in entries if entry.name.casefold() == PHOTO_FOLDER and entry.is_dir())
        for top in tops:
            yield from (f"{top}/{file}" for file in files_below(os.path.join(self.root, top), self.follow_links))


def files_below(folder: str, follow_links: bool) -> Iterator[str]:
    """The files below a folder of this machine, as paths in it, without those whose names begin with a dot.

    Args:
        folder: the folder.
        follow_links: go into folders behind symbolic links, into each once: links may lead in a circle.
    """
    seen: set[tuple[int, int]] = set()
    for inside, subfolders, names in os.walk(folder, followlinks=follow_links):
        status = os.stat(inside)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders.sort()
        start = os.path.relpath(inside, folder)
        yield from (name if start == "." else f"{start}/{name}" for name in sorted(names) if not name.startswith("."))


def spellings(image: str) -> Iterator[str]:
    r"""The paths that a name may mean: as it is, and as other systems write it. The last is the plainest.

    >>> [*spellings("images\\a%20b.jpg")]
    ['images\\a%20b.jpg', 'images/a%20b.jpg', 'images/a b.jpg']
    >>> [*spellings("/data/shop/images/a.jpg?w=9")][-1]
    'images/a.jpg'
    """
    seen = {""}
    for spelled in _all_spellings(image):
        if spelled not in seen and "\0" not in spelled:
            yield spelled
        seen.add(spelled)


def _all_spellings(image: str) -> Iterator[str]:
    yield image  # Nearly always there is such a file.
    slashes = re.sub("/+", "/", image.replace("\\", "/"))
    absolute = bool(re.match("[A-Za-z]:/|/", slashes))
    plain = re.sub(r"^([A-Za-z]:)?(\.?/)+", "", slashes)
    bare = plain.partition("?")[0].partition("#")[0]
    plainest = urllib.parse.unquote(bare)
    yield from (slashes, plain, urllib.parse.unquote(plain), bare, plainest)
    parts = plainest.split("/")
    if absolute and PHOTO_FOLDER in parts[1:-1]:  # The path on the machine that wrote the catalogue.
        yield "/".join(parts[parts.index(PHOTO_FOLDER) :])


def _plain(text: str) -> str:
    """A name where neither case matters nor how an accent is written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _stem(path: str) -> str:
    name = _plain(path.rpartition("/")[2])
    start, dot, extension = name.rpartition(".")
    return start if dot and extension in EXTENSIONS else name


def _fits(image: str, file: str) -> bool:
    """Whether a name means a file of the same stem: each folder and the extension that it names are those of the file.

    Args:
        image: what the catalogue has.
        file: path of the file in the raw folder.
    """
    named, there = PurePosixPath(_plain(image)).parts, PurePosixPath(_plain(file)).parts
    folders = named[:-1]
    if folders and there[:-1][-len(folders) :] != folders:
        return False
    extension = named[-1].rpartition(".")[2] if "." in named[-1] else ""
    return extension not in EXTENSIONS or there[-1] == named[-1]


def _listed(files: list[str]) -> str:
    more = f" and {len(files) - 2} more" if len(files) > 2 else ""
    return ", ".join(printable(file) for file in files[:2]) + more


def _read_regular(path: str, status: os.stat_result, whole: bool) -> Found:
    """A regular file, whose status is known. A FIFO or a device would wait for ever, or never end."""
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise PhotoError(f"it cannot be read: it is {_KINDS.get(kind, 'a device')}, and no regular file")
    state = f"{status.st_size} {status.st_mtime_ns}"
    if not whole:
        return Found(b"", state)
    _require_at_most(status.st_size)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
        content = stream.read(status.st_size + 1)  # Asked for the most there may be, it would set aside as much.
    if len(content) > status.st_size:
        raise PhotoError("it cannot be read: it has grown meanwhile")
    return Found(content, state)


def _require_at_most(size: int) -> None:
    if size > MAX_PHOTO_BYTES:
        raise PhotoError(f"the file has more than {MAX_PHOTO_BYTES // 2**20} MB")


def _refusal(root: str) -> str:
    """Why a bucket cannot be read; empty if it can."""
    try:
        transfer.require_bucket(StorePlace(root))
    except StoreError as error:
        return str(error)
    return ""


def _read_stored(place: StorePlace, whole: bool) -> Found:
    try:
        entry = transfer.entry_of(place)  # Before the content: who changes it meanwhile leaves another time.
        state = f"{entry.size} {entry.mtime_ns}"
        # Never unpacked, whatever the extension.
        content = transfer.read_bytes(place, MAX_PHOTO_BYTES + 1) if whole else b""
    except MissingFileError as error:
        raise MissingPhotoError("there is no such file") from error
    except StoreError as error:
        raise PhotoError(f"it cannot be read: {error}") from error
    _require_at_most(len(content))
    return Found(content, state)
