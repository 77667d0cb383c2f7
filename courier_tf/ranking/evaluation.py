"""A split in arrays, with the slices that are reported, and the metrics of predictions on it.

The slice that tells most about visual features is `new_to_user`: impressions of a user who has a history, whose
candidate is new to that user. Neither the candidate nor an item that shares a repeat column with it stands in the
history. Elsewhere, repeats are easy to predict without photos, and without a history there is nothing to compare with.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from courier_tf.ranking.data import RankingError, impression_batches
from courier_tf.ranking.metrics import SlicedMetrics, auc, evaluate_slices, logloss
from courier_tf.workdir import records

#: The candidate is new to a user who has a history: neither it nor an item that shares a repeat column stands there.
NEW_TO_USER = "new_to_user"
COLD, RARE = "train_events/0", "train_events/0-4"
NEW_TO_USER_RARE = f"{NEW_TO_USER}+{RARE}"  # What visual features can tell of rare items: they need a history.
#: The slices that a run shows at its end.
MAIN_SLICES = (NEW_TO_USER, NEW_TO_USER_RARE, "with_history", "without_history", COLD, RARE, "train_events/5+")
#: The shortest and the longest history of each slice by history length.
HISTORY_LENGTHS: dict[str, tuple[float, float]] = {"1": (1, 1), "2-4": (2, 4), "5-9": (5, 9), "10+": (10, np.inf)}
MOST_VALUES = 30  # Slices by a column: its most frequent values; all other values are one more slice.


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A split of N impressions in arrays, in the order of its files, with the slices that are reported.

    Attributes:
        users, page_views: [N] int, numbers that stand for the ids; a user has the same number in every ingest.
        items: [N] int, rows of the candidates among all items; -1 for one that is not there.
        clicked: [N] int.
        popularity: [N] int, positives of the candidate in the train span.
        slices: name -> [N] bool.
    """

    users: np.ndarray
    page_views: np.ndarray
    items: np.ndarray
    clicked: np.ndarray
    popularity: np.ndarray
    slices: dict[str, np.ndarray]

    def metrics(self, probability: np.ndarray) -> SlicedMetrics:
        """All metrics of predictions, [N] float, overall and per slice."""
        return evaluate_slices(self.users, self.page_views, self.clicked, probability, self.slices)

    def logloss(self, probability: np.ndarray) -> float:
        """The log loss of predictions, [N] float."""
        loss = logloss(self.clicked, probability)
        assert loss is not None, "a split holds impressions"
        return loss

    def popularity_guard(self) -> dict[str, float | None]:
        """What popularity alone tells about clicks. Sampled negatives easily give too much away.

        Returns:
            {"auc": with the popularity in the train span as the score; far from 0.5 where negatives are drawn in
            another way than positives, "cold_share_of_unclicked": share of items without a train positive among the
            negatives}.
        """
        negatives = self.popularity[self.clicked == 0]
        cold = float((negatives == 0).mean()) if len(negatives) else None
        return {"auc": auc(self.clicked, self.popularity), "cold_share_of_unclicked": cold}


def read_evaluation(
    ingest: Path,
    split: str,
    items: records.Items,
    repeat_columns: Sequence[str],
    slice_columns: Sequence[str] = (),
) -> Evaluation:
    """Reads a split for evaluation. Its slices use the whole histories that ingest kept, even if a ranker uses less.

    Args:
        ingest: directory of the ingest stage.
        split: train, valid or test.
        items: all items.
        repeat_columns: item columns in which a shared value makes a candidate a repeat of a history item.
        slice_columns: item columns whose values give further slices.

    Returns:
        The split with the slices of `slices_of`.

    Raises:
        RankingError: the split holds no impression.
    """

    def rows_of(ids: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(items.ids, ids), len(items.ids) - 1)
        return np.where(items.ids[place] == ids, place, -1)

    parts: dict[str, list[np.ndarray]] = {}
    for batch in impression_batches(ingest, split, history_length=None, batch_size=8192):
        values = {name: value.numpy() for name, value in batch.items()}
        item, history = rows_of(values["item_id"]), rows_of(values["history_item_ids"])
        columns_of_batch = {
            "users": records.user_numbers(values["user_id"]),
            "page_views": values["page_view_id"],
            "clicked": values["clicked"],
            "length": (values["history_item_ids"] != b"").sum(axis=1),
            "repeat": items.repeats(item, history, repeat_columns),
            "item": item,
        }
        for name, value in columns_of_batch.items():
            parts.setdefault(name, []).append(value)
    if not parts:
        raise RankingError(f"the {split} split of {ingest} holds no impression")
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    item = joined["item"]
    popularity = np.where(item >= 0, items.train_events[item], 0)
    columns = {column: np.where(item >= 0, items.columns[column][item], b"") for column in slice_columns}
    return Evaluation(
        joined["users"],
        np.unique(joined["page_views"], return_inverse=True)[1],
        item,
        joined["clicked"],
        popularity,
        slices_of(joined["length"], joined["repeat"], popularity, columns),
    )


def slices_of(
    length: np.ndarray, repeat: np.ndarray, popularity: np.ndarray, columns: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The slices of N impressions, each [N] bool.

    Args:
        length: [N] int, history items.
        repeat: [N] bool: the candidate stands in the history, or shares a repeat column with an item there.
        popularity: [N] int, positives of the candidate in the train span.
        columns: name -> [N] bytes, the candidate's value; b"" where it is not known.

    Returns:
        Slices by history: `new_to_user` (a history, and no repeat), `with_history`, `without_history`,
        `history_length/...`. Slices by item: `train_events/...` (cold and rare items), `COLUMN/VALUE` for the most
        frequent values, and one for all others. `new_to_user+...` is the part of a slice that is new to the user.
    """
    new_to_user = (length > 0) & ~repeat
    slices = {
        NEW_TO_USER: new_to_user,
        NEW_TO_USER_RARE: new_to_user & (popularity < 5),
        "with_history": length > 0,
        "without_history": length == 0,
        COLD: popularity == 0,
        RARE: popularity < 5,
        "train_events/5+": popularity >= 5,
    }
    for name, (low, high) in HISTORY_LENGTHS.items():
        slices[f"history_length/{name}"] = (low <= length) & (length <= high)
    for column, value_of in columns.items():
        values, counts = np.unique(value_of, return_counts=True)
        shown = sorted(values[np.argsort(-counts, kind="stable")][:MOST_VALUES])
        of_column = {f"{column}/{value.decode() or '(unknown)'}": value_of == value for value in shown}
        if len(values) > len(shown):
            of_column[f"{column}/(others)"] = ~np.isin(value_of, np.array(shown, object))
        slices |= of_column | {f"{NEW_TO_USER}+{name}": new_to_user & rows for name, rows in of_column.items()}
    return slices
