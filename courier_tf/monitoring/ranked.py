"""Logged requests to `ctr_ranker`: pairs of a user and a candidate with the probability that was served."""

from typing import NamedTuple

import numpy as np

from courier_tf import schema
from serving.client.contract import CTR_RANKER
from serving.client.request_log import Logged


class Pairs(NamedTuple):
    """Features of [N] pairs of a user and a candidate."""

    user_id: np.ndarray
    history_item_ids: np.ndarray  # [N, H], padded with b"".
    item_id: np.ndarray


def has_pairs(logged: Logged) -> bool:
    """Whether a logged request asks `ctr_ranker` with its features; serialised examples are not looked into."""
    return logged.model == CTR_RANKER and "item_id" in logged.request.inputs


def pairs_of(logged: Logged) -> tuple[Pairs, np.ndarray]:
    """The pairs of an answered request without padding, and their probabilities [N]."""
    inputs, probability = logged.request.inputs, logged.outputs["probability"]
    user, history, item = (inputs[name].astype(object) for name in schema.EXAMPLE_FEATURES)
    if item.ndim == 1:
        return Pairs(user, history, item), probability
    row, place = np.nonzero(item != b"")
    return Pairs(user[row], history[row], item[row, place]), probability[row, place]
