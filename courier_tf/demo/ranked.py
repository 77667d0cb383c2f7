"""A ranking with its reasons, from answers of the model server alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from serving.client import CourierClient, contract

#: A ranker that has seen no photos. The demo serves it beside the models of the workdir.
WITHOUT_PHOTOS = "ctr_ranker_without_photos"
SMALLEST = 1e-6  # Of a probability whose log odds are taken.


@dataclasses.dataclass(frozen=True)
class Ranked:
    """A candidate in its place.

    Attributes:
        item: id.
        probability: of a click, by the served ranker.
        place_without: place by the ranker without photos, from 1 on; None where the server has none.
        effects: [H] what each history item adds to the log odds: with the whole history, less without the item.
    """

    item: str
    probability: float
    place_without: int | None
    effects: list[float]


def ranked(
    client: CourierClient,
    user: str,
    history: Sequence[str],
    candidates: Sequence[str],
    compare: bool,
    context_names: Sequence[str] = (),
) -> list[Ranked]:
    """The N candidates in the order of the served ranker; where two are equal, that of `candidates` counts.

    Args:
        client: of the server.
        user: id.
        history: ids of H items, oldest first.
        candidates: ids, at least one.
        compare: whether the server has `WITHOUT_PHOTOS`.
        context_names: context columns of the rankers, which are left empty.

    Raises:
        CallError: the server does not answer.
    """
    histories = [list(history), *(_left_out(history, place) for place in range(len(history)))]
    rows = len(histories) * len(candidates)
    pairs = [(past, item) for past in histories for item in candidates]
    users, context = [user] * rows, {name: [""] * rows for name in context_names}
    scores = client.score(users, [past for past, _ in pairs], [item for _, item in pairs], context=context)
    odds = log_odds(scores.probability).reshape(len(histories), len(candidates))
    effects = odds[0] - odds[1:]
    probability = scores.probability[: len(candidates)]
    places = _places(_probability_without(client, user, history, candidates, context_names)) if compare else None
    return [
        Ranked(
            candidates[row],
            float(probability[row]),
            int(places[row]) if places is not None else None,
            [float(effect) for effect in effects[:, row]],
        )
        for row in np.argsort(-probability, kind="stable")
    ]


def log_odds(probability: np.ndarray) -> np.ndarray:
    """The logarithm of p / (1 - p), of probabilities of any shape.

    >>> log_odds(np.array([0.5])).tolist()
    [0.0]
    """
    bounded = np.clip(probability.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(bounded / (1 - bounded)))


def _left_out(history: Sequence[str], place: int) -> list[str]:
    return [item for other, item in enumerate(history) if other != place]


def _probability_without(
    client: CourierClient,
    user: str,
    history: Sequence[str],
    candidates: Sequence[str],
    context_names: Sequence[str],
) -> np.ndarray:
    inputs = {
        **{name: np.array([b""], object) for name in context_names},
        "user_id": np.array([user.encode()], object),
        "history_item_ids": np.array([[b"", *(item.encode() for item in history)]], object),
        "item_id": np.array([[item.encode() for item in candidates]], object),
    }
    return client.predict(WITHOUT_PHOTOS, contract.RANK, inputs)["probability"][0]


def _places(probability: np.ndarray) -> np.ndarray:
    """[N] places from 1 on, the most likely first."""
    return np.argsort(np.argsort(-probability, kind="stable")) + 1
