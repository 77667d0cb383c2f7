"""A split in arrays, with the slices that are reported, and what the rankers achieve on it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from courier_tf.ranking.data import RankingError, impression_batches
from courier_tf.ranking.metrics import auc, evaluate_slices
from courier_tf.workdir import records

NEW_TO_USER = "new_to_user"
COLD, RARE = "train_events/0", "train_events/0-4"
NEW_TO_USER_RARE = f"{NEW_TO_USER}+{RARE}"  # What image features can tell of rare items: they need a history.
#: Shown at the end of a run.
MAIN_SLICES = (NEW_TO_USER, NEW_TO_USER_RARE, "with_history", "without_history", COLD, RARE, "train_events/5+")
#: Last and first length of each slice by history length.
HISTORY_LENGTHS = {"1": (1, 1), "2-4": (2, 4), "5-9": (5, 9), "10+": (10, np.inf)}
MOST_VALUES = 30  # Slices by a column, its most frequent values; all others are one more slice.


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A split in arrays, in the order of its files, with the slices that are reported.

    Attributes:
        users, page_views: [N] int, each id by its number among those of the split.
        clicked: [N] int.
        popularity: [N] int, positives of the candidate in the train span.
        slices: name -> [N] bool.
    """

    users: np.ndarray
    page_views: np.ndarray
    clicked: np.ndarray
    popularity: np.ndarray
    slices: dict[str, np.ndarray]

    def metrics(self, probability: np.ndarray) -> dict:
        """All metrics of these predictions, [N] float, overall and per slice."""
        return evaluate_slices(self.users, self.page_views, self.clicked, probability, self.slices)

    def popularity_guard(self) -> dict[str, float | None]:
        """What popularity alone tells, which sampled negatives easily give away.

        Returns:
            {"auc": of the train span's popularity as the score (far from 0.5 where negatives are drawn otherwise than
            positives come about), "cold_share_of_unclicked": items without a train positive among the negatives}.
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
    """Reads a split for evaluation. Its slices are of the histories as ingest kept them, however much a ranker sees.

    Args:
        ingest: directory of the ingest stage.
        split: train, valid or test.
        items: all items.
        repeat_columns: item columns in which a shared value makes a candidate a repeat of a history item.
        slice_columns: item columns by whose values there are slices, too.

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
        found = {
            "users": values["user_id"],
            "page_views": values["page_view_id"],
            "clicked": values["clicked"],
            "length": (values["history_item_ids"] != b"").sum(axis=1),
            "repeat": items.repeats(item, history, repeat_columns),
            "item": item,
        }
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    if not parts:
        raise RankingError(f"the {split} split of {ingest} holds no impression")
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    item = joined["item"]
    popularity = np.where(item >= 0, items.train_events[item], 0)
    columns = {column: np.where(item >= 0, items.columns[column][item], b"") for column in slice_columns}
    return Evaluation(
        np.unique(joined["users"], return_inverse=True)[1],
        np.unique(joined["page_views"], return_inverse=True)[1],
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
        repeat: [N] bool: the candidate stands in the history, or shares a value of the repeat columns with one of it.
        popularity: [N] int, positives of the candidate in the train span.
        columns: name -> [N] bytes, the candidate's value; b"" where it is not known.

    Returns:
        `new_to_user` (a history, and no repeat: the headline), `with_history`, `without_history`,
        `train_events/...` (cold and rare items; of the latter also what is in the headline), `history_length/...`,
        `COLUMN/VALUE` (the most frequent ones; all others together; of each also what is in the headline).
    """
    headline = (length > 0) & ~repeat
    slices = {
        NEW_TO_USER: headline,
        NEW_TO_USER_RARE: headline & (popularity < 5),
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
        own = {f"{column}/{value.decode() or '(unknown)'}": value_of == value for value in shown}
        if len(values) > len(shown):
            own[f"{column}/(others)"] = ~np.isin(value_of, np.array(shown, object))
        slices |= own | {f"{NEW_TO_USER}+{name}": headline & rows for name, rows in own.items()}
    return slices
