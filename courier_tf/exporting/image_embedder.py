"""`image_embedder`: photos in; embedding, cluster ID and residual codes out."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from courier_tf import images
from courier_tf.clusters.files import CODEBOOK_FILE, NO_CLUSTER, TABLE_FILE
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.request_checks import shaped
from courier_tf.exporting.samples import ROWS, embedded_photos, first_items, photo_requests
from courier_tf.exporting.served_model import LARGEST_DIFFERENCE, ServedModel, largest
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.pretrain.frozen_encoder import FrozenEncoder
from courier_tf.workdir.facts import ClusterFacts
from serving.bundle.batching import most_rows_of_a_request
from serving.bundle.graph_model import GraphModel, Method
from serving.client import contract
from serving.client.contract import Request


class ServedEmbedder(tf.Module):
    """An encoder and its codebook as a server calls them. The first axis of every output is the rows of the request.

    Args:
        encoder: trained.
        codebook: [L, K, D] of this encoder.
        version: number that the answers name.
    """

    def __init__(self, encoder: FrozenEncoder, codebook: np.ndarray, version: int) -> None:
        super().__init__()
        self.encoder, self.version = encoder, version
        self.codebook = tf.Variable(codebook, trainable=False, name="codebook")

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """By name: encoded photos, and their pixels. Both have the same outputs."""
        return {contract.DEFAULT_SIGNATURE: self.of_photos, contract.PIXELS: self.of_pixels}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")], autograph=False)
    def of_photos(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds [B] JPEG or PNG files of any size, as `images` sees them: upright, and on white.

        Returns:
            {"status": [B] int32 `RowStatus`, "embedding": [B, D] float32 of length 1, "cluster_id": [B] and
            "codes": [B, L] int32, "model_version": [B] int64}. The cluster ID and the codes are those of the nearest
            centroids: what a new item with this photo gets, and `nearest_cluster_id` and `nearest_codes` of an item in
            the table of the cluster stage. An item that stays in its previous cluster has another `cluster_id` there.
            Where the status is not OK the embedding is 0 and the cluster ID and codes are NO_CLUSTER.
        """
        return self._answer(*images.decode_rows(shaped(photos), self.encoder.image_size))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="pixels")], autograph=False)
    def of_pixels(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds [B] photos of S x S pixels, where S is the encoder's image size: the S * S * 3 bytes of each, uint8.

        Bytes, as a server that joins requests compares no shape before it does: a row of another size would cost all
        rows of the batch their answers. So it costs its own, by the status BROKEN.

        Returns:
            The outputs of `of_photos`.
        """
        size, pixels = self.encoder.image_size, shaped(pixels)
        given, needed = tf.strings.length(pixels), size * size * 3
        status = tf.where(given == needed, int(contract.RowStatus.OK), int(contract.RowStatus.BROKEN))
        status = tf.where(given == 0, int(contract.RowStatus.EMPTY), status)
        values = tf.io.decode_raw(pixels, tf.uint8, fixed_length=needed)  # Cut, or filled up with zeros.
        return self._answer(tf.reshape(values, [-1, size, size, 3]), status)

    def _answer(self, pixels: tf.Tensor, status: tf.Tensor) -> dict[str, tf.Tensor]:
        embedding, usable = self.encoder.encode(pixels), (status == contract.RowStatus.OK)[:, None]
        left, codes = embedding, []
        for centroids in tf.unstack(self.codebook):
            score = tf.matmul(left, centroids, transpose_b=True) - 0.5 * tf.reduce_sum(tf.square(centroids), axis=1)
            codes.append(tf.argmax(score, axis=1, output_type=tf.int32))
            left -= tf.gather(centroids, codes[-1])
        chosen = tf.where(usable, tf.stack(codes, axis=1), NO_CLUSTER)
        return {
            "status": status,
            "embedding": tf.where(usable, embedding, 0.0),
            "cluster_id": chosen[:, 0],
            "codes": chosen,
            "model_version": tf.fill(tf.shape(status), tf.constant(self.version, tf.int64)),
        }


class ImageEmbedder(ServedModel):
    """The descriptor of `image_embedder`."""

    name = contract.IMAGE_EMBEDDER
    answers = "photo -> embedding, cluster ID, codes"
    signatures: ClassVar[Mapping[str, Method]] = {contract.DEFAULT_SIGNATURE: "predict", contract.PIXELS: "predict"}
    joined = True

    def inputs(self, stages: FinishedStages) -> dict[str, str]:
        return {"encoder": stages.encoder, "cluster": stages.cluster.fingerprint}

    def build(self, stages: FinishedStages, version: int) -> ServedEmbedder:
        encoder = FrozenEncoder(stages.pretrain.path / ENCODER_FOLDER, stages.pretrain.facts.image_size)
        return ServedEmbedder(encoder, _codebook(stages), version)

    def requests(self, stages: FinishedStages) -> list[Request]:
        ingest, size = stages.ingest.path, stages.pretrain.facts.image_size
        photo = tf.io.decode_image(first_items(ingest, "image")[0], channels=3, expand_animations=False)
        pixels = tf.image.resize(photo, [size, size], method="area").numpy().astype(np.uint8)
        with_pixels = [Request(contract.PIXELS, {"pixels": _as_bytes([pixels] * rows)}) for rows in ROWS]
        return photo_requests(ingest, contract.DEFAULT_SIGNATURE) + with_pixels

    def differences(self, served: GraphModel, stages: FinishedStages) -> list[str]:
        photos, embeddings = embedded_photos(stages)
        size = stages.pretrain.facts.image_size
        # In one graph: called one by one, each photo would trace the decoder anew.
        decoded = tf.data.Dataset.from_tensor_slices(photos).map(lambda photo: images.decode(photo, size))
        pixels = _as_bytes(list(decoded.as_numpy_iterator()))
        answers_to = {"photos": served(photos=photos), "pixels": served.run(contract.PIXELS, {"pixels": pixels})}
        codebook, reasons = _codebook(stages), []
        for given, answers in answers_to.items():
            difference = largest(answers["embedding"] - embeddings)
            if not difference <= LARGEST_DIFFERENCE:
                reasons.append(
                    f"embeddings of {given} are served with a difference of {difference:.2g} to the encoder's"
                )
            level = _wrong_level(answers, codebook)
            if level is not None:
                reasons.append(
                    f"codes of level {level} of {given} are not those of the codebook in {stages.cluster.path}"
                )
        return reasons

    def limits(self, stages: FinishedStages) -> list[str]:
        size = stages.pretrain.facts.image_size
        formats = "JPEG, PNG or WebP" if images.SERVES_WEBP else "JPEG or PNG"
        return [
            f"Photos are {formats} files of one frame, with up to {images.MAX_PIXELS:,} pixels; others get a status "
            "for their row. Their EXIF orientation is applied, and what is transparent is white.",
            f"`{contract.PIXELS}` takes the {size * size * 3:,} bytes of {size} x {size} pixels (RGB, uint8) for each "
            "row; other rows get a status.",
            f"A request takes up to {most_rows_of_a_request(self.most_rows):,} rows.",
            "The cluster ID of a photo is that of the nearest centroid: `nearest_cluster_id` of an item in "
            f"`{TABLE_FILE}`, up to rounding." + _staying(stages.cluster.facts),
        ]


def _staying(facts: ClusterFacts) -> str:
    """A sentence for the items whose own cluster is not the nearest; empty if there are none."""
    number = facts.items_not_in_nearest
    if not number:
        return ""
    verb = "item stays in its" if number == 1 else "items stay in their"
    return (
        f" {number:,} {verb} previous cluster, `cluster_id` there, although another is nearer: `{contract.CTR_RANKER}` "
        "knows items by `cluster_id`, so ask the table for the ID of an item, and this model for that of a new photo."
    )


def _as_bytes(photos: Sequence[np.ndarray]) -> np.ndarray:
    """[B] bytes of photos [S, S, 3] uint8, as `ServedEmbedder.of_pixels` takes them."""
    return np.array([photo.tobytes() for photo in photos], object)


def _codebook(stages: FinishedStages) -> np.ndarray:
    """[L, K, D] float32 of the cluster stage."""
    return np.load(stages.cluster.path / CODEBOOK_FILE)


def _wrong_level(answers: Mapping[str, np.ndarray], codebook: np.ndarray) -> int | None:
    """The first level whose codes are not those of the nearest centroids, None if all are."""
    if not np.array_equal(answers["cluster_id"], answers["codes"][:, 0]):
        return 0
    left = answers["embedding"]
    for level, centroids in enumerate(codebook):
        distance = ((left[:, None] - centroids) ** 2).sum(axis=2)
        chosen = answers["codes"][:, level]
        if ((chosen < 0) | (chosen >= len(centroids))).any():
            return level
        # A centroid that is as near as the nearest, up to rounding, is as good.
        if (np.take_along_axis(distance, chosen[:, None], 1)[:, 0] > distance.min(axis=1) + LARGEST_DIFFERENCE).any():
            return level
        left = left - centroids[chosen]
    return None
