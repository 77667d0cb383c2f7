"""Features of many pairs of a user and a candidate, as sums, and how far those of two spans are apart."""

from collections import Counter
from collections.abc import Mapping, Set

import numpy as np

from courier_tf.monitoring.distributions import bin_borders, bin_counts, stability_index
from courier_tf.monitoring.ranked import Pairs

MOST_CATEGORIES = 20  # Compared one by one, the most frequent ones; the others together.
CLICKS, HISTORY = "share_of_clicks", "mean_history_length"
UNKNOWN_USERS, UNKNOWN_ITEMS = "users_that_the_ranker_does_not_know", "items_not_in_the_catalogue"
WITHOUT_HISTORY = "without_history"


class PairFeatures:
    """Sums of the features of pairs.

    Args:
        category: of each item of the catalogue.

    Attributes:
        pairs: their number.
        users, categories: how many pairs each has.
    """

    def __init__(self, category: Mapping[bytes, bytes]) -> None:
        self.category = category
        self.users: Counter[bytes] = Counter()
        self.categories: Counter[bytes] = Counter()
        self.pairs = self._history = self._without_history = self._unknown_items = 0
        self._clicks, self._with_clicks = 0, 0
        self._scores: list[np.ndarray] = []

    def add(self, pairs: Pairs, scores: np.ndarray, clicked: np.ndarray | None) -> None:
        """Adds pairs.

        Args:
            pairs: N of them.
            scores: [N], or [0] where nobody wants them.
            clicked: [N] 0 or 1; None where it is not known.
        """
        length = (pairs.history_item_ids != b"").sum(axis=1)
        self.pairs += len(length)
        self._history += int(length.sum())
        self._without_history += int((length == 0).sum())
        self.users.update(pairs.user_id.tolist())
        self._unknown_items += sum(item not in self.category for item in pairs.item_id)
        self.categories.update(self.category.get(item, b"") for item in pairs.item_id)
        self._scores.append(scores)
        if clicked is not None:
            self._clicks += int(clicked.sum())
            self._with_clicks += len(clicked)

    def scores(self) -> np.ndarray:
        """All scores that were added."""
        return np.concatenate(self._scores)

    def figures(self, known_users: Set[bytes] | None) -> dict[str, float]:
        """The features in figures; shares are of the pairs.

        Args:
            known_users: those of the ranker; None where it does not know.
        """
        figures: dict[str, float] = {"pairs": self.pairs}
        if known_users is not None:
            unknown = sum(number for user, number in self.users.items() if user not in known_users)
            figures[UNKNOWN_USERS] = unknown / self.pairs
        figures |= {
            UNKNOWN_ITEMS: self._unknown_items / self.pairs,
            WITHOUT_HISTORY: self._without_history / self.pairs,
            HISTORY: self._history / self.pairs,
        }
        return figures | ({CLICKS: self._clicks / self._with_clicks} if self._with_clicks else {})


def score_distance(expected: np.ndarray, actual: np.ndarray) -> float:
    """The population stability index of scores, in the deciles of those that are expected."""
    borders = bin_borders(expected)
    counts = (bin_counts(side[:, None], borders).sum(axis=0) for side in (expected, actual))
    return stability_index(*counts)


def category_distance(expected: PairFeatures, actual: PairFeatures) -> float:
    """The population stability index of the categories; rare ones are taken together."""
    names = [name for name, _ in expected.categories.most_common(MOST_CATEGORIES)]
    counts = []
    for side in (expected, actual):
        common = [side.categories[name] for name in names]
        counts.append(np.array([*common, side.pairs - sum(common)]))
    return stability_index(*counts)
