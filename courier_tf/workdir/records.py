"""TFRecords to tensors and back. The names and kinds of the features are those of `schema.py`."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import Place, place_of
from courier_tf.workdir import example_bytes

PARSED_TOGETHER = 64  # Records that are parsed in one call. Each may hold a photo.

_SPECS = {
    "bytes": tf.io.FixedLenFeature([], tf.string),
    "int": tf.io.FixedLenFeature([], tf.int64),
    "bytes_list": tf.io.RaggedFeature(tf.string),
    "int_list": tf.io.RaggedFeature(tf.int64),
}


class RecordError(ValueError):
    """A TFRecord folder is empty, or a record in it does not fit the schema."""


def item_features(columns: Sequence[str]) -> dict[str, schema.FeatureKind]:
    """Features of an item record of a shop with these item columns."""
    return {**schema.ITEM_FEATURES, **{schema.column_feature(column): "bytes" for column in columns}}


def serialise(values: Mapping[str, object], features: Mapping[str, schema.FeatureKind]) -> bytes:
    """A record as serialised tf.train.Example. Strings may be str or bytes.

    Raises:
        RecordError: the names in `values` are not those of `features`.
    """
    if values.keys() != features.keys():
        raise RecordError(f"a record holds {sorted(values)}, the schema has {sorted(features)}")
    return example_bytes.example(example_bytes.entry(name, features[name], values[name]) for name in sorted(features))


def parse(serialised: tf.Tensor, features: Mapping[str, schema.FeatureKind]) -> dict[str, tf.Tensor]:
    """Parses a batch of records: [B] strings to dense [B] tensors and, for lists, ragged [B, None] ones."""
    return tf.io.parse_example(serialised, {name: _SPECS[kind] for name, kind in features.items()})


def files(folder: Place, prefix: str) -> list[str]:
    """The TFRecord files `prefix-*-of-*.tfrecord` of a folder, sorted.

    Raises:
        RecordError: there are none, or some of them are missing.
    """
    pattern = re.compile(re.escape(prefix) + r"-.*-of-.*\.tfrecord")
    shards = [str(folder / name) for name in transfer.names_in(folder) if pattern.fullmatch(name)]
    if not shards:
        raise RecordError(f"{folder} holds no files {prefix}-*.tfrecord")
    number = int(shards[0].removesuffix(".tfrecord").rpartition("-of-")[2])
    if len(shards) != number:
        raise RecordError(f"{folder} holds {len(shards)} of the {number} files {prefix}-*.tfrecord")
    return shards


def records_of(file: str) -> Iterator[bytes]:
    """The serialised records of a TFRecord file, here or on a store."""
    with transfer.local_copy(place_of(file)) as local:
        yield from tf.data.TFRecordDataset(str(local)).as_numpy_iterator()


def examples_of(file: str, specs: Mapping[str, tf.io.FixedLenFeature]) -> Iterator[dict[str, Any]]:
    """The values of the records of a TFRecord file, here or on a store: feature -> bytes or number.

    They are parsed a few at a time, as TensorFlow takes longer to call its parser than to parse a record.
    """
    with transfer.local_copy(place_of(file)) as local:
        serialised = tf.data.TFRecordDataset(str(local)).batch(PARSED_TOGETHER)
        for batch in serialised.map(lambda some: tf.io.parse_example(some, specs)).as_numpy_iterator():
            for row in zip(*batch.values(), strict=True):
                yield dict(zip(batch, row, strict=True))


def last_items(history: tf.RaggedTensor, length: int | None) -> tf.Tensor:
    """The last `length` entries of each row of ids, oldest first: [B, length] strings, padded at the end with "".

    With `length` None all of them, padded to the longest of the rows.
    """
    if length is None:
        return history.to_tensor(default_value="")
    return history[:, -length:].to_tensor(default_value="", shape=[None, length])


def user_numbers(ids: tf.Tensor) -> np.ndarray:
    """[N] int64 hashes of [N] user ids. A user has the same number in every ingest; two hardly ever share one."""
    numbers: np.ndarray = tf.strings.to_hash_bucket_fast(ids, 2**63 - 1).numpy()
    return numbers


@dataclasses.dataclass(frozen=True)
class Items:
    """The whole catalogue, ordered by item id. N items; row i of every array is the same item.

    Attributes:
        ids: [N] bytes.
        columns: column name -> [N] bytes, category among them.
        titles: [N] bytes.
        available_from: [N] int64 seconds.
        train_impressions: [N] int64, times shown in the train span, sampled negatives left out.
        train_events: [N] int64, positives among these.
        photos: [N] bytes, PNG; b"" where there is none.
    """

    ids: np.ndarray
    columns: dict[str, np.ndarray]
    titles: np.ndarray
    available_from: np.ndarray
    train_impressions: np.ndarray
    train_events: np.ndarray
    photos: np.ndarray

    @property
    def has_photo(self) -> np.ndarray:
        """[N] bool."""
        return self.photos != b""

    def repeats(self, candidate: np.ndarray, history: np.ndarray, columns: Sequence[str]) -> np.ndarray:
        """Which candidates the user has had before: visual features must get no credit for these.

        Args:
            candidate: [M] int, rows of these arrays, -1 for an unknown item.
            history: [M, H] int, likewise, -1 for padding.
            columns: item columns in which a shared value, other than an empty one, makes a repeat, too.

        Returns:
            [M] bool.
        """
        known = (history >= 0) & (candidate >= 0)[:, None]
        repeat = (history == candidate[:, None]) & known
        for column in columns:
            value = self.columns[column]
            repeat |= (value[history] == value[candidate][:, None]) & known & (value[candidate] != b"")[:, None]
        return repeat.any(axis=1)

    def in_train_span(self, valid_from_seconds: int) -> np.ndarray:
        """[N] bool: items that trained weights, vocabularies and centroids may use."""
        return self.available_from < valid_from_seconds


def read_items(ingest: Path, columns: Sequence[str]) -> Items:
    """Reads the item records of an ingest directory, with the item columns named (those of its facts).

    Raises:
        RecordError: there are none, or they do not fit the schema: those of another version may not.
    """
    features = item_features(columns)
    dataset = tf.data.TFRecordDataset(files(ingest / schema.ITEMS_FOLDER, "items")).batch(1024)
    try:
        batches = [{name: value.numpy() for name, value in parse(batch, features).items()} for batch in dataset]
    except tf.errors.InvalidArgumentError as error:
        reason = f"do not fit the schema, so the ingest must be run again: {error.message}"
        raise RecordError(f"the items of {ingest} {reason}") from error
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in features}
    order = np.argsort(joined["item_id"])
    joined = {name: value[order] for name, value in joined.items()}
    return Items(
        ids=joined["item_id"],
        columns={column: joined[schema.column_feature(column)] for column in columns},
        titles=joined["title"],
        available_from=joined["available_from"],
        train_impressions=joined["train_impressions"],
        train_events=joined["train_events"],
        photos=joined["image"],
    )


@dataclasses.dataclass(frozen=True)
class Users:
    """The users of the shop's own table, ordered by id.

    Attributes:
        ids: [M] bytes.
        columns: column name -> [M] bytes.
    """

    ids: np.ndarray
    columns: dict[str, np.ndarray]


def read_users(ingest: Path, columns: Sequence[str]) -> Users:
    """Reads the user records of an ingest directory, with the columns named (those of its facts).

    Raises:
        RecordError: there are none.
    """
    features = schema.user_features(columns)
    dataset = tf.data.TFRecordDataset(files(ingest / schema.USERS_FOLDER, "users")).batch(4096)
    batches = [{name: value.numpy() for name, value in parse(batch, features).items()} for batch in dataset]
    empty = np.array([], object)
    joined = {name: np.concatenate([empty, *(batch[name] for batch in batches)]) for name in features}
    order = np.argsort(joined["user_id"])
    return Users(joined["user_id"][order], {name: joined[schema.column_feature(name)][order] for name in columns})


def read_photos(ingest: Path, wanted: Set[bytes]) -> dict[bytes, bytes]:
    """Item id -> PNG of the items wanted; nothing else of the catalogue is kept in memory."""
    features = {name: schema.ITEM_FEATURES[name] for name in ("item_id", "image")}
    dataset = tf.data.TFRecordDataset(files(ingest / schema.ITEMS_FOLDER, "items")).batch(1024)
    photos: dict[bytes, bytes] = {}
    for batch in dataset:
        parsed = parse(batch, features)
        pairs = zip(parsed["item_id"].numpy(), parsed["image"].numpy(), strict=True)
        photos |= {item: photo for item, photo in pairs if item in wanted}
    return photos
