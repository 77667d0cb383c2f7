"""The quality report. Sizes and distortion are those of all items of the train span, the rest those of a sample."""

from typing import NamedTuple, TypedDict

import numpy as np
from sklearn.metrics import adjusted_rand_score

from courier_tf.clusters import quality
from courier_tf.clusters.embedding_files import Block
from courier_tf.clusters.files import NO_CLUSTER
from courier_tf.clusters.previous import PreviousClusters
from courier_tf.clusters.seeding import ClusterError

SAMPLE = 50_000  # Items of the train span on which agreement, neighbours and collisions are measured.
NEIGHBOUR_QUERIES = 1000  # Items whose neighbours are looked up.


class Sample(NamedTuple):
    """The first items of the train span with a photo, [M] each."""

    items: np.ndarray  # str
    categories: np.ndarray  # str
    embeddings: np.ndarray  # [M, D]
    codes: np.ndarray  # [M, L]
    nearest: np.ndarray  # [M], the cluster whose centroid the search found to be the nearest.


class Kept(TypedDict, total=False):
    """How far IDs stayed; see `ClusterFacts`."""

    items_in_previous: int
    new_items: int
    ids_kept: float | None
    items_not_in_nearest: int
    adjusted_rand_index: float | None


class Report:
    """Collects the figures of a clustering, block by block.

    Args:
        clusters: their number.
        previous: the stage whose IDs are to be kept.

    Attributes:
        sizes: [clusters] items of the train span in each.
        without_photo: items, of any span.
    """

    def __init__(self, clusters: int, previous: PreviousClusters | None = None) -> None:
        self.sizes, self.without_photo, self._distance = np.zeros(clusters, int), 0, 0.0
        self._not_in_nearest = 0
        self._parts: list[Sample] = []
        self._sampled = 0
        self._previous = previous
        self._pairs: list[np.ndarray] = []  # [2, items with a photo]: the previous and the new cluster.

    def add(self, block: Block, codes: np.ndarray, distance: np.ndarray, nearest: np.ndarray) -> None:
        """Adds a block with its codes [items with a photo, L], the squared distances left over, and nearest codes."""
        self._not_in_nearest += int(np.count_nonzero((codes != nearest).any(axis=1)))
        if self._previous:
            self._pairs.append(np.stack([self._previous.codes(block.items[block.has_photo])[:, 0], codes[:, 0]]))
        train = block.in_train_span[block.has_photo]
        self.without_photo += int(np.count_nonzero(~block.has_photo))
        if not train.any():
            return
        self.sizes += np.bincount(codes[train, 0], minlength=len(self.sizes))
        self._distance += float(distance[train].sum(dtype=np.float64))
        # Picks rows instead of a slice, which would keep its whole block in memory.
        rows = np.flatnonzero(train)[: SAMPLE - self._sampled]
        if len(rows):
            items, categories = (part[block.has_photo][rows] for part in (block.items, block.categories))
            self._parts.append(Sample(items, categories, block.embeddings[rows], codes[rows], nearest[rows, 0]))
            self._sampled += len(rows)

    def sample(self) -> Sample:
        """The items of the sample.

        Raises:
            ClusterError: there are none.
        """
        if not self._parts:
            raise ClusterError("no item of the train span has an embedding")
        return Sample(*(np.concatenate(parts) for parts in zip(*self._parts, strict=True)))

    def figures(self, centroids: np.ndarray) -> dict[str, float | None]:
        """Name -> figure, as in `quality`. All but distortion and collisions are those of the first level.

        Args:
            centroids: [clusters, D] of the first level.
        """
        sample = self.sample()
        cluster = sample.codes[:, 0]
        return {
            "distortion": self._distance / int(self.sizes.sum()),
            # With a single code to tell them apart, all items of a cluster collide.
            "collisions": quality.collisions(sample.codes) if sample.codes.shape[1] > 1 else None,
            **quality.use(self.sizes),
            **quality.agreement(cluster, sample.categories),
            "search_missed": quality.search_missed(
                sample.embeddings[:NEIGHBOUR_QUERIES], sample.nearest[:NEIGHBOUR_QUERIES], centroids
            ),
            **_of_neighbours(sample),
        }

    def kept(self) -> Kept:
        """How far IDs stayed. Nothing is set where there is no previous stage."""
        if not self._previous:
            return {}
        old, new = np.concatenate(self._pairs, axis=1)
        known = old != NO_CLUSTER
        return {
            "items_in_previous": int(known.sum()),
            "new_items": int((~known).sum()),
            "items_not_in_nearest": self._not_in_nearest,
            "ids_kept": float((old == new)[known].mean()) if known.any() else None,
            "adjusted_rand_index": float(adjusted_rand_score(old[known], new[known])) if known.any() else None,
        }


def _of_neighbours(sample: Sample) -> dict[str, float | None]:
    """The figures that need neighbours; None where the items are too few to have them."""
    if len(sample.items) <= quality.NEIGHBOURS:
        return dict.fromkeys(("neighbours_kept", "effective_rank", "neighbours_cosine", "pairs_cosine"))
    queries = np.random.default_rng(0).permutation(len(sample.items))[:NEIGHBOUR_QUERIES]
    neighbours = quality.neighbours_of(sample.embeddings, queries)
    return {
        "neighbours_kept": quality.neighbours_kept(sample.codes[:, 0], queries, neighbours),
        **quality.collapse(sample.embeddings, queries, neighbours),
    }
