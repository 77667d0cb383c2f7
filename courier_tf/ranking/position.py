"""The bias of positions: items at the top of a page are clicked more often, whatever they are."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.columns import Columns, TextInputs
from courier_tf.schema import POSITION

HIDDEN = 16  # Width of the tower.
SMALLEST = 1e-7  # Of a probability whose log odds are taken.


class PositionTower(keras.layers.Layer):
    """What the position of an item adds to its log odds of a click, in training alone.

    The log odds are those of the ranker, which sees no position, plus those of this shallow tower, which sees nothing
    else. So the ranker need not explain by items what is due to their positions. (Zhao et al., "Recommending what
    video to watch next", RecSys 2019, section 4.2; PAL, Guo et al., RecSys 2019, multiplies probabilities instead.)

    A server does not know positions. It adds `served`, one number for all, so that the order stays that of the ranker.
    `served_log_odds` chooses it after each pass, so that probabilities stay calibrated on average.

    Args:
        columns: what the train span knows of the column `POSITION`.
        dim: width of the embedding of a position.

    Call: {POSITION: [B] strings} -> [B] float32.
    """

    def __init__(self, columns: Columns, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inputs = TextInputs(columns, dim, name="inputs")
        self.hidden = keras.layers.Dense(HIDDEN, activation="relu", name="hidden")
        # Without a bias: the ranker has one.
        self.logit = keras.layers.Dense(1, use_bias=False, dtype="float32", name="logit")
        self.served = self.add_weight("served", [], "float32", "zeros", trainable=False)

    def call(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        return self.logit(self.hidden(self.inputs({POSITION: features[POSITION]})))[:, 0]


def served_log_odds(probability: np.ndarray, served: float, added: np.ndarray) -> float:
    """The number that gives N impressions the mean probability that they have with their positions.

    The mean of what the tower adds would not: the mean of sigmoids is not the sigmoid of the mean, and a shop shows the
    better items further up.

    Args:
        probability: [N] of a ranker that adds `served` to all log odds.
        served: as above.
        added: [N] what the tower adds to each.

    >>> round(served_log_odds(np.array([0.5, 0.5]), 0.0, np.array([-1.0, -1.0])), 4)
    -1.0
    """
    clipped = np.clip(probability.astype(float), SMALLEST, 1 - SMALLEST)
    relevance = np.log(clipped) - np.log1p(-clipped) - served
    wanted = _sigmoid(relevance + added).mean()
    low, high = float(added.min()), float(added.max())  # The mean grows with the number.
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(relevance + middle).mean() < wanted else (low, middle)
    return (low + high) / 2


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))
