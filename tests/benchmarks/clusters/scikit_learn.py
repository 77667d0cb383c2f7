"""Distortion and time of k-means and of one pass, against scikit-learn.

python -m tests.benchmarks.clusters.scikit_learn EMBED [--clusters K K] [--seeds N]

On a planted mixture (components of equal size on the unit sphere, 128 dimensions) and on the embeddings of an embed
stage, jittered to as many rows. Prints a table: our mean distortion over scikit-learn's, that of both over the planted
centres', and our processor time over scikit-learn's in the same process, on one thread. KMeans has as many steps;
MiniBatchKMeans one pass and batches as large.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tyro
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits

from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.kmeans import begin, lloyd
from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.online import SEEN_AT_START, single_pass, start

STEPS, BLOCK, WIDTH, SPREAD = 25, 4096, 128, 0.5
Learn = Callable[[np.ndarray, int, int], np.ndarray]


def ours(rows: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    state = begin(rows, clusters, np.random.default_rng(seed))
    for further in lloyd(rows, state, STEPS):
        state = further
    return state.centroids


def ours_online(rows: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    seen = clusters * SEEN_AT_START
    state = start(rows[:seen], clusters, np.random.default_rng(seed))
    for further in single_pass(state, (rows[at : at + BLOCK] for at in range(seen, len(rows), BLOCK))):
        state = further
    return state.centroids


def theirs(rows: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    return KMeans(clusters, n_init=1, max_iter=STEPS, random_state=seed).fit(rows).cluster_centers_


def theirs_online(rows: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    model = MiniBatchKMeans(clusters, batch_size=BLOCK, max_iter=1, n_init=1, random_state=seed)
    return model.fit(rows).cluster_centers_


def planted(clusters: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """([rows, WIDTH] float32, [clusters, WIDTH] their true centres)."""
    rng = np.random.default_rng(clusters)
    centres = rng.normal(size=[clusters, WIDTH])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = SPREAD / WIDTH**0.5 * rng.normal(size=[rows, WIDTH])
    return (centres[rng.integers(clusters, size=rows)] + noise).astype(np.float32), centres.astype(np.float32)


def jittered(embeddings: np.ndarray, rows: int) -> np.ndarray:
    """The embeddings over and over, each with noise of half the usual distance to the nearest neighbour."""
    rng, half = np.random.default_rng(0), len(embeddings) // 2
    usual = float(np.sqrt(np.median(nearest(embeddings[:half], embeddings[half:])[1])))
    noise = 0.5 * usual / embeddings.shape[1] ** 0.5 * rng.standard_normal([rows, embeddings.shape[1]])
    found = embeddings[rng.integers(len(embeddings), size=rows)] + noise
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def measured(learn: Learn, rows: np.ndarray, clusters: int, seeds: int) -> tuple[float, float]:
    """(distortion, processor seconds), means over the seeds."""
    distortion, seconds = [], []
    for seed in range(seeds):
        started = time.process_time()
        centroids = learn(rows, clusters, seed)
        seconds.append(time.process_time() - started)
        distortion.append(float(nearest(rows, centroids.astype(np.float32))[1].mean(dtype=np.float64)))
    return float(np.mean(distortion)), float(np.mean(seconds))


def main(
    embed: tyro.conf.Positional[Path],
    clusters: tuple[int, ...] = (32, 33, 50, 200, 1000),
    seeds: int = 3,
    rows_per_cluster: int = 64,
) -> None:
    """Prints the table.

    Args:
        embed: embed directory of a workdir.
        clusters: numbers of clusters.
        seeds: of each figure.
        rows_per_cluster: rows of the data, per cluster; one pass goes over four times as many.
    """
    embeddings = np.concatenate([block.embeddings for block in EmbeddingFiles(embed).train_blocks()])
    print("| data | clusters | algorithm | distortion over scikit-learn's | over the true: ours | theirs | time |")
    print("|---|---|---|---|---|---|---|")
    with threadpool_limits(1):
        for number in clusters:
            for name, sides, rows in (
                ("k-means", (ours, theirs), rows_per_cluster * number),
                ("one pass", (ours_online, theirs_online), 4 * rows_per_cluster * number),
            ):
                mixture, centres = planted(number, rows)
                truth = float(nearest(mixture, centres)[1].mean(dtype=np.float64))
                for data, points in (("planted", mixture), ("embeddings", jittered(embeddings, rows))):
                    (own, took), (other, took_there) = (measured(side, points, number, seeds) for side in sides)
                    true = (f"{value / truth:.3f}" if data == "planted" else "-" for value in (own, other))
                    cells = (f"{own / other:.4f}", *true, f"{took / took_there:.2f}")
                    print(f"| {data} | {number} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
