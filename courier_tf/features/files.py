"""The files of the features stage: a folder for each source, with one row per item."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from courier_tf import schema
from courier_tf.features.feature_error import FeatureError
from courier_tf.workdir import artefacts
from courier_tf.workdir.provenance import fingerprint_of
from courier_tf.workdir.stages import FEATURES

BLOCK = 8192  # Rows read at once.
EXTRACTOR_FOLDER = "extractor"  # SavedModel, while the Beam job runs, and beside an encoder.
VECTOR = "vector"  # The column of vectors.
PHOTO = "photo"  # The column with the digest of the stored photo that a row was made of.


def folder_of(source: str) -> str:
    """Name of the folder of a source, whose name may be a path.

    >>> folder_of("efficientnetlite_b0_imagenet@96:stages")
    'efficientnetlite_b0_imagenet@96_stages-4ea6f21a'
    """
    return f"{re.sub(r'[^A-Za-z0-9_.@-]', '_', source)[-60:]}-{fingerprint_of(source)[:8]}"


def vector_column(view: int) -> str:
    """Name of the column of a view; view 0 is the photo itself."""
    return f"{VECTOR}_view{view}" if view else VECTOR


def features_schema(views: int) -> pa.Schema:
    """The schema of the files. Digest and vectors of an item without a photo are null."""
    return pa.schema(
        [
            ("item_id", pa.string()),
            ("category", pa.string()),
            ("in_train_span", pa.bool_()),
            (PHOTO, pa.string()),
            *((vector_column(view), pa.list_(pa.float32())) for view in range(views + 1)),
        ]
    )


class FeatureFiles:
    """The vectors of one source.

    Args:
        directory: of the source, in the features stage.

    Attributes:
        facts: those of the stage.
        files: Parquet files. Those of every source have the same items in the same order.

    Raises (when read):
        FeatureError: a vector has another width than its source, or is not finite; names the file.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts = artefacts.read(directory, FEATURES).facts
        self.files = sorted((directory / schema.ITEMS_FOLDER).glob("*.parquet"))

    @property
    def width(self) -> int:
        """W, the length of a vector."""
        return sum(self.facts.parts)

    def read(self, ids: np.ndarray, view: int = 0) -> np.ndarray:
        """The vectors of items.

        Args:
            ids: [N] bytes, sorted and different.
            view: number of the view; 0 for the photos themselves.

        Returns:
            [N + 1, W] float32 by item number: item i has row i + 1. Row 0, and that of an item without a photo, is 0.
        """
        vectors, column = np.zeros([len(ids) + 1, self.width], np.float32), vector_column(view)
        for file in self.files:
            for batch in pq.ParquetFile(file).iter_batches(BLOCK, columns=["item_id", column]):
                items = np.array([item.encode() for item in batch["item_id"].to_pylist()], object)
                place = np.minimum(np.searchsorted(ids, items), len(ids) - 1)
                known = (ids[place] == items) & batch[column].is_valid().to_numpy(zero_copy_only=False)
                rows = batch[column].filter(pa.array(known))
                vectors[place[known] + 1] = _as_rows(rows, self.width, file)
        return vectors


def read_together(sources: Sequence[FeatureFiles], ids: np.ndarray, views: bool = False) -> np.ndarray:
    """The vectors of several sources side by side.

    Args:
        sources: in this order.
        ids: [N] bytes, sorted and different.
        views: read the further views, too.

    Returns:
        [N + 1, W] float32 by item number, as `FeatureFiles.read`, W of all sources together. With `views`
        [N + 1, 1 + views, W].
    """
    number = min(source.facts.views for source in sources) + 1 if views else 1
    vectors = np.empty([len(ids) + 1, number, sum(source.width for source in sources)], np.float32)
    start = 0
    for source in sources:
        end = start + source.width
        for view in range(number):
            vectors[:, view, start:end] = source.read(ids, view)
        start = end
    return vectors if views else vectors[:, 0]


def rows_together(files: Sequence[Path]) -> Iterator[tuple[tuple[str, str, bool], np.ndarray | None]]:
    """The rows of the same shard of several sources: ((item id, category, in train span), vectors side by side).

    Args:
        files: one of each source.

    Raises:
        FeatureError: the files are of different items.
    """
    names = ["item_id", "category", "in_train_span"]
    batches = zip(*(pq.ParquetFile(file).iter_batches(BLOCK, columns=[*names, VECTOR]) for file in files), strict=True)
    for parts in batches:
        keys = list(zip(*(parts[0][name].to_pylist() for name in names), strict=True))
        for file, part in zip(files, parts, strict=True):
            if not part["item_id"].equals(parts[0]["item_id"]):
                raise FeatureError(f"{files[0]} and {file} hold different items: run 'courier pretrain' again")
        for key, vectors in zip(keys, zip(*(part[VECTOR] for part in parts), strict=True), strict=True):
            if vectors[0].is_valid:
                yield key, np.concatenate([vector.values.to_numpy(zero_copy_only=False) for vector in vectors])
            else:
                yield key, None


def _as_rows(vectors: pa.ListArray, width: int, file: Path) -> np.ndarray:
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    lengths = vectors.value_lengths().to_numpy(zero_copy_only=False)
    if (lengths != width).any() or not np.isfinite(flat).all():
        raise FeatureError(f"{file}: vectors are not finite, or not {width} wide: run 'courier pretrain' again")
    return flat.reshape(-1, width)
