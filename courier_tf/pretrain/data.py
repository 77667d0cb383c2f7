"""tf.data pipelines of the encoder: the photo store, page-view rows with each photo once, and labelled photos."""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import records, schema

SHUFFLE_ROWS = 16_384


@dataclasses.dataclass(frozen=True)
class PhotoStore:
    """The catalogue's photos in memory; item number 0 stands for "no such item, or no photo".

    Attributes:
        ids: [N] bytes, sorted; item i has number i + 1.
        pixels: [N + 1, S, S, 3] uint8; row 0 is black.
        has_photo: [N + 1] bool.
    """

    ids: np.ndarray
    pixels: np.ndarray
    has_photo: np.ndarray

    @classmethod
    def of(cls, items: records.Items, image_size: int) -> "PhotoStore":
        """Decodes the stored photos of a catalogue."""
        pixels = np.zeros([len(items.ids) + 1, image_size, image_size, 3], np.uint8)
        for number, photo in enumerate(items.photos, start=1):
            if photo:
                pixels[number] = tf.io.decode_png(photo, channels=3).numpy()
        return cls(items.ids, pixels, np.concatenate([[False], items.has_photo]))

    def numbers(self, ids: np.ndarray) -> np.ndarray:
        """Item numbers of ids [...] bytes; 0 for an unknown item and for one without a photo."""
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        known = (self.ids[place] == ids) & self.has_photo[place + 1]
        return np.where(known, place + 1, 0).astype(np.int32)

    def lookup(self) -> tf.lookup.StaticHashTable:
        """The same as a table for use inside tf.data."""
        usable = np.flatnonzero(self.has_photo[1:])
        return tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(self.ids[usable], (usable + 1).astype(np.int32)), default_value=0
        )


def deduplicated(
    page_view: tf.Tensor, history: tf.Tensor, clicked: tf.Tensor, pixels: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Item numbers of one batch to a batch of `CourierModel`, with every photo once.

    Args:
        page_view: [B, P] int32 item numbers, 0 where padded or without a photo.
        history: [B, H] int32 item numbers, likewise.
        clicked: [B, P] bool.
        pixels: [N + 1, S, S, 3] uint8, the photo store.

    Returns:
        The tensors of `courier_tf.pretrain.model.BATCH`. Number 0 counts as one more (black) photo where it occurs.
    """
    slots = tf.concat([tf.reshape(page_view, [-1]), tf.reshape(history, [-1])], axis=0)
    unique, place = tf.unique(slots)
    page_view_place, history_place = tf.split(place, [tf.size(page_view), tf.size(history)])
    return {
        "photos": tf.gather(pixels, unique),
        "history": tf.reshape(history_place, tf.shape(history)),
        "history_mask": history > 0,
        "history_items": history,
        "page_view": tf.reshape(page_view_place, tf.shape(page_view)),
        "page_view_mask": page_view > 0,
        "page_view_items": page_view,
        "clicked": clicked & (page_view > 0),
    }


def page_view_batches(
    ingest: Path,
    store: PhotoStore,
    *,
    history_length: int,
    page_view_size: int,
    batch_rows: int,
    seed: int,
    skip_batches: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """An endless, seeded stream of training batches of `batch_rows` page views (one replica's share).

    Args:
        ingest: directory of the ingest stage.
        store: photos of its items.
        history_length: H, the most recent history items used.
        page_view_size: P.
        batch_rows: B.
        seed: of the order of files and rows; the same seed gives the same batches.
        skip_batches: batches that a resumed run has already seen.
        shard: (index, count) of this input pipeline among the workers.
    """
    names = records.files(ingest / schema.PAGE_VIEWS_FOLDER, "train")
    pixels = tf.constant(store.pixels)
    table = store.lookup()

    def numbers(ids: tf.RaggedTensor, size: int) -> tf.Tensor:
        return table.lookup(records.last_items(ids, size))

    def to_batch(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
        row = records.parse(serialised, schema.PAGE_VIEW_FEATURES)
        clicked = row["page_view_clicked"].to_tensor(0, shape=[None, page_view_size]) > 0
        history = numbers(row["history_item_ids"], history_length)
        return deduplicated(numbers(row["page_view_item_ids"], page_view_size), history, clicked, pixels)

    dataset = tf.data.Dataset.from_tensor_slices(names).shuffle(len(names), seed=seed)
    dataset = dataset.interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=4, deterministic=True)
    dataset = dataset.shard(shard[1], shard[0]).shuffle(SHUFFLE_ROWS, seed=seed).repeat()
    dataset = dataset.batch(batch_rows, drop_remainder=True).skip(skip_batches)
    return dataset.map(to_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def labelled_photos(
    store: PhotoStore, numbers: np.ndarray, labels: np.ndarray, *, batch_size: int, seed: int, skip_batches: int = 0
) -> tf.data.Dataset:
    """An endless, seeded stream of augmented photos with their catalogue codes, for the warm-up.

    Args:
        store: photos.
        numbers: [M] item numbers to draw from.
        labels: [M, columns] int32 codes; -1 where the item's value is unknown.
        batch_size: photos per batch.
        seed: of order and augmentation.
        skip_batches: batches that a resumed run has already seen.
    """
    pixels = tf.constant(store.pixels)

    def augmented(number: tf.Tensor, codes: tf.Tensor, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        photo, size = pixels[number], store.pixels.shape[1]
        key = tf.stack([tf.cast(draw, tf.int64), tf.constant(seed, tf.int64)])
        photo = tf.image.stateless_random_flip_left_right(photo, seed=key)
        margin = size // 16
        photo = tf.pad(photo, [[margin, margin], [margin, margin], [0, 0]], mode="SYMMETRIC")
        return tf.image.stateless_random_crop(photo, [size, size, 3], seed=key), codes

    dataset = tf.data.Dataset.from_tensor_slices((numbers.astype(np.int32), labels.astype(np.int32)))
    dataset = dataset.shuffle(len(numbers), seed=seed).repeat().enumerate()
    dataset = dataset.skip(skip_batches * batch_size)
    dataset = dataset.map(
        lambda draw, row: augmented(row[0], row[1], draw), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return dataset.batch(batch_size, drop_remainder=True).prefetch(2)
