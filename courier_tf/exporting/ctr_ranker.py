"""`ctr_ranker`: raw features in, click probabilities out."""

from pathlib import Path

import tensorflow as tf

from courier_tf import schema
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.workdir import records

_USER = [
    tf.TensorSpec([None], tf.string, name="user_id"),
    tf.TensorSpec([None, None], tf.string, name="history_item_ids"),
]
_CANDIDATE = tf.TensorSpec([None], tf.string, name="item_id")
_CANDIDATES = tf.TensorSpec([None, None], tf.string, name="item_id")
_EXAMPLES = [tf.TensorSpec([None], tf.string, name="inputs")]


class ServedRanker(tf.Module):
    """A ranker as a server calls it. Every input and output has the rows of the request as its first axis.

    A user, item or history item that training did not know is the unknown one; "" is padding. Of a history the most
    recent items count.

    Args:
        directory: a ranker saved by the rank stage.
        history_length: most recent history items that the ranker was trained on.
        version: that the answers name.
    """

    def __init__(self, directory: Path, history_length: int, version: int) -> None:
        super().__init__()
        ranker = load_ranker(directory)
        # Weights and tables alone belong to the SavedModel: of a Keras model it would keep every call of every layer.
        self.weights, self.tables = ranker.variables, ranker.tables
        self._pairs, self._rank = lambda features: ranker(features, training=False), ranker.rank
        self.history_length, self.version = history_length, version

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """By name."""
        return {
            schema.DEFAULT_SIGNATURE: self.score,
            schema.RANK: self.rank,
            schema.EXAMPLES: self.examples,
            schema.CLASSIFY: self.classify,
            schema.REGRESS: self.regress,
        }

    @tf.function(input_signature=[*_USER, _CANDIDATE], autograph=False)
    def score(self, user_id: tf.Tensor, history_item_ids: tf.Tensor, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] users, [B, H] histories (oldest first, "" as padding, any H), [B] candidates.

        Returns:
            {"probability": [B] float32, "model_version": [B] int64}.
        """
        return self._answer(self._pairs(self._features(user_id, history_item_ids, item_id)))

    @tf.function(input_signature=[*_USER, _CANDIDATES], autograph=False)
    def rank(self, user_id: tf.Tensor, history_item_ids: tf.Tensor, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """As `score`, with [B, N] candidates, "" as padding; N up to `schema.MAX_CANDIDATES`.

        Returns:
            {"probability": [B, N] float32, 0 where the candidate is padding; "model_version": [B] int64}. A server that
            joins requests into batches may have padded N: the first entries are those of the request.
        """
        tf.debugging.assert_less_equal(
            tf.shape(item_id)[1], schema.MAX_CANDIDATES, f"more than {schema.MAX_CANDIDATES} candidates in a row"
        )
        probability = self._rank(self._features(user_id, history_item_ids, item_id))
        return self._answer(tf.where(item_id == "", 0.0, probability))

    @tf.function(input_signature=_EXAMPLES, autograph=False)
    def examples(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] serialised tf.Example with the features of `score`; without user_id the user is unknown.

        Returns:
            As `score`.
        """
        return self._answer(self._of_examples(inputs))

    @tf.function(input_signature=_EXAMPLES, autograph=False)
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same for TF Serving's Classify: {"classes": [B, 2], "scores": [B, 2]}, of "0" (no click) and "1"."""
        probability = self._of_examples(inputs)
        classes = tf.repeat(tf.constant([["0", "1"]]), tf.size(inputs), axis=0)
        return {"classes": classes, "scores": tf.stack([1.0 - probability, probability], axis=1)}

    @tf.function(input_signature=_EXAMPLES, autograph=False)
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same for TF Serving's Regress: {"outputs": [B] probability}."""
        return {"outputs": self._of_examples(inputs)}

    def _of_examples(self, serialised: tf.Tensor) -> tf.Tensor:
        row = tf.io.parse_example(
            serialised,
            {
                "user_id": tf.io.FixedLenFeature([], tf.string, default_value=""),
                "history_item_ids": tf.io.RaggedFeature(tf.string),
                "item_id": tf.io.FixedLenFeature([], tf.string),
            },
        )
        history = row["history_item_ids"].to_tensor(default_value="")
        return self._pairs(self._features(row["user_id"], history, row["item_id"]))

    def _features(self, user_id: tf.Tensor, history: tf.Tensor, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        history = tf.ragged.boolean_mask(history, history != "")
        return {
            "user_id": user_id,
            "history_item_ids": records.last_items(history, self.history_length),
            "item_id": item_id,
        }

    def _answer(self, probability: tf.Tensor) -> dict[str, tf.Tensor]:
        version = tf.fill(tf.shape(probability)[:1], tf.constant(self.version, tf.int64))
        return {"probability": probability, "model_version": version}
