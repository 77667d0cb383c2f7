"""tf.data pipelines of the encoder: page-view rows with each photo once, and labelled photos."""

import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.pretrain.photo_store import PhotoStore
from courier_tf.workdir import records

SHUFFLE_ROWS = 16_384
DAY = 86_400  # Seconds.
BUCKET = 32  # Padding fills a batch up to a multiple of so many photos, because kernels prepare for each new shape.

#: One batch of a replica: U photos, B rows, P slots of a page view, H of a history. Objectives may ask for more tensors
#: [U, ...], one row per photo.
BATCH = {
    "photos": "[U, S, S, 3] uint8, each photo of the batch once, then padding; features [U, W] where the head learns",
    "photo_items": "[U] int32, the items by number; 0 for padding and for items without a photo",
    "history": "[B, H] int32, places in photos; padding points to a photo_items of 0",
    "page_view": "[B, P] int32, likewise",
    "clicked": "[B, P] bool",
    "user": "[B] int64, fingerprint of the user",
    "day": "[B] int64, of the page view (UTC)",
}


def deduplicated(
    page_view: tf.Tensor,
    history: tf.Tensor,
    clicked: tf.Tensor,
    inputs: tf.Tensor,
    attributes: dict[str, tf.Tensor] | None = None,
) -> dict[str, tf.Tensor]:
    """Turns the item numbers of rows into a batch of `CourierModel` that holds every photo once.

    Args:
        page_view: [B, P] int32 item numbers, 0 where padded or without a photo.
        history: [B, H] int32 item numbers, likewise.
        clicked: [B, P] bool.
        inputs: [N + 1, ...], what the encoder takes of each photo: pixels or features.
        attributes: further tensors [N + 1, ...], gathered for each photo.

    Returns:
        The tensors of `BATCH` without `user` and `day`, and the attributes.
    """
    items, _, places = _each_once(page_view, history)
    return _batch(tf.gather(inputs, items), items, places, clicked & (page_view > 0), attributes)


def deduplicated_files(
    page_view: tf.Tensor,
    history: tf.Tensor,
    clicked: tf.Tensor,
    page_view_photos: tf.Tensor,
    history_photos: tf.Tensor,
    image_size: int,
    attributes: dict[str, tf.Tensor] | None = None,
) -> dict[str, tf.Tensor]:
    """`deduplicated` for rows that hold their photos. It decodes only the first PNG file of each item.

    Args:
        page_view_photos, history_photos: strings in the shapes of `page_view` and `history`.
        image_size: S.
    """
    items, place_of_slot, places = _each_once(page_view, history)
    files = tf.concat([[""], tf.reshape(page_view_photos, [-1]), tf.reshape(history_photos, [-1])], axis=0)
    different = tf.math.count_nonzero(items, dtype=tf.int32) + 1  # The zero in front included.
    first_slot = tf.math.unsorted_segment_min(tf.range(tf.size(place_of_slot)), place_of_slot, different)
    pixels = tf.map_fn(
        functools.partial(tf.io.decode_png, channels=3),
        tf.gather(files, first_slot[1:]),
        fn_output_signature=tf.TensorSpec([image_size, image_size, 3], tf.uint8),
    )
    pixels = tf.pad(pixels, [[1, tf.size(items) - different], [0, 0], [0, 0], [0, 0]])
    return _batch(pixels, items, places, clicked & (page_view > 0), attributes)


