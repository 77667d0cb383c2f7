"""Queries per second of one way to search, and the share of the exact nearest points that it finds.

python -m tests.benchmarks.clusters.search SIDE WAY FILE POINTS NUMBER

POINTS (.npy) are searched for the NUMBER nearest of each query; queries are rows of FILE. SIDE: ours, faiss. WAY:
exact, approximate (ScaNN; faiss's inverted file with as many lists as ScaNN has leaves, probing the fewest that find
99 % for one neighbour, 95 % for several).
"""

import sys
import time

import numpy as np

from tests.benchmarks.child import answer, repeated

QUERIES = 4096


def ours(way: str, points: np.ndarray, number: int):
    if number == 1:
        from courier_tf.clusters.assign import Assigner

        assign = Assigner(points[None], "exact" if way == "exact" else "scann")
        return lambda queries: assign(queries)[0]
    from courier_tf.clusters.item_search import ItemSearch

    index = ItemSearch(points, "exact" if way == "exact" else "scann")
    return lambda queries: index(queries, number)[0]


def by_faiss(way: str, points: np.ndarray, number: int, queries: np.ndarray, exact: np.ndarray):
    import faiss

    if way == "exact":
        index = faiss.IndexFlatL2(points.shape[1])
        index.add(points)
        return lambda queries: index.search(queries, number)[1]
    lists = round(len(points) ** 0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(points.shape[1]), points.shape[1], lists)
    index.train(points[: 256 * lists])
    index.add(points)
    for probes in range(1, lists):
        index.nprobe = probes
        if recall(index.search(queries, number)[1], exact) >= (0.99 if number == 1 else 0.95):
            break
    return lambda queries: index.search(queries, number)[1]


def recall(nearest: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact nearest that were found; [Q, number] each."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, nearest, strict=True)]))


def main(side: str, way: str, file: str, points_file: str, number: int) -> None:
    import faiss

    rows, points = np.load(file, mmap_mode="r"), np.load(points_file)
    queries = np.array(rows[:: len(rows) // QUERIES][:QUERIES])
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    exact = index.search(queries, number)[1]
    started = time.perf_counter()
    look_up = ours(way, points, number) if side == "ours" else by_faiss(way, points, number, queries, exact)
    built = time.perf_counter() - started
    seconds = repeated(lambda: look_up(queries))
    answer(rate=len(queries) / seconds, recall=recall(look_up(queries), exact), built=built)


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]))
