"""Rows per second of the input pipeline alone.

python -m tests.benchmarks.pretrain.input_speed PHOTOS INGEST ROWS

PHOTOS: store, or inline where the rows of INGEST hold their photos.
"""

import sys
from pathlib import Path

import courier_tf  # noqa: F401  (chooses the Keras before TensorFlow is imported)
from tests.benchmarks.child import answer, repeated


def main(photos: str, ingest: str, rows: str) -> None:
    from courier_tf.pretrain.data import page_view_batches
    from courier_tf.pretrain.photo_store import PhotoStore
    from courier_tf.workdir import artefacts, records
    from courier_tf.workdir.stages import INGEST

    facts = artefacts.read(Path(ingest), INGEST).facts
    store = PhotoStore.of(records.read_items(Path(ingest), facts.item_columns), facts.image_size)
    settings = {"history_length": 5, "page_view_size": facts.page_view_size, "batch_rows": int(rows), "seed": 0}
    stream = iter(page_view_batches(Path(ingest), store, inline=photos == "inline", **settings))
    answer(rate=int(rows) / repeated(lambda: next(stream)))


if __name__ == "__main__":
    main(*sys.argv[1:])
