"""`similar_items`: the items whose photos look most like an item's, or like a photo. Exact search, stock ops."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tensorflow as tf

from courier_tf import images
from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.request_checks import bounded, in_parts, shaped
from courier_tf.exporting.samples import ROWS, embedded_photos, item_requests, photo_requests
from courier_tf.exporting.served_model import LARGEST_DIFFERENCE, ServedModel, largest
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.pretrain.frozen_encoder import FrozenEncoder
from serving.bundle.graph_model import GraphModel, Method
from serving.client import contract
from serving.client.contract import Request, RowStatus

NEIGHBOURS = 50  # In each answer; a client that wants fewer takes the first.
COMPARED_ITEMS = 64  # With the search by NumPy.


class ServedSimilarItems(tf.Module):
    """All items of the catalogue that have a photo, searched by the cosine of their embeddings.

    Every signature answers {"status": [B] int32 `RowStatus`, "item_ids": [B, K] strings, the most similar first,
    "similarity": [B, K] float32 cosines, "model_version": [B] int64}; K is NEIGHBOURS, or all items there are. Where
    the status is not OK the ids are "" and the similarities 0.

    Args:
        encoder: the one that made the embeddings.
        ids: [N] bytes, N at least 1.
        embeddings: [N, D] float32 of length 1.
        version: number that the answers name.
    """

    def __init__(self, encoder: FrozenEncoder, ids: np.ndarray, embeddings: np.ndarray, version: int) -> None:
        super().__init__()
        self.encoder, self.version = encoder, version
        self.ids = tf.Variable(ids.astype(object), trainable=False, name="ids", dtype=tf.string)
        self.embeddings = tf.Variable(embeddings, trainable=False, name="embeddings")
        rows = np.arange(len(ids), dtype=np.int32)
        self.rows = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(ids.astype(object), rows), default_value=-1
        )
        self._by_embedding = tf.function(
            self._of_checked_embeddings,
            input_signature=[tf.TensorSpec([None, embeddings.shape[1]], tf.float32, name="embedding")],
            autograph=False,
        )

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """The functions that a server calls, by name of the signature."""
        return {
            contract.DEFAULT_SIGNATURE: self.by_item,
            contract.BY_EMBEDDING: self._by_embedding,
            contract.BY_PHOTO: self.by_photo,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="item_id")], autograph=False)
    def by_item(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answers for [B] item ids; an item is not similar to itself."""
        return in_parts(self._of_items, _checked(item_id), contract.MOST_ROWS)

    def _of_items(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        row = self.rows.lookup(item_id)
        status = tf.where(row < 0, int(RowStatus.UNKNOWN_ITEM), int(RowStatus.OK))
        return self._nearest(tf.gather(self.embeddings, tf.maximum(row, 0)), status, without=row)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")], autograph=False)
    def by_photo(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answers for [B] JPEG or PNG files."""
        return in_parts(self._of_photos, _checked(photos), contract.MOST_ROWS)

    def _of_photos(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels, status = images.decode_rows(photos, self.encoder.image_size)
        return self._nearest(self.encoder.encode(pixels), status)

    def _of_checked_embeddings(self, embedding: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answers for [B, D] float32 embeddings of any length, as `image_embedder` gives them."""
        return in_parts(self._of_embeddings, _checked(embedding), contract.MOST_ROWS)

    def _of_embeddings(self, embedding: tf.Tensor) -> dict[str, tf.Tensor]:
        length = tf.norm(embedding, axis=1)
        usable = tf.math.is_finite(length) & (length > 0)
        status = tf.where(usable, int(RowStatus.OK), int(RowStatus.NO_DIRECTION))
        direction = tf.math.divide_no_nan(embedding, length[:, None])
        return self._nearest(tf.where(usable[:, None], direction, 0.0), status)

    def _nearest(self, query: tf.Tensor, status: tf.Tensor, without: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        similarity, place = self._best(query, without)
        usable = (status == RowStatus.OK)[:, None] & tf.math.is_finite(similarity)
        return {
            "status": status,
            "item_ids": tf.where(usable, tf.gather(self.ids, place), ""),
            "similarity": tf.where(usable, similarity, 0.0),
            "model_version": tf.fill(tf.shape(status), tf.constant(self.version, tf.int64)),
        }

    def _best(self, query: tf.Tensor, without: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the nearest items.

        Args:
            query: [B, D] embeddings.
            without: [B] the row of the item that each query leaves out; None leaves out none.

        Returns:
            ([B, K] cosines, largest first; [B, K] rows of the items).
        """
        scores = tf.matmul(query, self.embeddings, transpose_b=True)
        if without is not None:
            left_out = tf.stack([tf.range(tf.size(without)), tf.maximum(without, 0)], axis=1)
            scores = tf.tensor_scatter_nd_update(scores, left_out, tf.fill(tf.shape(without), -np.inf))
        return tf.math.top_k(scores, min(NEIGHBOURS, self.embeddings.shape[0]))


class SimilarItemsModel(ServedModel):
    """The descriptor of `similar_items`. Its requests are not joined.

    A server compares shapes only when it joins: an embedding of a wrong width would fail with its neighbours.
    """

    name = contract.SIMILAR_ITEMS
    answers = "item or photo -> similar items"
    signatures: ClassVar[Mapping[str, Method]] = {
        contract.DEFAULT_SIGNATURE: "predict",
        contract.BY_EMBEDDING: "predict",
        contract.BY_PHOTO: "predict",
    }

    def inputs(self, stages: FinishedStages) -> dict[str, str]:
        return {"encoder": stages.encoder, "embed": stages.embed.fingerprint}

    def build(self, stages: FinishedStages, version: int) -> ServedSimilarItems:
        encoder = FrozenEncoder(stages.pretrain.path / ENCODER_FOLDER, stages.pretrain.facts.image_size)
        return ServedSimilarItems(encoder, *ids_and_embeddings(stages), version)

    def requests(self, stages: FinishedStages) -> list[Request]:
        ingest, embedding = stages.ingest.path, ids_and_embeddings(stages)[1][0]
        by_embedding = [Request(contract.BY_EMBEDDING, {"embedding": np.tile(embedding, [rows, 1])}) for rows in ROWS]
        by_item = item_requests(ingest, contract.DEFAULT_SIGNATURE)
        return by_item + by_embedding + photo_requests(ingest, contract.BY_PHOTO)

    def differences(self, served: GraphModel, stages: FinishedStages) -> list[str]:
        photos, embedded = embedded_photos(stages)
        ids, embeddings = ids_and_embeddings(stages)
        chosen = np.unique(np.linspace(0, len(ids) - 1, COMPARED_ITEMS).astype(int))
        among_items = embeddings[chosen] @ embeddings.T
        among_items[np.arange(len(chosen)), chosen] = -np.inf
        row_of, reasons = {item: row for row, item in enumerate(ids)}, []
        for by, answers, cosine in (
            ("item", served(item_id=ids[chosen]), among_items),
            ("photo", served.run(contract.BY_PHOTO, {"photos": photos}), embedded @ embeddings.T),
            ("embedding", served.run(contract.BY_EMBEDDING, {"embedding": 2 * embedded}), embedded @ embeddings.T),
        ):
            difference = _difference_of_neighbours(answers, cosine, row_of)
            if not difference <= LARGEST_DIFFERENCE:
                reasons.append(
                    f"similar items by {by} are served with a difference of {difference:.2g} to those of "
                    f"{stages.embed.path}"
                )
        return reasons

    def limits(self, stages: FinishedStages) -> list[str]:
        return [
            "Embeddings have one width. A request with another one is refused.",
            f"A request takes up to {contract.MAX_ROWS:,} rows.",
        ]


def _checked(rows: tf.Tensor) -> tf.Tensor:
    """The rows of a request, which is refused if they have another shape or are more than `contract.MAX_ROWS`."""
    return bounded(shaped(rows), contract.MAX_ROWS, "rows")


def ids_and_embeddings(stages: FinishedStages) -> tuple[np.ndarray, np.ndarray]:
    """([N] bytes, [N, D] float32) of the items that have a photo."""
    items, embeddings = EmbeddingFiles(stages.embed.path).all_items()
    return np.array([item.encode() for item in items], object), embeddings


def _difference_of_neighbours(
    answers: Mapping[str, np.ndarray], cosine: np.ndarray, row_of: Mapping[bytes, int]
) -> float:
    """Compares the served neighbours with the cosines [B, N] of all items.

    Returns:
        The largest difference of a served similarity to the cosine at its rank, and to that of the item it is given
        for. Infinite where an item is unknown or a row has no answer.
    """
    if (answers["status"] != RowStatus.OK).any():
        return np.inf
    expected = -np.sort(-cosine, axis=1)[:, : answers["similarity"].shape[1]]
    worst = largest(answers["similarity"] - np.where(np.isfinite(expected), expected, 0.0))
    for row, items in enumerate(answers["item_ids"]):
        # An answer that is too short ends with "" and 0.
        named = [cosine[row, row_of[item]] if item in row_of else 0.0 if item == b"" else np.inf for item in items]
        worst = float(np.maximum(worst, largest(answers["similarity"][row] - named)))
    return worst
