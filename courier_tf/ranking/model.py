"""The ranking model: ID embeddings, repeats, visual features, target attention, an MLP; built on TFRS.

The steps in `Ranker._scores` are in files of their own: `lookups` (ids to codes, hidden ids), `repeats` (statistics of
the history), `gated_visual_features` and the package `visual_features`, `attention`. What follows them is in this file.
The loss, the steps and the metrics are in `trained_model`.
"""

import functools

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from tensorflow import keras

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.attention import TargetAttention
from courier_tf.ranking.catalogue import CATEGORY_CODE, ITEM, Catalogue, CatalogueLookup, ValueCodes
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.columns import Columns, TextInputs
from courier_tf.ranking.gated_visual_features import GatedVisualFeatures
from courier_tf.ranking.lookups import (
    Features,
    Lookups,
    hide_ids,
    look_up,
    shown_columns,
    shown_parts,
    split_by_history,
)
from courier_tf.ranking.nearest_items import nearest_items, with_items
from courier_tf.ranking.numbers import number_statistics
from courier_tf.ranking.position import PositionTower
from courier_tf.ranking.repeats import item_keys, repeat_statistics
from courier_tf.ranking.trained_model import Scores, TrainedModel
from courier_tf.ranking.user_columns import UserColumns, UserTable
from courier_tf.ranking.value_lists import list_statistics, mean_embeddings
from courier_tf.ranking.visual_features.visual_feature import VisualSignals
from courier_tf.schema import EXAMPLE_FEATURES, POSITION


