"""The files of the features stage: one row per item, one column per source."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from courier_tf import schema
from courier_tf.features.extractor import output_of
from courier_tf.features.sources import FeatureError
from courier_tf.workdir import artefacts
from courier_tf.workdir.stages import FEATURES

BLOCK = 8192  # Rows read at once.
EXTRACTOR_FOLDER = "extractor"  # SavedModel, for the Beam job.


def vector_columns(sources: int, views: int) -> list[str]:
    """Names of the columns with vectors, for a number of sources and of further views."""
    return [output_of(place, view) for place in range(sources) for view in range(views + 1)]


def features_schema(columns: Sequence[str]) -> pa.Schema:
    """The schema of the files, with these columns of vectors. Those of an item without a photo are null."""
    return pa.schema(
        [
            ("item_id", pa.string()),
            ("category", pa.string()),
            ("in_train_span", pa.bool_()),
            *((column, pa.list_(pa.float32())) for column in columns),
        ]
    )


class FeatureFiles:
    """The vectors of a features stage.

    Args:
        directory: of the stage.

    Attributes:
        facts: those of the stage.

    Raises (when read):
        FeatureError: a vector has another width than its source, or is not finite; names the file.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts = artefacts.read(directory, FEATURES).facts
        self.files = sorted((directory / schema.ITEMS_FOLDER).glob("*.parquet"))

    def columns(self, sources: Sequence[str], view: int = 0) -> list[str]:
        """The columns of these sources.

        Raises:
            FeatureError: the stage does not have one of them.
        """
        stored = list(self.facts.widths)
        missing = [source for source in sources if source not in stored]
        if missing:
            raise FeatureError(f"{self.directory} has the features {stored}, but not {missing}")
        return [output_of(stored.index(source), view) for source in sources]

    def read(self, sources: Sequence[str], ids: np.ndarray, views: bool = False) -> np.ndarray:
        """The vectors of items, the sources side by side.

        Args:
            sources: names.
            ids: [N] bytes, sorted and different.
            views: read the further views, too.

        Returns:
            [N + 1, W] float32 by item number, W of all sources together: item i has row i + 1. Row 0, and that of an
            item without a photo, is 0. With `views` [N + 1, 1 + views, W].

        Raises:
            FeatureError: the stage does not have one of the sources.
        """
        number = self.facts.views + 1 if views else 1
        self.columns(sources)
        widths = [sum(self.facts.widths[source]) for source in sources]
        vectors = np.zeros([len(ids) + 1, number, sum(widths)], np.float32)
        start = 0
        for source, width in zip(sources, widths, strict=True):
            for view in range(number):
                self._fill(vectors[:, view, start : start + width], self.columns([source], view)[0], ids)
            start += width
        return vectors if views else vectors[:, 0]

    def _fill(self, rows: np.ndarray, column: str, ids: np.ndarray) -> None:
        """Writes a column into [N + 1, W], by item number."""
        for file in self.files:
            for batch in pq.ParquetFile(file).iter_batches(BLOCK, columns=["item_id", column]):
                items = np.array([item.encode() for item in batch["item_id"].to_pylist()], object)
                place = np.minimum(np.searchsorted(ids, items), len(ids) - 1)
                known = (ids[place] == items) & batch[column].is_valid().to_numpy(zero_copy_only=False)
                flat = batch[column].filter(pa.array(known)).flatten().to_numpy(zero_copy_only=False)
                if flat.size != known.sum() * rows.shape[1] or not np.isfinite(flat).all():
                    raise FeatureError(f"{file}: vectors of {column} are not finite, or not {rows.shape[1]} wide")
                rows[place[known] + 1] = flat.reshape(-1, rows.shape[1])