def _each_once(page_view: tf.Tensor, history: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """Each item of a batch once.

    Returns:
        ([U] items by number, a zero first, zeros up to a multiple of BUCKET last; [1 + B * P + B * H] the place of each
        slot's item among them; the same in the shapes of `page_view` and `history`).
    """
    # The zero in front gives padding a place to point to.
    slots = tf.concat([[0], tf.reshape(page_view, [-1]), tf.reshape(history, [-1])], axis=0)
    unique, place = tf.unique(slots)
    _, page_view_place, history_place = tf.split(place, [1, tf.size(page_view), tf.size(history)])
    items = tf.pad(unique, [[0, -tf.size(unique) % BUCKET]])
    shaped = tf.reshape(page_view_place, tf.shape(page_view)), tf.reshape(history_place, tf.shape(history))
    return items, place, shaped


def _batch(
    photos: tf.Tensor,
    items: tf.Tensor,
    places: tuple[tf.Tensor, tf.Tensor],
    clicked: tf.Tensor,
    attributes: dict[str, tf.Tensor] | None,
) -> dict[str, tf.Tensor]:
    gathered = {name: tf.gather(values, items) for name, values in (attributes or {}).items()}
    return {
        "photos": photos,
        "photo_items": items,
        "page_view": places[0],
        "history": places[1],
        "clicked": clicked,
        **gathered,
    }


def page_view_batches(
    ingest: Path,
    store: PhotoStore,
    *,
    history_length: int,
    page_view_size: int,
    batch_rows: int,
    seed: int,
    inline: bool = False,
    attributes: dict[str, np.ndarray] | None = None,
    teaching: np.ndarray | None = None,
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
        seed: decides the order of files and rows. The same seed gives the same batches.
        inline: decode the photos that the rows hold, instead of keeping all photos of the store in memory.
        attributes: further arrays [N + 1, ...] by item number, whose rows go with the photos.
        teaching: [N + 1] bool by item number. Only clicks on these items count; rows without such a click are left out.
        skip_batches: batches that a resumed run has already seen, those of all workers together.
        shard: (index, number) of this worker among all. Each takes its batches of the same stream, so that a step has
            the same rows however many workers there are. Rows of others are read, but neither parsed nor decoded.
    """
    names = records.files(ingest / schema.PAGE_VIEWS_FOLDER, "train")
    inputs = None if inline else tf.constant(store.inputs)
    further = {name: tf.constant(values) for name, values in (attributes or {}).items()}
    table = store.lookup()
    features = schema.PAGE_VIEW_FEATURES | (dict.fromkeys(schema.INLINE_PHOTO_FEATURES, "bytes_list") if inline else {})

    def to_batch(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
        row = records.parse(serialised, features)
        clicked = row["page_view_clicked"].to_tensor(0, shape=[None, page_view_size]) > 0
        history = table.lookup(records.last_items(row["history_item_ids"], history_length))
        page_view = table.lookup(records.last_items(row["page_view_item_ids"], page_view_size))
        if teaching is not None:
            clicked &= tf.gather(teaching, page_view)
        if inline:
            of_page_view = records.last_items(row["page_view_photos"], page_view_size)
            of_history = records.last_items(row["history_photos"], history_length)
            batch = deduplicated_files(page_view, history, clicked, of_page_view, of_history, store.image_size, further)
        else:
            batch = deduplicated(page_view, history, clicked, inputs, further)
        return {
            **batch,
            "user": tf.strings.to_hash_bucket_fast(row["user_id"], 2**62),
            "day": row["timestamp"] // DAY,
        }

    dataset = tf.data.Dataset.from_tensor_slices(names).shuffle(len(names), seed=seed)
    dataset = dataset.interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=4, deterministic=True)
    if teaching is not None:
        dataset = dataset.filter(lambda serialised: teaches(serialised, table, teaching))
    dataset = dataset.shuffle(SHUFFLE_ROWS, seed=seed).repeat()
    dataset = dataset.batch(batch_rows, drop_remainder=True).skip(skip_batches).shard(shard[1], shard[0])
    return dataset.map(to_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def teaches(serialised: tf.Tensor, table: tf.lookup.StaticHashTable, teaching: np.ndarray) -> tf.Tensor:
    """Whether a row has a click on one of the `teaching` items, a scalar bool.

    Args:
        serialised: a pre-training row.
        table: item id to number, of the photo store.
        teaching: [N + 1] bool by item number.
    """
    row = records.parse(serialised[None], schema.PAGE_VIEW_FEATURES)
    clicked = row["page_view_clicked"].flat_values > 0
    return tf.reduce_any(clicked & tf.gather(teaching, table.lookup(row["page_view_item_ids"].flat_values)))


def teaching_rows(ingest: Path, store: PhotoStore, teaching: np.ndarray) -> int:
    """Number of rows of the train span with a click on one of the `teaching` items ([N + 1] bool by item number)."""
    table, rows = store.lookup(), tf.data.TFRecordDataset(records.files(ingest / schema.PAGE_VIEWS_FOLDER, "train"))
    return int(rows.filter(lambda serialised: teaches(serialised, table, teaching)).reduce(0, lambda n, _: n + 1))


def log_shares(ingest: Path, store: PhotoStore) -> np.ndarray:
    """Logarithm of each item's share of the train span's page-view slots, [N + 1] float32.

    An item that no slot shows counts as if one did.
    """
    counts = np.zeros(len(store.ids) + 1)
    for batch in tf.data.TFRecordDataset(records.files(ingest / schema.PAGE_VIEWS_FOLDER, "train")).batch(4096):
        shown = records.parse(batch, schema.PAGE_VIEW_FEATURES)["page_view_item_ids"].flat_values.numpy()
        counts += np.bincount(store.numbers(shown), minlength=len(counts))
    counts = np.maximum(counts, 1)
    return np.log(counts / counts[1:].sum()).astype(np.float32)


def photo_batches(
    store: PhotoStore,
    numbers: np.ndarray,
    attributes: dict[str, np.ndarray],
    *,
    batch_size: int,
    seed: int,
    skip_batches: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """An endless, seeded stream of photos with their attributes, for supervised pre-training.

    Args:
        store: photos.
        numbers: [M] item numbers to draw from.
        attributes: arrays [N + 1, ...] by item number.
        batch_size: photos per batch.
        seed: decides the order.
        skip_batches, shard: as in `page_view_batches`.
    """
    inputs = tf.constant(store.inputs)
    further = {name: tf.constant(values) for name, values in attributes.items()}

    def to_batch(items: tf.Tensor) -> dict[str, tf.Tensor]:
        gathered = {name: tf.gather(values, items) for name, values in further.items()}
        return {"photos": tf.gather(inputs, items), "photo_items": items, **gathered}

    dataset = tf.data.Dataset.from_tensor_slices(numbers.astype(np.int32))
    dataset = dataset.shuffle(len(numbers), seed=seed).repeat()
    dataset = dataset.batch(batch_size, drop_remainder=True).skip(skip_batches).shard(shard[1], shard[0])
    return dataset.map(to_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)
