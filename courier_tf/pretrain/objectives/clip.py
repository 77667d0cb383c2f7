"""The baseline CLIP: a photo agrees with its item's title (arXiv 2103.00020)."""

from typing import Any, Self

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.pretrain.contrastive import contrastive_loss, softmax_weights
from courier_tf.pretrain.objectives.objective import Objective, Terms, everywhere, first_place, temperature_of, total
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings

BUCKETS = 8192  # Words are hashed, because a vocabulary could know the test span.
WORDS = 16  # First words of a title that are read.


def title_words(titles: np.ndarray) -> np.ndarray:
    """The hash of each lower-case word of titles [N] bytes: [N, WORDS] int32, 1 to BUCKETS, 0 after the last word."""
    words = tf.strings.split(tf.strings.regex_replace(tf.strings.lower(titles, "utf-8"), r"[^\pL\pN]+", " "))
    hashed = tf.ragged.map_flat_values(lambda word: tf.strings.to_hash_bucket_fast(word, BUCKETS) + 1, words)
    return tf.cast(hashed.to_tensor(0, shape=[None, WORDS]), tf.int32).numpy()


class Clip(Objective):
    """Photos and titles find each other in the global batch; the text encoder is a bag of hashed words and an MLP.

    Args:
        temperature: of the softmax.
        width: of the word embeddings.

    The batch must hold `words` [U, WORDS] from `title_words`. Photos without a title are left out. Equal
    titles are no negatives of each other.
    """

    option = "clip"
    gauges = ("positive_probability", "recall@1", "targets")

    def __init__(self, temperature: float = 0.1, width: int = 128, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature, self.width = temperature, width

    @classmethod
    def from_settings(cls, settings: PretrainSettings, data: TrainingData) -> Self:
        return cls(**temperature_of(settings))

    @classmethod
    def attributes(cls, settings: PretrainSettings, data: TrainingData) -> dict[str, np.ndarray]:
        return {"words": title_words(np.concatenate([[b""], data.items.titles]))}

    def build(self, input_shape: Any) -> None:
        self.word = keras.layers.Embedding(BUCKETS + 1, self.width, name="word", dtype="float32")
        self.hidden = keras.layers.Dense(self.width, activation="gelu", name="hidden", dtype="float32")
        self.out = keras.layers.Dense(input_shape[-1], name="out", dtype="float32")
        self.word.build([None])
        for layer in (self.hidden, self.out):
            with tf.name_scope(layer.name):
                layer.build([None, self.width])
        super().build(input_shape)

    def titles(self, words: tf.Tensor) -> tf.Tensor:
        """[U, WORDS] int32 to [U, D] unit vectors."""
        present = tf.cast(words > 0, tf.float32)[:, :, None]
        bag = tf.reduce_sum(self.word(words) * present, axis=1) / tf.maximum(tf.reduce_sum(present, axis=1), 1.0)
        return tf.math.l2_normalize(self.out(self.hidden(bag)), axis=-1)

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        words = batch["words"]
        real = (batch["photo_items"] > 0) & tf.reduce_any(words > 0, axis=1)
        photos, texts = tf.boolean_mask(embeddings, real), self.titles(tf.boolean_mask(words, real))
        # Equal titles are one text, so a fingerprint of the words stands for the item.
        prints = tf.strings.to_hash_bucket_fast(
            tf.strings.reduce_join(tf.strings.as_string(tf.boolean_mask(words, real)), axis=1, separator=" "), 2**62
        )
        rows = tf.shape(photos)[0]
        all_prints = everywhere(prints)
        positive = first_place(rows) + tf.range(rows)
        counts = tf.ones([tf.shape(all_prints)[0]])
        weights = softmax_weights(positive, counts, all_prints, positive_counted=True, accidental_negatives=False)
        results = [
            contrastive_loss(query, positive, everywhere(candidates), weights, self.temperature)
            for query, candidates in ((photos, texts), (texts, photos))
        ]
        number = tf.cast(rows, tf.float32)
        targets = total(number)
        loss, probability, hits = (sum(values) / (2 * targets) for values in zip(*results, strict=True))
        return Terms(loss, {"positive_probability": probability, "recall@1": hits, "targets": number})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature, "width": self.width}
