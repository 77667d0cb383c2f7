"""Distillation: the pre-training before every objective where a teacher is asked for (`--teacher`).

A teacher is one or several feature sources that do not learn, such as a network with ImageNet weights. The encoder
learns to see what it sees, so that every objective can start from there without the teacher.
"""

from typing import Any

import tensorflow as tf

from courier_tf.backbone.architectures import is_pretrained
from courier_tf.features.feature_error import FeatureError
from courier_tf.features.sources import sources_of
from courier_tf.pretrain.augment import augmented
from courier_tf.pretrain.objectives.objective import Objective, Terms, everywhere, first_place, total
from courier_tf.settings import PretrainSettings, SettingsError

TEACHER = "teacher"  # In a batch: what the teacher sees of each photo.


def imitation(embeddings: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """1 - cos(e_i, t_i): how far each embedding is from what the teacher sees.

    Args:
        embeddings: [U, D] unit vectors.
        targets: [U, D] unit vectors.

    Returns:
        [U].
    """
    return 1 - tf.reduce_sum(embeddings * targets, axis=1)


def relation(
    embeddings: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor, first: tf.Tensor, rows: tf.Tensor, temperature: float
) -> tf.Tensor:
    """How far the similarities of a photo to all others of the batch are from the teacher's (SEED, arXiv 2101.04731).

    KL(p_i || q_i) with p_ij = softmax over j of cos(t_i, t_j) / tau, and q_ij the same of the embeddings. The photo
    itself is left out. Unlike SEED there is no queue: the others are those of the batch.

    Args:
        embeddings: [V, D] unit vectors of the global batch.
        targets: [V, D] unit vectors.
        mask: [V] bool, False for padding.
        first: scalar int32, the first of the photos to compare.
        rows: scalar int32 U, their number.
        temperature: tau.

    Returns:
        [U], 0 where there are no others.
    """
    compared = slice(first, first + rows)
    other = mask[None, :] & (tf.range(first, first + rows)[:, None] != tf.range(tf.shape(mask)[0])[None, :])

    def log_shares(vectors: tf.Tensor) -> tf.Tensor:
        logits = tf.matmul(vectors[compared], vectors, transpose_b=True) / temperature
        return tf.nn.log_softmax(tf.where(other, logits, -1e9))

    of_teacher = log_shares(targets)
    difference = of_teacher - log_shares(embeddings)
    return tf.reduce_sum(tf.where(other, tf.exp(of_teacher) * difference, 0.0), axis=1)


class Distillation(Objective):
    """The embedding of an augmented photo imitates the teacher's features of the photo itself.

    The loss is the mean of `imitation` plus `relation` over the photos of the global batch. `imitation` gives each
    photo a target of its own, `relation` orders the others by their similarity to it.

    The batch must hold `teacher` [U, D] float32, unit vectors: the features, standardised and projected on their first
    D principal axes, as by a `HeadEncoder` before training. Cosines of embeddings then mean what the teacher means by
    them, and no layer is thrown away.

    Args:
        temperature: tau of `relation`.
    """

    gauges = ("cosine", "targets")

    def __init__(self, temperature: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    @classmethod
    def check(cls, settings: PretrainSettings) -> None:
        """Refuses a teacher that does not exist, or that nobody would learn from.

        Raises:
            SettingsError: names the settings and the values.
        """
        if settings.teacher is None:
            return
        try:
            sources_of(settings.teacher, TEACHER)
        except FeatureError as error:
            raise SettingsError(str(error)) from error
        brings = "and leaves supervised pre-training out, which would learn from the teacher"
        if settings.trainable == "head":
            raise SettingsError(
                f"teacher={settings.teacher}: trainable=head freezes its networks {brings}. Take --trainable all, or "
                f"--features {settings.teacher} in place of --teacher"
            )
        if settings.init:
            raise SettingsError(
                f"teacher={settings.teacher}: init={settings.init} brings weights {brings}. Give only one of them"
            )
        if is_pretrained(settings.backbone):
            raise SettingsError(
                f"teacher={settings.teacher}: backbone={settings.backbone} brings weights {brings}. Take another "
                "backbone, such as nano"
            )

    def photos(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        return augmented(batch["photos"], seed, light=False)

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        targets, rows = batch[TEACHER], tf.shape(embeddings)[0]
        known = tf.cast(batch["photo_items"] > 0, tf.float32)
        far = imitation(embeddings, targets)
        of_batch = everywhere(embeddings), everywhere(targets), everywhere(known) > 0
        loss = far + relation(*of_batch, first_place(rows), rows, self.temperature)
        number = tf.reduce_sum(known)
        photos = total(number)
        cosine = tf.reduce_sum((1 - far) * known) / photos
        return Terms(tf.reduce_sum(loss * known) / photos, {"cosine": cosine, "targets": number})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
