"""What the train span tells of users and columns, before any ranker is trained."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.ranking import data
from courier_tf.ranking.columns import Columns
from courier_tf.ranking.predicting import PREDICT_BATCH
from courier_tf.ranking.user_columns import UserTable
from courier_tf.settings import RankSettings
from courier_tf.workdir import records


def context_of(ingest: Path, columns: Sequence[str], settings: RankSettings) -> Columns:
    """What the train impressions tell of the context columns that rankers are to use.

    Args:
        ingest: directory of the ingest stage.
        columns: those that impressions have.
        settings: those of the rank stage.

    Raises:
        RankingError: a value of `rank_context_number_columns` is no number.
    """
    numbers = settings.rank_context_number_columns
    chosen = settings.rank_context_columns or [name for name in columns if name not in numbers]
    counts: dict[str, Counter[bytes]] = {name: Counter() for name in dict.fromkeys([*chosen, *numbers])}
    if counts:
        features: dict[str, schema.FeatureKind] = {schema.context_feature(name): "bytes" for name in counts}
        files = records.files(ingest / schema.IMPRESSIONS_FOLDER, "train")
        for batch in tf.data.TFRecordDataset(files).batch(PREDICT_BATCH):
            row = records.parse(batch, features)
            for name, of_column in counts.items():
                of_column.update(row[schema.context_feature(name)].numpy().tolist())
    return Columns.of(counts, numbers, "rank_context_number_columns")


def user_table_of(ingest: Path, columns: Sequence[str], settings: RankSettings) -> UserTable:
    """The columns of users that rankers are to use.

    Args:
        ingest: directory of the ingest stage.
        columns: those that the shop's table of users has; none where there is no such table.
        settings: those of the rank stage.

    Raises:
        RankingError: a value of `rank_user_number_columns` is no number.
    """
    if not columns:
        return UserTable()
    users = records.read_users(ingest, columns)
    trained = np.isin(users.ids, train_users(ingest))
    return UserTable.of(users, trained, settings.rank_user_columns, settings.rank_user_number_columns)


def train_users(ingest: Path, min_page_views: int = 1) -> np.ndarray:
    """[U] bytes, sorted: the users of the train impressions who have at least `min_page_views` page views there."""
    page_views: dict[bytes, set[bytes]] = {}
    for batch in data.impression_batches(ingest, "train", history_length=1, batch_size=PREDICT_BATCH):
        pairs = zip(batch["user_id"].numpy().tolist(), batch["page_view_id"].numpy().tolist(), strict=True)
        for user, page_view in set(pairs):
            of_user = page_views.setdefault(user, set())
            if len(of_user) < min_page_views:  # More of them need not be kept.
                of_user.add(page_view)
    return np.array(sorted(user for user, views in page_views.items() if len(views) >= min_page_views), object)
