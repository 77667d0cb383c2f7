"""Embeddings to a codebook, by the algorithm of the settings. A codebook is [levels, clusters, D]; most have one level.

With several levels each embedding gets a code per level, coarse to fine: the first names the nearest centroid, each
next one the centroid nearest to what is left over (residual quantisation, as semantic IDs have it: arXiv 2305.05065).
"""

import functools
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from rich.progress import Progress

from courier_tf.clusters.baselines import LARGEST_SAMPLE, agglomerative, hdbscan
from courier_tf.clusters.embedding_files import EmbeddingFiles, TrainBlock
from courier_tf.clusters.kmeans import KMeans, begin, lloyd
from courier_tf.clusters.learning_states import Saved
from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.online import SEEN_AT_START, Online, single_pass, start
from courier_tf.clusters.previous import Previous, stayed, where_coarser_stayed
from courier_tf.settings import ClusterSettings

SAMPLE_PER_CLUSTER = 256  # Embeddings that k-means learns from, for each centroid: more change next to nothing.
State = TypeVar("State", KMeans, Online)


def learn(
    files: EmbeddingFiles, settings: ClusterSettings, seed: int, saved: Saved, previous: Previous | None = None
) -> np.ndarray:
    """The codebook [L, K, D] float32 of the embeddings of the train span.

    Args:
        files: the embeddings. `online` reads all of them, once; the others learn from a sample in memory.
        settings: algorithm, clusters and so on.
        seed: of seeding.
        saved: states of a run that was interrupted, and of this one.
        previous: clusters to start from (agglomerative and hdbscan start from nothing).

    Raises:
        ClusterError: fewer different embeddings (or, on a further level, residuals) than clusters, or a previous
            codebook of another shape.
    """
    if settings.algorithm == "agglomerative":
        return agglomerative(files.train_sample(LARGEST_SAMPLE).embeddings, settings.clusters)[None]
    if settings.algorithm == "hdbscan":
        return hdbscan(files.train_sample(LARGEST_SAMPLE).embeddings)[None]
    with Progress() as progress:
        if settings.algorithm == "online":
            return _online(files, settings, seed, saved, previous, progress)[None]
        levels = settings.levels if settings.algorithm == "residual" else 1
        return _levels(files, settings, levels, seed, saved, previous, progress)


def _levels(
    files: EmbeddingFiles,
    settings: ClusterSettings,
    levels: int,
    seed: int,
    saved: Saved,
    previous: Previous | None,
    progress: Progress,
) -> np.ndarray:
    """k-means, and on each further level again, on what is left over."""
    sample = files.train_sample(settings.clusters * SAMPLE_PER_CLUSTER)
    left, codebook = sample.embeddings, []
    if previous:
        previous.require_shape((levels, settings.clusters, left.shape[1]))
    held = previous.codes(sample.items) if previous else None
    # Draws of a level do not depend on those before it: an interrupted run skips what is done.
    for level, rng in enumerate(np.random.default_rng(seed).spawn(levels)):
        name = f"level {level + 1} of {levels}"
        start_at, settle = None, None
        if previous:
            start_at = previous.start(level, sample.items, left)
            settle = functools.partial(stayed, left, former=held[:, level], stay=settings.stay)
        state = saved.load(name, KMeans)
        if state is None:
            state = begin(left, settings.clusters, rng, start_at, settle)
        steps = lloyd(left, state, settings.cluster_steps, settle)
        state = _followed(state, steps, saved, progress, name, settings.cluster_steps)
        codebook.append(state.centroids)
        found, _ = nearest(left, state.centroids)
        if previous:
            found, _ = settle(state.centroids, found)
            held = where_coarser_stayed(held, found, level)
        left = left - state.centroids[found]
    return np.stack(codebook)


def _online(
    files: EmbeddingFiles,
    settings: ClusterSettings,
    seed: int,
    saved: Saved,
    previous: Previous | None,
    progress: Progress,
) -> np.ndarray:
    """The start from the first embeddings of the stream, then the pass over the rest of it."""
    state = saved.load("online", Online)
    if state is None:
        sample = files.train_sample(settings.clusters * SEEN_AT_START)
        start_at, settle = None, None
        if previous:
            previous.require_shape((1, settings.clusters, sample.embeddings.shape[1]))
            start_at = previous.start(0, sample.items, sample.embeddings)
            held = previous.codes(sample.items)[:, 0]
            settle = functools.partial(stayed, sample.embeddings, former=held, stay=settings.stay)
        state = start(sample.embeddings, settings.clusters, np.random.default_rng(seed), start_at, settle)
    blocks = _rest(files.train_blocks(settings.cluster_batch_size), state.seen)
    # The length of the stream is not known before its end.
    return _followed(state, single_pass(state, blocks), saved, progress, "online", None).centroids


def _followed(
    state: State, rounds: Iterable[State], saved: Saved, progress: Progress, name: str, total: int | None
) -> State:
    """The last of the states (`state` where there is none), with progress shown and states saved on the way."""
    task = progress.add_task(name, total=total)
    for found in rounds:
        state = found
        saved.save(name, state)
        progress.advance(task)
    saved.save(name, state, finished=True)
    progress.update(task, completed=total)  # k-means may end early.
    return state


def _rest(blocks: Iterable[TrainBlock], seen: int) -> Iterator[np.ndarray]:
    """The embeddings of the blocks without their first `seen` rows."""
    for block in blocks:
        if len(block.items) > seen:
            yield block.embeddings[seen:]
        seen = max(seen - len(block.items), 0)
