"""Trained models to versioned SavedModels of stock ops: `ctr_ranker` and `image_embedder`."""

import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import artefacts, records
from courier_tf.clusters.files import CODEBOOK_FILE
from courier_tf.pretrain.embedder import Embedder, save_module
from courier_tf.ranking.saved import load_ranker

CTR_RANKER, IMAGE_EMBEDDER = "ctr_ranker", "image_embedder"


class ExportError(ValueError):
    """A model cannot be served as it is."""


class ServedRanker(tf.Module):
    """Raw features in, click probability out.

    Args:
        directory: a ranker saved by the rank stage.
        history_length: most recent history items that the ranker was trained on.
    """

    def __init__(self, directory: Path, history_length: int) -> None:
        super().__init__()
        ranker = load_ranker(directory)
        # Weights and tables alone belong to the SavedModel: of a Keras model it would keep every call of every layer.
        self.weights, self.tables = ranker.variables, ranker.tables
        self._answer = functools.partial(ranker, training=False)
        self.history_length = history_length

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="user_id"),
            tf.TensorSpec([None, None], tf.string, name="history_item_ids"),
            tf.TensorSpec([None], tf.string, name="item_id"),
        ],
        autograph=False,
    )
    def score(self, user_id: tf.Tensor, history_item_ids: tf.Tensor, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] users, [B, H] histories (oldest first, "" as padding, any H), [B] candidates -> {"probability": [B]}."""
        history = tf.ragged.boolean_mask(history_item_ids, history_item_ids != "")
        features = {
            "user_id": user_id,
            "history_item_ids": records.last_items(history, self.history_length),
            "item_id": item_id,
        }
        return {"probability": self._answer(features)}


class ServedEmbedder(Embedder):
    """Encoded photos in; embedding, cluster ID and the codes of all levels out.

    Args:
        encoder_directory, image_size: as in `Embedder`.
        codebook: [L, K, D], which belongs to this encoder.
    """

    def __init__(self, encoder_directory: Path, image_size: int, codebook: np.ndarray) -> None:
        super().__init__(encoder_directory, image_size)
        self.codebook = tf.Variable(codebook, trainable=False, name="codebook")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")], autograph=False)
    def embed_and_assign(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] JPEG or PNG files to {"embedding": [B, D] of length 1, "cluster_id": [B] and "codes": [B, L] int32}."""
        embedding = self.embed(photos)["embedding"]
        left, codes = embedding, []
        for centroids in tf.unstack(self.codebook):
            score = tf.matmul(left, centroids, transpose_b=True) - 0.5 * tf.reduce_sum(tf.square(centroids), axis=1)
            codes.append(tf.argmax(score, axis=1, output_type=tf.int32))
            left -= tf.gather(centroids, codes[-1])
        return {"embedding": embedding, "cluster_id": codes[0], "codes": tf.stack(codes, axis=1)}


def export_ranker(ranker: Path, history_length: int, models: Path, made_by: artefacts.MadeBy) -> Path:
    """Writes the next version of `ctr_ranker`; returns its directory.

    Raises:
        ExportError: the SavedModel holds an op that stock TensorFlow lacks.
    """
    served = ServedRanker(ranker, history_length)
    return _write(served, served.score, models / CTR_RANKER, made_by)


def export_embedder(encoder: Path, image_size: int, cluster: Path, models: Path, made_by: artefacts.MadeBy) -> Path:
    """Writes the next version of `image_embedder`; returns its directory. Raises as `export_ranker`."""
    served = ServedEmbedder(encoder, image_size, np.load(cluster / CODEBOOK_FILE))
    return _write(served, served.embed_and_assign, models / IMAGE_EMBEDDER, made_by)


def newest_version(model: Path) -> Path | None:
    """The directory of the highest version of a model, None if there is none."""
    versions = [path for path in model.glob("*") if path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name), default=None)


def _write(module: tf.Module, signature: tf.types.experimental.GenericFunction, model: Path, made_by) -> Path:
    newest = newest_version(model)
    target = model / str(int(newest.name) + 1 if newest else 1)
    with artefacts.write_aside(target, made_by) as (partial, facts):
        save_module(module, signature, partial)
        foreign = foreign_ops(partial)
        if foreign:
            raise ExportError(f"{model.name} holds ops that stock TensorFlow lacks: {', '.join(sorted(foreign))}")
        facts["version"] = int(target.name)
    return target


def foreign_ops(saved_model: Path) -> set[str]:
    """Ops of a SavedModel that are not part of TensorFlow itself."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    content = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    found: set[str] = set()
    for graph in content.meta_graphs:
        functions = graph.graph_def.library.function
        found |= {node.op for node in graph.graph_def.node}
        found |= {node.op for function in functions for node in function.node_def}
        found -= {function.signature.name for function in functions}
    stock = {name.lower() for name in dir(tf.raw_ops)}
    return {op for op in found if op.lower() not in stock}
