"""Logged requests to `ctr_ranker`: pairs of a user and a candidate with the probability that was served."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
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
    context: Mapping[str, np.ndarray] = MappingProxyType({})  # Context column -> [N].

    def where(self, chosen: np.ndarray) -> "Pairs":
        """The pairs of [N] bool, or at [n] places."""
        context = {name: values[chosen] for name, values in self.context.items()}
        return Pairs(self.user_id[chosen], self.history_item_ids[chosen], self.item_id[chosen], context)

    def features(self, context_names: Iterable[str]) -> dict[str, np.ndarray]:
        """The features of a ranker that is asked with some context columns; those that are not logged are empty."""
        features = {"user_id": self.user_id, "history_item_ids": self.history_item_ids, "item_id": self.item_id}
        return features | with_context({name: self.context.get(name) for name in context_names}, len(self.item_id))


def with_context(known: Mapping[str, np.ndarray | None], rows: int) -> dict[str, np.ndarray]:
    """Context columns of so many rows: the values that are known, and empty texts in place of None."""
    return {name: np.full(rows, b"", object) if values is None else values for name, values in known.items()}


def has_pairs(logged: Logged) -> bool:
    """Whether a logged request asks `ctr_ranker` with its features; serialised examples are not looked into."""
    return logged.model == CTR_RANKER and "item_id" in logged.request.inputs


def pairs_of(logged: Logged) -> tuple[Pairs, np.ndarray]:
    """The pairs of an answered request without padding, and their probabilities [N]."""
    inputs, probability = logged.request.inputs, logged.outputs["probability"]
    user, history, item = (inputs[name].astype(object) for name in schema.EXAMPLE_FEATURES)
    context = {name: values.astype(object) for name, values in inputs.items() if name not in schema.EXAMPLE_FEATURES}
    if item.ndim == 1:
        return Pairs(user, history, item, context), probability
    row, place = np.nonzero(item != b"")
    context = {name: values[row] for name, values in context.items()}
    return Pairs(user[row], history[row], item[row, place], context), probability[row, place]
