"""Mean squared distance of rows of FILE to the nearest of CENTROIDS, by faiss's exact search.

python -m tests.benchmarks.clusters.distortion FILE CENTROIDS
"""

import sys

import faiss
import numpy as np

from tests.benchmarks.child import answer

ROWS = 100_000


def main(file: str, centroids: str) -> None:
    rows = np.load(file, mmap_mode="r")
    held = np.array(rows[:: max(1, len(rows) // ROWS)])
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(np.load(centroids))
    distance, nearest = index.search(held, 1)
    answer(distortion=float(distance.mean()), used=len(np.unique(nearest)))


if __name__ == "__main__":
    main(*sys.argv[1:])
