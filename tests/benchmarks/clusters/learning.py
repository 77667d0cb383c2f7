"""Time and memory of learning centroids.

python -m tests.benchmarks.clusters.learning SIDE FILE CLUSTERS SAMPLE OUT

SIDE: kmeans and faiss learn from the first SAMPLE rows of FILE, in 25 steps; online goes over all rows once. Writes the
centroids to OUT.
"""

import resource
import sys
import time

import numpy as np

from tests.benchmarks.child import answer

STEPS, BLOCK = 25, 4096


def ours_kmeans(rows: np.ndarray, clusters: int, sample: int) -> np.ndarray:
    from courier_tf.clusters.kmeans import begin, lloyd

    held = np.array(rows[:sample])
    state = begin(held, clusters, np.random.default_rng(0))
    for step in lloyd(held, state, STEPS):
        state = step
    return state.centroids


def ours_online(rows: np.ndarray, clusters: int, sample: int) -> np.ndarray:
    from courier_tf.clusters.online import SEEN_AT_START, single_pass, start

    seen = clusters * SEEN_AT_START
    state = start(np.array(rows[:seen]), clusters, np.random.default_rng(0))
    for step in single_pass(state, (np.array(rows[at : at + BLOCK]) for at in range(seen, len(rows), BLOCK))):
        state = step
    return state.centroids


def faiss_kmeans(rows: np.ndarray, clusters: int, sample: int) -> np.ndarray:
    import faiss

    kmeans = faiss.Kmeans(
        rows.shape[1], clusters, niter=STEPS, seed=0, max_points_per_centroid=10**9, min_points_per_centroid=1
    )
    kmeans.train(np.array(rows[:sample]))
    return kmeans.centroids


def main(side: str, file: str, clusters: int, sample: int, out: str) -> None:
    rows = np.load(file, mmap_mode="r")
    learn = {"kmeans": ours_kmeans, "online": ours_online, "faiss": faiss_kmeans}[side]
    started = time.perf_counter()
    np.save(out, learn(rows, clusters, sample))
    used = resource.getrusage(resource.RUSAGE_SELF)
    answer(seconds=time.perf_counter() - started, processor=used.ru_utime + used.ru_stime)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:5]), sys.argv[5])
