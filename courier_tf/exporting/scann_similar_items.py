"""`similar_items` by ScaNN, for catalogues in which exact search takes too long. It needs a server with ScaNN's ops."""

from typing import Any

import numpy as np
import tensorflow as tf

from courier_tf.clusters.item_search import CANDIDATES, FEWEST_ITEMS, RECALL, TUNED_ON, ItemSearch
from courier_tf.clusters.scann_index import ScannIndex
from courier_tf.clusters.seeding import ClusterError
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.similar_items import (
    NEIGHBOURS,
    ServedSimilarItems,
    SimilarItemsModel,
    ids_and_embeddings,
)
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.pretrain.frozen_encoder import FrozenEncoder


class ServedScannSimilarItems(ServedSimilarItems):
    """Has the signatures and outputs of `ServedSimilarItems`; ScaNN (arXiv 1908.10396) misses a few neighbours.

    It searches as many leaves as it takes to find the share RECALL of the nearest items of the catalogue.

    Args:
        encoder, ids, embeddings, version: see `ServedSimilarItems`.

    Raises:
        ClusterError: there are too few items for ScaNN.
    """

    def __init__(self, encoder: FrozenEncoder, ids: np.ndarray, embeddings: np.ndarray, version: int) -> None:
        if len(ids) < FEWEST_ITEMS:
            raise ClusterError(f"--scann needs {FEWEST_ITEMS} items or more with a photo, but there are {len(ids)}")
        super().__init__(encoder, ids, embeddings, version)
        # One more than is answered: an item finds itself.
        index = ScannIndex(embeddings, "dot_product", NEIGHBOURS + 1, CANDIDATES, for_graphs=True)
        queries = embeddings[:: max(1, len(embeddings) // TUNED_ON)]
        self.recall = index.tune(queries, ItemSearch(embeddings)(queries, NEIGHBOURS + 1)[0], RECALL)
        self.index, self.searched = index.module(), index.searched

    def _best(self, query: tf.Tensor, without: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        import scann

        searcher = scann.scann_ops.searcher_from_module(self.index)
        nearest = searcher.search_batched(query, NEIGHBOURS + 1, leaves_to_search=self.searched)
        place, similarity = (tf.ensure_shape(part, [None, NEIGHBOURS + 1]) for part in nearest)
        if without is not None:
            similarity = tf.where(place == without[:, None], -np.inf, similarity)
        similarity, order = tf.math.top_k(similarity, NEIGHBOURS)
        return similarity, tf.gather(place, order, batch_dims=1)


class ScannSimilarItems(SimilarItemsModel):
    """The descriptor of `similar_items` by ScaNN. `courier export --scann` writes it into a folder of its own."""

    stock = False

    def settings(self, stages: FinishedStages) -> dict[str, Any]:
        return {"search": "scann"}

    def build(self, stages: FinishedStages, version: int) -> ServedScannSimilarItems:
        encoder = FrozenEncoder(stages.pretrain.path / ENCODER_FOLDER, stages.pretrain.facts.image_size)
        return ServedScannSimilarItems(encoder, *ids_and_embeddings(stages), version)
