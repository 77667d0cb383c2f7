"""The graph of `ctr_ranker`: its signatures, and the bounds of what they take."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from courier_tf.exporting.request_checks import bounded, refuse_unless, shaped
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.workdir import records
from serving.client import contract

_USER = [
    tf.TensorSpec([None], tf.string, name="user_id"),
    tf.TensorSpec([None, None], tf.string, name="history_item_ids"),
]
_CANDIDATE = tf.TensorSpec([None], tf.string, name="item_id")
_CANDIDATES = tf.TensorSpec([None, None], tf.string, name="item_id")
_EXAMPLES = [tf.TensorSpec([None], tf.string, name="inputs")]

Answer = dict[str, tf.Tensor]


class ServedRanker(tf.Module):
    """A ranker as a server calls it. The first axis of every input and output is the rows of the request.

    Users, items and history items that training did not know share one embedding each; "" is padding. The most recent
    items of a history count. Each context column of the ranker is one more input of `score` and `rank`: [B] texts,
    "" where it is not known. All texts that training did not know count as one unknown value.

    Args:
        directory: a ranker saved by the rank stage.
        history_length: most recent history items that the ranker was trained on.
        version: number that the answers name.
    """

    def __init__(self, directory: Path, history_length: int, version: int) -> None:
        super().__init__()
        ranker = load_ranker(directory)
        # Only weights and tables belong to the SavedModel: it would keep every call of every layer of a Keras model.
        self.weights, self.tables = ranker.variables, ranker.tables
        self._pairs, self._rank = lambda features: ranker(features, training=False), ranker.rank
        self.history_length, self.version = history_length, version
        self.context_names = ranker.context_names
        context = [tf.TensorSpec([None], tf.string, name=name) for name in ranker.context_names]
        self.score = tf.function(self._score, input_signature=[*_USER, _CANDIDATE, *context], autograph=False)
        self.rank = tf.function(self._ranked, input_signature=[*_USER, _CANDIDATES, *context], autograph=False)

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """The functions that a server calls, by name of the signature."""
        return {
            contract.DEFAULT_SIGNATURE: self.score,
            contract.RANK: self.rank,
            contract.EXAMPLES: self.examples,
            contract.CLASSIFY: self.classify,
            contract.REGRESS: self.regress,
        }

    def _score(
        self, user_id: tf.Tensor, history_item_ids: tf.Tensor, item_id: tf.Tensor, *context: tf.Tensor
    ) -> Answer:
        """Scores pairs: [B] users, [B, H] histories (oldest first, "" as padding, any H), [B] candidates, [B] contexts.

        B is at most `contract.MAX_PAIRS`.

        Returns:
            {"probability": [B] float32, "model_version": [B] int64}.
        """
        item_id = bounded(shaped(item_id), contract.MAX_PAIRS, "pairs")
        return self._answer(self._pairs(self._features(user_id, history_item_ids, item_id, context)))

    def _ranked(
        self, user_id: tf.Tensor, history_item_ids: tf.Tensor, item_id: tf.Tensor, *context: tf.Tensor
    ) -> Answer:
        """Scores [B, N] candidates, "" as padding, with the users, histories and contexts of `score`.

        N is at most `contract.MAX_CANDIDATES`, B and B * N at most `contract.MAX_PAIRS`.

        Returns:
            {"probability": [B, N] float32, 0 where the candidate is padding; "model_version": [B] int64}. A server that
            joins requests into batches may have padded N: the first entries belong to the request.
        """
        item_id = shaped(item_id)
        rows, candidates = tf.unstack(tf.shape(item_id, tf.int64))
        most, pairs = contract.MAX_CANDIDATES, contract.MAX_PAIRS
        refusals = [
            refuse_unless(candidates <= most, f"more than {most} candidates in a row:", candidates),
            refuse_unless(
                rows * tf.maximum(candidates, 1) <= pairs,  # A row costs something without candidates, too.
                f"more than {pairs} pairs, rows x candidates:",
                rows,
                candidates,
            ),
        ]
        with tf.control_dependencies(refusals):  # Nothing is computed of what is too large.
            item_id = tf.identity(item_id)
        probability = self._rank(self._features(user_id, history_item_ids, item_id, context))
        return self._answer(tf.where(item_id == "", 0.0, probability))

    @tf.function(input_signature=_EXAMPLES, autograph=False)
    def examples(self, inputs: tf.Tensor) -> Answer:
        """Scores [B] serialised tf.Example with the features of `score`; without user_id the user is unknown.

        A context column that an example lacks is the empty text.

        B is at most `contract.MAX_PAIRS`, here, in `classify` and in `regress`.

        Returns:
            The outputs of `score`.
        """
        return self._answer(self._score_examples(inputs))

    @tf.function(input_signature=_EXAMPLES, autograph=False)
    def classify(self, inputs: tf.Tensor) -> Answer:
        """Answers TF Serving's Classify: {"classes": [B, 2], "scores": [B, 2]} for "0" (no click) and "1"."""
        probability = self._score_examples(inputs)
        classes = tf.repeat(tf.constant([["0", "1"]]), tf.size(inputs), axis=0)
        return {"classes": classes, "scores": tf.stack([1.0 - probability, probability], axis=1)}

    @tf.function(input_signature=_EXAMPLES, autograph=False)
    def regress(self, inputs: tf.Tensor) -> Answer:
        """Answers TF Serving's Regress: {"outputs": [B] probability}."""
        return {"outputs": self._score_examples(inputs)}

    def _score_examples(self, serialised: tf.Tensor) -> tf.Tensor:
        row = tf.io.parse_example(
            bounded(shaped(serialised), contract.MAX_PAIRS, "examples"),
            {
                "user_id": tf.io.FixedLenFeature([], tf.string, default_value=""),
                "history_item_ids": tf.io.RaggedFeature(tf.string),
                "item_id": tf.io.FixedLenFeature([], tf.string),
                **{name: tf.io.FixedLenFeature([], tf.string, default_value="") for name in self.context_names},
            },
        )
        history = row["history_item_ids"].to_tensor(default_value="")
        context = [row[name] for name in self.context_names]
        return self._pairs(self._features(row["user_id"], history, row["item_id"], context))

    def _features(
        self, user_id: tf.Tensor, history: tf.Tensor, item_id: tf.Tensor, context: Sequence[tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        return {
            **{name: shaped(values) for name, values in zip(self.context_names, context, strict=True)},
            "user_id": shaped(user_id),
            "history_item_ids": recent_items(shaped(history), self.history_length),
            "item_id": item_id,
        }

    def _answer(self, probability: tf.Tensor) -> Answer:
        version = tf.fill(tf.shape(probability)[:1], tf.constant(self.version, tf.int64))
        return {"probability": probability, "model_version": version}


def recent_items(history: tf.Tensor, most: int) -> tf.Tensor:
    """The most recent items of each history, without needless padding, which costs a ranker as much as items do.

    Args:
        history: [B, H] ids, oldest first, "" as padding anywhere.
        most: items of a history that count.

    Returns:
        [B, L] ids, "" as padding at the end; L is the length of the longest, 0 where all are empty.
    """
    return records.last_items(tf.ragged.boolean_mask(history, history != "")[:, -most:], None)
