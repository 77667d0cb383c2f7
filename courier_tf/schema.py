"""Every name that crosses a file boundary, defined once: raw columns, TFRecord features, splits, places in a workdir.

Nothing here imports TensorFlow: the record job and the readers take their names from this file. What the client and
the served models share is in serving/client/contract.py.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

# --- The raw format: what a shop hands over -------------------------------------------------------------------------

RAW_ITEMS = "items"  # items.csv, items.jsonl, items.parquet or items.avro
RAW_EVENTS = "events"
RAW_USERS = "users"  # There need be none.
RAW_EXTENSIONS = ("csv", "jsonl", "parquet", "avro")

ITEM_REQUIRED_COLUMNS = ("item_id", "image", "category", "title")
ITEM_OPTIONAL_COLUMNS = ("available_from",)  # Any further column is kept as an item column.
ITEM_COLUMNS = (*ITEM_REQUIRED_COLUMNS, *ITEM_OPTIONAL_COLUMNS)
EVENT_REQUIRED_COLUMNS = ("user_id", "item_id", "timestamp")
IMPRESSION_LOG_COLUMNS = ("request_id", "clicked")  # Present in an impression log, absent from a positives-only log.
EVENT_TYPE = "event_type"  # In place of `clicked`, where a log has one row per event of any type.
EVENT_COLUMNS = (*EVENT_REQUIRED_COLUMNS, *IMPRESSION_LOG_COLUMNS, EVENT_TYPE)
USER_COLUMNS = ("user_id",)  # Any further column is kept as a user column.
POSITION = "position"  # The context column that tells the place of an item on its page.

LogKind = Literal["impressions", "positives"]

# Limits of what a shop may hand over; ingest rejects what is beyond them. Ids stand in tables of the rankers and of the
# served models, and in every history: a longer one is a mistake of whoever wrote the log.
MAX_ID_BYTES = 512  # Of an item id, user id or request id, in UTF-8.
MAX_TEXT_BYTES = 64 * 1024  # Of a title, or of a value of an item column, in UTF-8.
MAX_COLUMNS = 1000  # Of a file of items or events.

# --- Splits in time -------------------------------------------------------------------------------------------------

SPLITS = ("train", "valid", "test")  # train: before valid_from; valid: before test_from; test: the rest.

# --- TFRecord features ----------------------------------------------------------------------------------------------

FeatureKind = Literal["bytes", "int", "bytes_list", "int_list"]

NEVER = 2**62  # `available_from` of an item that nobody has seen yet: later than every split.

#: One record per item. Item columns (category and all further raw columns) stand beside these, see `column_feature`.
ITEM_FEATURES: dict[str, FeatureKind] = {
    "item_id": "bytes",
    "image": "bytes",  # PNG, image_size x image_size x 3; empty where the shop has no usable photo.
    "photo_digest": "bytes",  # sha256 of the shop's file, 32 bytes; empty where there is none that can be read.
    "title": "bytes",
    "available_from": "int",  # Seconds, UTC: the earlier of the declared date and the first event; else NEVER.
    "train_impressions": "int",  # Times that the log shows this item in the train span; sampled negatives do not count.
    "train_events": "int",  # Positives (clicks or purchases) of this item in the train span.
}

#: One record per pre-training row: (a part of) one page view that has a click and a history.
PAGE_VIEW_FEATURES: dict[str, FeatureKind] = {
    "user_id": "bytes",
    "page_view_id": "bytes",  # Unique over all users and days.
    "timestamp": "int",  # Of its first event; of the click, where ties are broken by the order of the log.
    "history_item_ids": "bytes_list",  # Clicked items, oldest first, newest last; at most history_kept.
    "page_view_item_ids": "bytes_list",  # At most page_view_size.
    "page_view_clicked": "int_list",  # 0 or 1 for each of page_view_item_ids.
}

#: What a pre-training row holds beside that where photos are inside the rows: the feature, and whose photos it holds.
INLINE_PHOTO_FEATURES = {"history_photos": "history_item_ids", "page_view_photos": "page_view_item_ids"}

#: One record per impression: one item shown (or sampled) in one page view. Page views are whole here.
IMPRESSION_FEATURES: dict[str, FeatureKind] = {
    "user_id": "bytes",
    "page_view_id": "bytes",
    "timestamp": "int",
    "history_item_ids": "bytes_list",  # As above, and always strictly before the page view.
    "item_id": "bytes",
    "clicked": "int",
}

#: Names that no context column can have: it is an input of the served ranker beside the others.
NO_CONTEXT_COLUMNS = frozenset({*EVENT_COLUMNS, *IMPRESSION_FEATURES, "inputs"})

CATEGORY = "category"

# Attention heads of the reconstruction `multi_head`. The settings check the embedding width against it; it stands here
# and not among them, as code that changes a result.
ATTENTION_HEADS = 4


def column_feature(column: str) -> str:
    """Name of the TFRecord feature that holds an item column, or a column of the users."""
    return f"column/{column}"


def context_feature(column: str) -> str:
    """Name of the TFRecord feature that holds a context column."""
    return f"context/{column}"


def user_features(columns: Iterable[str]) -> dict[str, FeatureKind]:
    """Features of a user record of a shop with these user columns."""
    return {"user_id": "bytes", **{column_feature(column): "bytes" for column in columns}}


def impression_features(context_columns: Iterable[str]) -> dict[str, FeatureKind]:
    """Features of an impression of a shop with these context columns."""
    return {**IMPRESSION_FEATURES, **{context_feature(column): "bytes" for column in context_columns}}


# --- Places in a workdir, beside one folder per stage ---------------------------------------------------------------

MODELS_FOLDER = "models"  # models/ctr_ranker/1
SCANN_MODELS_FOLDER = "models_scann"  # models_scann/similar_items/1, for a server with ScaNN's ops.
BUNDLE_FOLDER = "serving"  # What a server is started with.
PROMOTED_FOLDER = "promoted"  # Snapshot of what the promoted versions were made from; a later run can start from it.
MODEL_CARD = "model_card.md"  # In the bundle.

# --- Features of a request; the names of models and signatures are in serving/client/contract.py --------------------

#: Features of a tf.Example that the ranker takes.
EXAMPLE_FEATURES = ("user_id", "history_item_ids", "item_id")

# --- Places in an ingest directory ----------------------------------------------------------------------------------

ITEMS_FOLDER = "items"  # items/items-00000-of-00004.tfrecord
USERS_FOLDER = "users"  # users/users-00000-of-00004.tfrecord, where the shop has such a table.
PAGE_VIEWS_FOLDER = "page_views"  # page_views/train-00000-of-00004.tfrecord, valid-...
IMPRESSIONS_FOLDER = "impressions"  # impressions/train-..., valid-..., test-...
STATISTICS_FOLDER = "statistics"  # statistics/FeatureStats.pb and statistics/data.md of ingest
REJECTS_FOLDER = "rejects"  # rejects/rejects-00000-of-00001.jsonl
DAYS_FOLDER = "days"  # days/2020-09-13-00000-of-00001.json and .tfrecord: what the next ingest takes over.


#: What was lost. item, event, user and photo: it is broken; the others are whole, and each has a limit of its own.
#: unknown_item: an event of an item that is not in the catalogue; anonymous: an event without a user; missing_photo: a
#: photo that is named and not there.
RejectKind = Literal["item", "event", "photo", "missing_photo", "unknown_item", "anonymous", "user"]


@dataclasses.dataclass(frozen=True)
class Reject:
    """A record that could not be used: where it stands, which field, and why. One JSON line each in the reject file."""

    file: str
    row: int  # 1-based, the header of a CSV file not counted.
    field: str
    reason: str
    kind: RejectKind
