"""Where files lie: a path of this machine, or an address on a store."""

import dataclasses
import re
import urllib.parse
from pathlib import Path

from courier_tf.escaping import printable

#: The stores that pyarrow reaches without a further package, which Beam's workers have, too.
SCHEMES = ("s3", "gs", "hdfs")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # As a path it would name a local folder. C:/ is one.


class StoreError(RuntimeError):
    """A store refuses something, does not answer, or is none; the message is one line and names the place."""


class MissingFileError(StoreError):
    """There is no such file on the store."""


@dataclasses.dataclass(frozen=True, order=True)
class StorePlace:
    """A file or folder on a store, with as much of pathlib's vocabulary as stages need.

    Attributes:
        root: scheme and bucket, such as `s3://bucket`; of HDFS the name node.
        key: the rest, without slashes at its ends.

    >>> place = StorePlace("s3://bucket", "shop") / "ingest/items"
    >>> str(place), place.name, str(place.parent), str(place.with_name("events"))
    ('s3://bucket/shop/ingest/items', 'items', 's3://bucket/shop/ingest', 's3://bucket/shop/ingest/events')
    """

    root: str
    key: str = ""

    def __truediv__(self, below: str) -> "StorePlace":
        return StorePlace(self.root, "/".join(part for part in (self.key, below.strip("/")) if part))

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "StorePlace":
        """The folder above."""
        return StorePlace(self.root, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "StorePlace":
        """A place beside this one."""
        return self.parent / name


#: A path of this machine, or an address on a store.
Place = Path | StorePlace


def is_address(text: str) -> bool:
    """Whether a text begins as an address does, and not as a path.

    >>> is_address("s3://bucket/shop"), is_address("work/shop"), is_address("gs:/typo")
    (True, False, True)
    """
    return bool(_ADDRESS.match(text))


def place_of(text: str) -> Place:
    """The place that a text names. `file:///folder` is a path.

    Raises:
        StoreError: it is an address, but not of a store that is known.

    >>> place_of("work/shop"), str(place_of("gs://bucket/shop/"))
    (PosixPath('work/shop'), 'gs://bucket/shop')
    """
    scheme = _ADDRESS.match(text)
    if scheme is None:
        return Path(text)
    shown, name = printable(text), scheme.group(1).lower()
    if text.lower().startswith("file:///"):
        return Path(urllib.parse.unquote(text[len("file://") :]))
    known = " or ".join(f"{known}://" for known in SCHEMES)
    if name not in SCHEMES:
        raise StoreError(f"'{shown}' is no address of a store that is known: take a folder, or {known}")
    host, _, key = text.partition(":")[2].removeprefix("//").partition("/")
    if not text[len(name) :].startswith("://") or not host:
        raise StoreError(f"'{shown}' names no bucket: write {name}://BUCKET/FOLDER")
    parts = [part for part in key.split("/") if part]
    if {".", ".."} & set(parts):
        raise StoreError(f"'{shown}' has '.' or '..' as a part, which stores take for names: write the whole address")
    return StorePlace(f"{name}://{host}", "/".join(parts))
