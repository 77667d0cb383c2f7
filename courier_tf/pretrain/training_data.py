"""What pre-training may know of an ingest: the items, their photos, and which of them lie in the train span."""

import dataclasses
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np

from courier_tf.features.files import FeatureFiles, read_together
from courier_tf.pretrain.head_encoder import HeadEncoder
from courier_tf.pretrain.photo_store import FeatureStore, PhotoStore
from courier_tf.training import TrainingError
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.facts import IngestFacts
from courier_tf.workdir.stages import INGEST

WATCHED_PHOTOS = 512
STANDARDISED_AT_ONCE = 8192  # Photos.


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The catalogue of an ingest, as pre-training sees it.

    Attributes:
        ingest: directory of the ingest stage.
        facts: those of the ingest stage.
        items: the catalogue, N items.
        store: the photos of the items.
        in_train_span: [N] bool, items that training may know.
    """

    ingest: Path
    facts: IngestFacts
    items: records.Items
    store: PhotoStore
    in_train_span: np.ndarray

    @classmethod
    def read(cls, ingest: Path, columns: Set[str] = frozenset()) -> "TrainingData":
        """Reads the catalogue of an ingest stage.

        Args:
            ingest: directory of the stage.
            columns: item columns to read beside those that training always needs.

        Raises:
            TrainingError: the items do not have one of the columns.
        """
        facts = artefacts.read(ingest, INGEST).facts
        if not columns <= set(facts.all_columns):
            raise TrainingError(f"items have no column {', '.join(sorted(columns))}, but {list(facts.all_columns)}")
        items = records.read_items(ingest, sorted({*facts.item_columns, *facts.repeat_columns, *columns}))
        store = PhotoStore.of(items, facts.image_size)
        return cls(ingest, facts, items, store, items.in_train_span(facts.valid_from_seconds))

    def with_features(self, sources: Sequence[FeatureFiles], pixels: FeatureFiles, views: bool) -> "TrainingData":
        """The same catalogue, by the features of its photos.

        Args:
            sources: those whose vectors the encoder takes.
            pixels: those of the source `pixels`, a baseline of the held-out score.
            views: keep the further views of each photo.
        """
        ids, of_photos = self.store.ids, self.store
        small = pixels.read(ids) * 255
        vectors = read_together(sources, ids, views)
        return dataclasses.replace(
            self, store=FeatureStore(ids, of_photos.encoded, of_photos.image_size, vectors, small)
        )

    def standardised_by(self, head: HeadEncoder) -> "TrainingData":
        """The same catalogue, by its features as a head standardises them."""
        store = self.store
        assert isinstance(store, FeatureStore), "only features can be standardised"
        rows = store.vectors.reshape(-1, store.vectors.shape[-1])
        standardised = np.empty([len(rows), head.axes], np.float32)
        for start in range(0, len(rows), STANDARDISED_AT_ONCE):
            part = slice(start, start + STANDARDISED_AT_ONCE)
            standardised[part] = head.standardised(rows[part]).numpy()
        vectors = standardised.reshape(*store.vectors.shape[:-1], head.axes)
        return dataclasses.replace(self, store=dataclasses.replace(store, vectors=vectors))

    def without_views(self) -> "TrainingData":
        """The same catalogue, by the features of the photos alone. What holds further views can then be freed."""
        store = self.store
        assert isinstance(store, FeatureStore), "only features have views"
        if store.vectors.ndim == 2:
            return self
        return dataclasses.replace(self, store=dataclasses.replace(store, vectors=store.vectors[:, 0].copy()))

    @property
    def trainable(self) -> np.ndarray:
        """[N] bool: items of the train span that have a photo."""
        return self.in_train_span & self.items.has_photo

    def require_different_photos(self) -> None:
        """Refuses a train span whose photos are all the same picture, such as a placeholder.

        Raises:
            TrainingError: names their number.
        """
        photos = self.store.encoded[self.trainable]
        if len(photos) > 1 and len(set(photos.tolist())) == 1:
            raise TrainingError(
                f"all {len(photos)} photos of the train span are the same picture: there is nothing to learn from. "
                "Look at the column image of the items"
            )

    def where(self, condition: str) -> np.ndarray:
        """[N + 1] bool by item number: items that fulfil COLUMN=VALUE."""
        column, _, value = condition.partition("=")
        return np.concatenate([[False], self.items.columns[column] == value.encode()])

    def sample(self) -> np.ndarray:
        """[M, ...]: what the encoder takes of photos of the train span, always the same, to watch embeddings on."""
        numbers = np.flatnonzero(self.trainable) + 1
        return self.store.inputs_of(np.random.default_rng(0).permutation(numbers)[:WATCHED_PHOTOS])
