"""Page views that a report shows, and what the served ranker says of their candidates."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from courier_tf.ranking.comparison import start_directory
from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.report.neighbours import embedded_items
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE

VIEWS = 3  # That are shown.
FEWEST_CANDIDATES, FEWEST_HISTORY = 3, 2  # With a photo.
BATCH, BATCHES = 4096, 10  # Impressions among which page views are drawn.


Shown = tuple[bytes, list[bytes], list[bytes], list[bool]]
"""User, history, candidates and whether they were clicked."""


@dataclasses.dataclass(frozen=True)
class PageView:
    """What a user was shown on the valid span, in the order of the served ranker.

    Attributes:
        user: id.
        history: ids of the H last clicked items, oldest first.
        items: ids of the N candidates.
        clicked: [N] bool.
        probability: [N] float32, of the served ranker.
        attention: [N, H] float32, what each candidate's attention takes from each history item.
        cosine: [N, H] float32 of the embeddings, NaN where an item has no photo.
        place_without: [N] int, the places of the candidates by the ranker without photos, from 1 on; None without one.
    """

    user: bytes
    history: list[bytes]
    items: list[bytes]
    clicked: np.ndarray
    probability: np.ndarray
    attention: np.ndarray
    cosine: np.ndarray
    place_without: np.ndarray | None


def features_of(
    user: bytes, history: list[bytes], items: list[bytes], context_names: Sequence[str] = ()
) -> dict[str, tf.Tensor]:
    """Features of a ranker for the N candidates of a user, as pairs. Context columns are empty."""
    rows = len(items)
    return {
        **{name: tf.constant([b""] * rows) for name in context_names},
        "user_id": tf.constant([user] * rows),
        "history_item_ids": tf.constant([history] * rows),
        "item_id": tf.constant(items),
    }


@functools.lru_cache(maxsize=1)
def page_views(work: Workdir) -> list[PageView]:
    """Some page views of the valid span with a click and photos, drawn at random.

    Raises:
        Missing: there is none.
    """
    names, embeddings = embedded_items(work)
    known = {name.encode(): vector for name, vector in zip(names, embeddings, strict=True)}
    shown = shown_page_views(work)
    usable = [view for view in shown if _is_usable(view, known)]
    if not usable:
        raise Missing(
            f"No page view of the valid span has a click, {FEWEST_HISTORY} history items and {FEWEST_CANDIDATES} "
            "candidates with photos."
        )
    drawn = np.random.default_rng(0).permutation(len(usable))[:VIEWS]
    without = None
    if NO_VISUAL_FEATURE in work.rank.facts.modes and work.stages.mode != NO_VISUAL_FEATURE:
        start = work.rank.facts.best_start[NO_VISUAL_FEATURE]
        without = load_ranker(start_directory(work.rank.path, NO_VISUAL_FEATURE, start))
    return [_scored(usable[number], work.ranker, without, known) for number in drawn]


def shown_page_views(work: Workdir) -> list[Shown]:
    """Page views of the valid span, in the order of the files; the first of a long log alone."""
    batches = impression_batches(work.ingest.path, "valid", history_length=work.stages.history_length, batch_size=BATCH)
    views: dict[bytes, Shown] = {}
    for batch in itertools.islice(batches, BATCHES):
        columns = [
            batch[name].numpy() for name in ("page_view_id", "user_id", "history_item_ids", "item_id", "clicked")
        ]
        for page_view, user, history, item, clicked in zip(*columns, strict=True):
            of_view = views.setdefault(page_view, (user, [past for past in history if past], [], []))
            of_view[2].append(item)
            of_view[3].append(bool(clicked))
    return list(views.values())


def _is_usable(view: Shown, known: dict[bytes, np.ndarray]) -> bool:
    _, history, items, clicked = view
    candidates = sum(item in known for item in items)
    return any(clicked) and candidates >= FEWEST_CANDIDATES and len(set(history) & set(known)) >= FEWEST_HISTORY


def _scored(view: Shown, ranker: Ranker, without: Ranker | None, known: dict[bytes, np.ndarray]) -> PageView:
    user, history, items, clicked = view
    features = features_of(user, history, items, ranker.context_names)
    probability, attention = ranker.answer(features).numpy(), ranker.attention_weights(features).numpy()
    order = np.argsort(-probability, kind="stable")
    place = None
    if without is not None:
        place = np.argsort(np.argsort(-without.answer(features).numpy(), kind="stable"))[order] + 1
    nothing = np.full(len(next(iter(known.values()))), np.nan, np.float32)
    candidates = np.stack([known.get(items[row], nothing) for row in order])
    past = np.stack([known.get(item, nothing) for item in history])
    return PageView(
        user,
        history,
        [items[row] for row in order],
        np.array(clicked)[order],
        probability[order],
        attention[order],
        candidates @ past.T,
        place,
    )
