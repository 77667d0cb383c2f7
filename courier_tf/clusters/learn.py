"""Learns a codebook [levels, clusters, D] from embeddings, by the algorithm of the settings. Most have one level.

With several levels each embedding gets a code per level, coarse to fine. The first names the nearest centroid, each
next one the centroid nearest to what is left over: residual quantisation, as in semantic IDs (arXiv 2305.05065).
"""

import functools
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from courier_tf.clusters.baselines import LARGEST_SAMPLE, agglomerative, hdbscan
from courier_tf.clusters.embedding_files import EmbeddingFiles, TrainBlock
from courier_tf.clusters.kmeans import KMeans, Settle, begin, lloyd
from courier_tf.clusters.learning_states import LearningStates
from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.online import SEEN_AT_START, Online, single_pass, start
from courier_tf.clusters.previous import PreviousClusters, stayed, where_coarser_stayed
from courier_tf.progress import Progress
from courier_tf.settings import ClusterSettings

SAMPLE_PER_CLUSTER = 256  # Embeddings per centroid that k-means learns from. More change next to nothing.
State = TypeVar("State", KMeans, Online)


def learn(
    files: EmbeddingFiles,
    settings: ClusterSettings,
    seed: int,
    states: LearningStates,
    previous: PreviousClusters | None = None,
) -> np.ndarray:
    """The codebook [L, K, D] float32 of the embeddings of the train span.

    Args:
        files: the embeddings. `online` reads all of them, once; the others learn from a sample in memory.
        settings: algorithm, number of clusters and so on.
        seed: decides every draw.
        states: states of a run that was interrupted, and of this one.
        previous: clusters to start from (agglomerative and hdbscan start from nothing).

    Raises:
        ClusterError: fewer different embeddings (or, on a further level, residuals) than clusters, or a previous
            codebook of another shape.
    """
    if settings.algorithm == "agglomerative":
        return agglomerative(files.train_sample(LARGEST_SAMPLE).embeddings, settings.clusters)[None]
    if settings.algorithm == "hdbscan":
        return hdbscan(files.train_sample(LARGEST_SAMPLE).embeddings)[None]
    if settings.algorithm == "online":
        return _online(files, settings, seed, states, previous)[None]
    levels = settings.levels if settings.algorithm == "residual" else 1
    return _levels(files, settings, levels, seed, states, previous)


def _levels(
    files: EmbeddingFiles,
    settings: ClusterSettings,
    levels: int,
    seed: int,
    states: LearningStates,
    previous: PreviousClusters | None,
) -> np.ndarray:
    """k-means on the embeddings, and on each further level again on what is left over."""
    sample = files.train_sample(settings.clusters * SAMPLE_PER_CLUSTER)
    left, codebook = sample.embeddings, []
    if previous:
        previous.require_shape((levels, settings.clusters, left.shape[1]))
    held = previous.codes(sample.items) if previous else None  # The previous codes that still count.
    # The draws of a level do not depend on the levels before, because an interrupted run skips those.
    for level, rng in enumerate(np.random.default_rng(seed).spawn(levels)):
        name = f"level {level + 1} of {levels}"
        start_at: np.ndarray | None = None
        settle: Settle | None = None
        if previous and held is not None:
            start_at = previous.start(level, sample.items, left)
            settle = functools.partial(stayed, left, previous=held[:, level], stay=settings.stay)
        state = states.load(name, KMeans)
        if state is None:
            state = begin(left, settings.clusters, rng, start_at, settle)
        steps = lloyd(left, state, settings.cluster_steps, settle)
        state = _last_state(state, steps, states, name, settings.cluster_steps)
        codebook.append(state.centroids)
        codes, _ = nearest(left, state.centroids)
        if settle and held is not None:
            codes, _ = settle(state.centroids, codes)
            held = where_coarser_stayed(held, codes, level)
        left = left - state.centroids[codes]
    return np.stack(codebook)


def _online(
    files: EmbeddingFiles,
    settings: ClusterSettings,
    seed: int,
    states: LearningStates,
    previous: PreviousClusters | None,
) -> np.ndarray:
    """Learns the start from the first embeddings of the stream, then passes over the rest of it."""
    state = states.load("online", Online)
    if state is None:
        sample = files.train_sample(settings.clusters * SEEN_AT_START)
        start_at: np.ndarray | None = None
        settle: Settle | None = None
        if previous:
            previous.require_shape((1, settings.clusters, sample.embeddings.shape[1]))
            start_at = previous.start(0, sample.items, sample.embeddings)
            held = previous.codes(sample.items)[:, 0]
            settle = functools.partial(stayed, sample.embeddings, previous=held, stay=settings.stay)
        state = start(sample.embeddings, settings.clusters, np.random.default_rng(seed), start_at, settle)
    blocks = _rest(files.train_blocks(settings.cluster_batch_size), state.seen)
    # The length of the stream is not known before its end.
    return _last_state(state, single_pass(state, blocks), states, "online", None).centroids


def _last_state(state: State, further: Iterable[State], states: LearningStates, name: str, total: int | None) -> State:
    """The last of `further` states (`state` where there is none); logs progress and saves states on the way.

    `total` is the most that there can be, as k-means may end early.
    """
    progress = Progress(f"cluster, {name}", total, "steps")
    for later in further:
        state = later
        states.save(name, state)
        progress.advance()
    states.save(name, state, finished=True)
    return state


def _rest(blocks: Iterable[TrainBlock], seen: int) -> Iterator[np.ndarray]:
    """The embeddings of the blocks without their first `seen` rows."""
    for block in blocks:
        if len(block.items) > seen:
            yield block.embeddings[seen:]
        seen = max(seen - len(block.items), 0)
