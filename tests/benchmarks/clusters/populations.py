"""Makes embeddings to cluster, in quantity. Uniformly random vectors would have no clusters.

python -m tests.benchmarks.clusters.populations OUT ROWS WIDTH [--embed DIR]

Writes OUT.npy, [ROWS, WIDTH] float32 of length 1: a mixture whose components differ in size by a power law, or, with
--embed, the embeddings of an embed stage (and their width), over and over, each time jittered by half the usual
distance to the nearest neighbour.
"""

from pathlib import Path

import numpy as np
import tyro
from numpy.lib.format import open_memmap

from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.nearest import nearest
from tests.benchmarks.child import answer

COMPONENTS, POWER, SPREAD = 50_000, 0.8, 0.5  # SPREAD: length of the noise, beside centres of length 1.
BLOCK = 65_536


def main(
    out: tyro.conf.Positional[Path],
    rows: tyro.conf.Positional[int],
    width: tyro.conf.Positional[int],
    embed: Path | None = None,
) -> None:
    rng = np.random.default_rng(0)
    if embed:
        centres = np.concatenate([block.embeddings for block in EmbeddingFiles(embed).train_blocks()])
        share, width = np.ones(len(centres)), centres.shape[1]
        spread = 0.5 * float(np.median(np.sqrt(_apart(centres[:4000]))))
    else:
        centres = rng.normal(size=[COMPONENTS, width]).astype(np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        share, spread = np.arange(1, COMPONENTS + 1) ** -POWER, SPREAD
    array = open_memmap(out, "w+", np.float32, (rows, width))
    for start in range(0, rows, BLOCK):
        part = array[start : start + BLOCK]
        chosen = rng.choice(len(centres), len(part), p=share / share.sum())
        noise = rng.standard_normal([len(part), width], dtype=np.float32) * (spread / width**0.5)
        part[:] = centres[chosen] + noise
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    array.flush()
    answer()


def _apart(points: np.ndarray) -> np.ndarray:
    """[N] squared distance of each point to its nearest neighbour: the first half's, in the second."""
    half = len(points) // 2
    return nearest(points[:half], points[half:])[1]


if __name__ == "__main__":
    tyro.cli(main)
