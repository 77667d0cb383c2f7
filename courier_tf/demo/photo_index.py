"""Photos of the catalogue, read one at a time: none is kept in memory."""

from pathlib import Path

import tensorflow as tf

from courier_tf import schema
from courier_tf.workdir import records

HEADER, AROUND = 12, 16  # Bytes before the content of a record in a TFRecord file, and around it.
_FEATURES: dict[str, schema.FeatureKind] = {"item_id": "bytes", "image": "bytes"}


class PhotoIndex:
    """Where the record of each item lies in the TFRecord files of an ingest directory.

    Args:
        ingest: the directory.

    Raises:
        RecordError: it has no item records.
    """

    def __init__(self, ingest: Path) -> None:
        self._place: dict[bytes, tuple[str, int, int]] = {}
        for file in records.files(ingest / schema.ITEMS_FOLDER, "items"):
            start = 0
            for batch in tf.data.TFRecordDataset(file).batch(1024):
                ids = records.parse(batch, {"item_id": "bytes"})["item_id"].numpy()
                for item, record in zip(ids, batch.numpy(), strict=True):
                    self._place[item] = (file, start + HEADER, len(record))
                    start += len(record) + AROUND

    def read(self, item: bytes) -> bytes:
        """The PNG of an item; b"" for one without a photo, and for one that is not there."""
        if item not in self._place:
            return b""
        file, start, length = self._place[item]
        with open(file, "rb") as stream:
            stream.seek(start)
            record = stream.read(length)
        photo: bytes = records.parse(tf.constant([record]), _FEATURES)["image"].numpy()[0]
        return photo