class Ranker(TrainedModel):
    """Click probability of a candidate for a user with a history.

    Args:
        catalogue: codes of all items.
        users: [U] bytes, users of the train span; all others share one embedding.
        visual: visuals of the same items.
        architecture: the hyperparameters.
        context: what the train span knows of the context columns. POSITION is one for training alone.
        user_table: columns of the users, of which a call needs no more than the user id.
        seed: decides which ids training hides. The same seed hides the same ids in the same step.

    Call: {"user_id": [B], "history_item_ids": [B, H], "item_id": [B]} strings, "" as padding of the history, and [B]
    strings of each context column but POSITION -> [B] float32 probability. Training also needs "clicked": [B], and
    POSITION where it is a context column. `evaluate` gives all metrics of `metrics.evaluate` and also needs
    "page_view_id": [B].

    An item that the train span does not show has no embedding of its own, but its columns and its visual features. The
    ranker sees of an item that the catalogue does not know only whether it stands in the history.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        users: np.ndarray,
        visual: CatalogueVisuals,
        architecture: Architecture,
        context: Columns | None = None,
        user_table: UserTable | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.lookup = CatalogueLookup(catalogue, name="catalogue")
        self.user_codes = ValueCodes(users, architecture.user_buckets, name="user_codes")
        self.item_column, self.category_column = catalogue.names.index(ITEM), catalogue.names.index(CATEGORY_CODE)
        dim = architecture.dim
        self.user_embedding = keras.layers.Embedding(self.user_codes.size, dim, name="user")
        # Named by number: a column of a shop may have any name, and TensorFlow allows few characters.
        self.embeddings = [
            keras.layers.Embedding(size, dim, name=f"codes_{column}") for column, size in enumerate(catalogue.sizes)
        ]
        self.list_embeddings = [
            keras.layers.Embedding(len(values) + 1, dim, name=f"list_{column}")
            for column, values in enumerate(catalogue.lists.vocabularies.values())
        ]
        categories = catalogue.sizes[self.category_column] if architecture.gated else 0
        self.image = GatedVisualFeatures(architecture.visual_features, visual, dim, categories, name="image")
        self.attention = TargetAttention(name="attention")
        self.crosses = [tfrs.layers.dcn.Cross(name=f"cross_{n}") for n in range(architecture.cross_layers)]
        self.mlp = keras.Sequential([keras.layers.Dense(width, activation="relu") for width in (64, 32)], name="mlp")
        self.logit = keras.layers.Dense(1, dtype="float32", name="logit")
        self.level = keras.layers.Dense(1, dtype="float32", name="level") if architecture.listwise_weight else None
        context = context or Columns()
        told, place = context.where(lambda name: name != POSITION), context.where(lambda name: name == POSITION)
        self.context = TextInputs(told, dim, name="context") if told.names else None
        self.position = PositionTower(place, dim, name="position") if place.names else None
        user_table = user_table or UserTable()
        self.user_columns = UserColumns(user_table, dim, name="user_columns") if user_table.columns.names else None
        self.add_training_state(seed)

    @property
    def tables(self) -> list[tf.lookup.StaticHashTable]:
        """The tables that a SavedModel must hold beside the weights."""
        tables = [self.lookup.rows, self.user_codes.table, *(self.context.tables if self.context else ())]
        tables += [self.user_columns.rows] if self.user_columns else []
        return [table for table in tables if table is not None]

    @property
    def context_names(self) -> tuple[str, ...]:
        """The context columns that every call needs."""
        return self.context.columns.names if self.context else ()

    @property
    def call_features(self) -> tuple[str, ...]:
        """The features that every call needs."""
        return (*EXAMPLE_FEATURES, *self.context_names)

    @tf.autograph.experimental.do_not_convert
    def call(self, features: Features, training: bool | None = None) -> tf.Tensor:
        return tf.sigmoid(self.pair_scores(features, training).log_odds)

    @functools.cached_property
    def _answer(self) -> tf.types.experimental.GenericFunction:
        specs = {name: tf.TensorSpec([None], tf.string) for name in self.call_features}
        specs["history_item_ids"] = tf.TensorSpec([None, None], tf.string)
        return tf.function(lambda given: self(given, training=False), input_signature=[specs], autograph=False)

    def answer(self, features: Features) -> tf.Tensor:
        """The call outside of training, as a graph that is traced once; it takes no further features."""
        return self._answer(features)

    def rank(self, features: Features) -> tf.Tensor:
        """Scores many candidates per user, for serving: what belongs to the user is computed once per row.

        Args:
            features: those of the call, but "item_id" is [B, N]. The context of a row is that of all its candidates.

        Returns:
            [B, N] float32 probability, the same as the call on each pair.
        """
        return tf.sigmoid(self._shared_scores(features) + self._served_position())

    def _shared_scores(self, features: Features) -> tf.Tensor:
        """[B, N] float32 log odds. Candidates share a history unless each has items of its own (`nearest_items`)."""
        if not self.architecture.nearest_items:
            return self._scores(features, share_history=True).log_odds
        return tf.cond(
            tf.shape(features["history_item_ids"])[1] > self.architecture.nearest_items,
            lambda: self._scores(features).log_odds,
            lambda: self._scores(features, share_history=True).log_odds,
        )

    def attention_weights(self, features: Features) -> tf.Tensor:
        """What the attention of each pair takes from each history item, to explain a score.

        Args:
            features: those of the call.

        Returns:
            [B, H] float32; a row sums to 1, or is 0 where the history is empty.
        """
        pairs = {**features, "item_id": features["item_id"][:, None]}
        lookups = look_up(pairs, self.lookup, self.user_codes)
        places, size = None, tf.shape(lookups.mask)
        if self.architecture.nearest_items:
            places, cosines = self._nearest(lookups)
            _, lookups = with_items(pairs, lookups, places, cosines)
        weights = self.attention.weights_of(*_attended(*self._represented(lookups, None), lookups))
        if places is None:
            return weights
        return tf.reduce_sum(weights[..., None] * tf.one_hot(places[:, 0], size[1]), axis=1)

    def pair_scores(self, features: Features, training: bool | None) -> Scores:
        """Scores pairs of a user and a candidate: [B] log odds of a click."""
        shown = None
        if training:
            pairs = tf.size(features["item_id"])
            draw = pairs, self.architecture.unknown_rate, self.seed.read_value(), self.steps.read_value()
            shown = shown_parts(*draw)
            if self.context or self.user_columns:
                shown = tf.concat([shown, shown_columns(*draw)], axis=0)
        places, parts = [], []
        for place, group in split_by_history(features, self.context_names):
            parts.append(self._scores(group, None if shown is None else tf.gather(shown, place, axis=1)))
            places.append(place)
        relevance = tf.dynamic_stitch(places, [part.log_odds[:, 0] for part in parts])
        levels = [part.level[:, 0] for part in parts if part.level is not None]
        level = tf.dynamic_stitch(places, levels) if levels else None
        of_position = self.position(features) if self.position and training else self._served_position()
        return Scores(relevance + of_position, tf.add_n([part.norm for part in parts]), level)

    def _served_position(self) -> tf.Tensor | float:
        """What takes the place of the tower of positions outside of training; 0 without one."""
        return self.position.served if self.position else 0.0

    def _scores(self, features: Features, shown: tf.Tensor | None = None, share_history: bool = False) -> Scores:
        """Scores N candidates per user: the whole network, step by step.

        Args:
            features: of B users; "item_id" is [B, N].
            shown: [3, B] int32 as of `shown_parts`, and below it [2, B] of `shown_columns` where there are such; None
                shows all ids and columns, and visual features where gates are open.
            share_history: N may be above 1, and all items of a history are used.

        Returns:
            [B, N] log odds of a click.
        """
        lookups, shape = look_up(features, self.lookup, self.user_codes), tf.shape(features["item_id"])
        if self.architecture.nearest_items and not share_history:
            features, lookups = with_items(features, lookups, *self._nearest(lookups))
        statistics = self._statistics(features, lookups)
        if shown is not None:
            lookups = hide_ids(lookups, shown, self.item_column)
        candidate, history, image, gate = self._represented(lookups, None if shown is None else shown[2])
        if share_history:
            interest = self.attention.share_history(
                candidate, history, image.history, gate, lookups.mask, image.attention
            )
        else:
            interest = self.attention(*_attended(candidate, history, image, gate, lookups))[:, None]
        user = self.user_embedding(lookups.users)
        inputs = _joined(self._with_columns(user, features, shown), candidate, interest, statistics, image.statistics)
        hidden = self._hidden(inputs)
        level = tf.reshape(self.level(hidden), shape) if self.level else None
        return Scores(tf.reshape(self.logit(hidden), shape), _sum_of_squares(user, candidate), level)

    def _nearest(self, lookups: Lookups) -> tuple[tf.Tensor, tf.Tensor]:
        """The history items that the ranker uses for each candidate, as of `nearest_items`."""
        visual = self.image.embeddings
        embeddings = tf.zeros([tf.shape(self.lookup.codes)[0], 0]) if visual is None else visual
        return nearest_items(
            lookups.candidates, lookups.history, lookups.mask, embeddings, self.architecture.nearest_items
        )

    def _with_columns(self, user: tf.Tensor, features: Features, shown: tf.Tensor | None) -> tf.Tensor:
        """[B, dim] user embeddings; beside them what the context of each row and the columns of its user tell."""
        parts = [user]
        if self.context:
            parts.append(self.context(features, None if shown is None else shown[3]))
        if self.user_columns:
            parts.append(self.user_columns(features["user_id"], None if shown is None else shown[4]))
        return tf.concat(parts, axis=1) if len(parts) > 1 else user

    def _represented(
        self, lookups: Lookups, visible: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, VisualSignals, tf.Tensor]:
        """What the attention compares: candidates [B, N, D], history [B, H, P]; the photos' signals; the gates."""
        category = lookups.candidate_codes[..., self.category_column]
        image, gate = self.image(lookups.candidates, lookups.history, lookups.mask, category, visible, lookups.cosines)
        candidates = self._embedded(lookups.candidate_codes, lookups.candidates)
        history = self._embedded(lookups.history_codes, lookups.history)
        return tf.concat([candidates, image.candidate], axis=-1), history, image, gate

    def _statistics(self, features: Features, lookups: Lookups) -> tf.Tensor:
        """[B, N, R] float32: how candidates repeat the history, how their numbers differ from it, what lists share."""
        candidates, history = (
            self._compared(ids, rows, codes)
            for ids, rows, codes in (
                (features["item_id"], lookups.candidates, lookups.candidate_codes),
                (features["history_item_ids"], lookups.history, lookups.history_codes),
            )
        )
        repeats = repeat_statistics(candidates, history, lookups.mask, 1 + self.lookup.repeats.shape[1])
        of_candidates, of_history = (
            tf.gather(self.lookup.numbers, rows) for rows in (lookups.candidates, lookups.history)
        )
        numbers = number_statistics(of_candidates, of_history, lookups.mask)
        if not self.list_embeddings:
            return tf.concat([repeats, numbers], axis=2)
        ours, past = (tf.gather(self.lookup.lists, rows) for rows in (lookups.candidates, lookups.history))
        return tf.concat([repeats, numbers, list_statistics(ours, past, lookups.mask)], axis=2)

    def _compared(self, ids: tf.Tensor, rows: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
        """[B, R, values] int64: what `repeat_statistics` compares of items: themselves, repeat columns, columns."""
        itself = item_keys(ids, rows, self.lookup.unknown)[..., None]
        columns = [
            tf.gather(self.lookup.repeats, rows),
            codes[..., : self.item_column],
            codes[..., self.item_column + 1 :],
        ]
        return tf.concat([itself, *(tf.cast(values, tf.int64) for values in columns)], axis=2)

    def _embedded(self, codes: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """[..., columns] codes and [...] rows of the catalogue to [..., (columns + columns of lists) * dim]."""
        parts = [embedding(codes[..., column]) for column, embedding in enumerate(self.embeddings)]
        if self.list_embeddings:
            lists = tf.gather(self.lookup.lists, rows)
            parts += [mean_embeddings(table, lists[..., place, :]) for place, table in enumerate(self.list_embeddings)]
        return tf.concat(parts, axis=-1)

    def _hidden(self, inputs: tf.Tensor) -> tf.Tensor:
        """Cross layers, then the MLP: [B, N, inputs] to [B N, width]."""
        shape = tf.shape(inputs)
        joined = tf.reshape(inputs, [shape[0] * shape[1], inputs.shape[-1]])
        crossed = joined
        for cross in self.crosses:
            crossed = cross(joined, crossed)
        return self.mlp(crossed)


def _attended(
    candidate: tf.Tensor, history: tf.Tensor, image: VisualSignals, gate: tf.Tensor, lookups: Lookups
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """The arguments of the attention of pairs: candidate [B, D], history [B, H, D], mask, what is added to logits."""
    added = None if image.attention is None else image.attention[:, 0]
    return candidate[:, 0], tf.concat([history, image.history * gate], axis=-1), lookups.mask, added


def _joined(
    user: tf.Tensor, candidate: tf.Tensor, interest: tf.Tensor, statistics: tf.Tensor, image: tf.Tensor
) -> tf.Tensor:
    """The inputs of the cross layers and the MLP, in the order of `warm_start._joined_labels`.

    Args:
        user: [B, U], the embedding, the context and the columns of the user.
        candidate: [B, N, D].
        interest: [B, N, D], what the attention took from the history.
        statistics: [B, N, R], statistics of repeats and numbers.
        image: [B, N, M], statistics of visual features.

    Returns:
        [B, N, U + 3 D + R + M].
    """
    user = tf.repeat(user[:, None], tf.shape(candidate)[1], axis=1)
    parts = [user, candidate, interest, candidate * interest, tf.cast(statistics, user.dtype), image]
    return tf.concat(parts, axis=2)


def _sum_of_squares(*tensors: tf.Tensor) -> tf.Tensor:
    return tf.add_n([tf.reduce_sum(tf.square(tf.cast(tensor, tf.float32))) for tensor in tensors])
