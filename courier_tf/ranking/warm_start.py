"""A ranker that starts from the weights of a previous one, as in a daily retraining (paper, appendix 6).

Weights are matched by what they belong to, never by their position: users and items by id, columns by value, and the
inputs of the dense layers by what they hold. If the new ranker has a visual feature that the previous one did not have,
the weights of its inputs start at 0. So the new ranker begins with exactly the predictions of the previous one.
"""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.catalogue import CATEGORY_CODE, ITEM
from courier_tf.ranking.columns import ColumnInputs, Columns
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.numbers import statistic_names
from courier_tf.ranking.ranker_files import Plan
from courier_tf.ranking.value_lists import list_statistic_names

UNKNOWN = ("unknown",)  # The label of row 0 of each embedding table.

#: Labels of one axis of a weight, and those of the same axis of the previous weight.
Axis = tuple[Sequence[Hashable], Sequence[Hashable]]


def warm_start(ranker: Ranker, plan: Plan, previous: Ranker, previous_plan: Plan, transferable: bool) -> None:
    """Gives `ranker` the weights that `previous` has learned.

    Args:
        ranker, plan: the new ranker, with its variables made.
        previous, previous_plan: the previous one. It must have the same visual features, or none.
        transferable: whether the weights of the visual features keep their meaning; if not, they start anew.

    Raises:
        RankingError: the two differ in widths or depths, or the previous ranker has other visual features, or only one
            of them has category gates.
    """
    _require_same_architecture(plan, previous_plan)
    transferable = transferable and bool(previous_plan.architecture.visual_features)
    _take_rows(ranker.user_embedding, previous.user_embedding, (_users(plan), _users(previous_plan)))
    tables = dict(zip(previous_plan.catalogue.names, previous.embeddings, strict=True))
    for name, table in zip(plan.catalogue.names, ranker.embeddings, strict=True):
        if name in tables:
            _take_rows(table, tables[name], (_values(plan, name), _values(previous_plan, name)))
    lists, source_lists = plan.catalogue.lists.vocabularies, previous_plan.catalogue.lists.vocabularies
    of_lists = dict(zip(source_lists, previous.list_embeddings, strict=True))
    for (name, values), table in zip(lists.items(), ranker.list_embeddings, strict=True):
        if name in of_lists:
            _take_rows(table, of_lists[name], ([UNKNOWN, *values], [UNKNOWN, *source_lists[name]]))
    _take_columns(ranker, plan, previous, previous_plan)
    if transferable:
        _take_visual_features(ranker, plan, previous, previous_plan)
    _take_dense_layers(ranker, plan, previous, previous_plan, transferable)


def rows_in_common(plan: Plan, previous: Plan) -> dict[str, int]:
    """Embedding table -> number of rows that a new ranker takes from a previous one, without that of the unknown."""
    common = {"users": len(set(_users(plan)) & set(_users(previous))) - 1}
    for name in plan.catalogue.names:
        if name in previous.catalogue.names:
            common[name] = len(set(_values(plan, name)) & set(_values(previous, name))) - 1
    return common


def _require_same_architecture(plan: Plan, previous_plan: Plan) -> None:
    new, old = plan.architecture, previous_plan.architecture
    if old.visual_features not in ((), new.visual_features):
        raise RankingError(f"a ranker with {new.visual_features} cannot start from one with {old.visual_features}")
    if (new.dim, new.cross_layers) != (old.dim, old.cross_layers):
        raise RankingError(
            f"a ranker with rank_dim={new.dim}, rank_cross_layers={new.cross_layers} cannot start from one with "
            f"rank_dim={old.dim}, rank_cross_layers={old.cross_layers}"
        )
    if old.visual_features and new.gated != old.gated:
        raise RankingError(
            f"a ranker with rank_category_gate={new.gated} cannot start from one with rank_category_gate={old.gated}"
        )


def _users(plan: Plan) -> list[Hashable]:
    return _labels_of_rows(plan.users, plan.architecture.user_buckets)


def _values(plan: Plan, name: str) -> list[Hashable]:
    return _labels_of_rows(plan.catalogue.vocabularies[name], plan.catalogue.hash_buckets if name == ITEM else 0)


def _labels_of_rows(vocabulary: np.ndarray, buckets: int) -> list[Hashable]:
    """The label of each row of an embedding table. A hash bucket means the same only among as many buckets."""
    return [UNKNOWN, *(((buckets, bucket) for bucket in range(buckets)) if buckets else vocabulary)]


def _take_rows(table: keras.layers.Embedding, previous: keras.layers.Embedding, axis: Axis) -> None:
    start, source = table.embeddings.numpy(), previous.embeddings.numpy()
    # A new row starts from that of the unknown, which has stood for it until now.
    start[:] = source[0]
    table.embeddings.assign(_mapped(start, source, [axis]))


def _mapped(start: np.ndarray, source: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """A copy of `start` that has the entries of `source` wherever the labels agree on every axis."""
    to_places, from_places = [], []
    for labels, previous_labels in axes:
        place = {label: number for number, label in enumerate(previous_labels)}
        shared = [(number, place[label]) for number, label in enumerate(labels) if label in place]
        to_places.append([pair[0] for pair in shared])
        from_places.append([pair[1] for pair in shared])
    mapped = start.copy()
    mapped[np.ix_(*to_places)] = source[np.ix_(*from_places)]
    return mapped


def _take_columns(ranker: Ranker, plan: Plan, previous: Ranker, previous_plan: Plan) -> None:
    """The values of columns of contexts and users by what they are, and the whole tower of positions."""
    for (known, inputs), (source_known, source) in _inputs_of_columns(ranker, plan, previous, previous_plan):
        tables = dict(zip(source_known.vocabularies, source.embeddings, strict=True))
        for (name, values), table in zip(known.vocabularies.items(), inputs.embeddings, strict=True):
            if name in tables:
                axis = [UNKNOWN, *values], [UNKNOWN, *source_known.vocabularies[name]]
                _take_rows(table, tables[name], axis)
    tower, source_tower = ranker.position, previous.position
    if (
        tower
        and source_tower
        and list(tower.inputs.columns.vocabularies) == list(source_tower.inputs.columns.vocabularies)
    ):
        for layer, source_layer in ((tower.hidden, source_tower.hidden), (tower.logit, source_tower.logit)):
            layer.set_weights(source_layer.get_weights())
        tower.served.assign(source_tower.served)


_Known = tuple[Columns, ColumnInputs]


def _inputs_of_columns(
    ranker: Ranker, plan: Plan, previous: Ranker, previous_plan: Plan
) -> Iterator[tuple[_Known, _Known]]:
    """What both rankers know of columns of a kind, with the layers that embed them."""
    if ranker.context and previous.context:
        yield (ranker.context.columns, ranker.context.inputs), (previous.context.columns, previous.context.inputs)
    if ranker.position and previous.position:
        tower, source = ranker.position.inputs, previous.position.inputs
        yield (tower.columns, tower.inputs), (source.columns, source.inputs)
    if ranker.user_columns and previous.user_columns:
        yield (
            (plan.user_table.columns, ranker.user_columns.inputs),
            (previous_plan.user_table.columns, previous.user_columns.inputs),
        )


def _take_visual_features(ranker: Ranker, plan: Plan, previous: Ranker, previous_plan: Plan) -> None:
    """The weights of the visual features themselves, and their category gates."""
    for layer, source_layer in zip(ranker.image.features, previous.image.features, strict=True):
        layer.take_weights(source_layer)
    gate, source_gate = ranker.image.gate, previous.image.gate
    if gate and source_gate:
        axis = _values(plan, CATEGORY_CODE), _values(previous_plan, CATEGORY_CODE)
        gate.opened.assign(_mapped(gate.values(), source_gate.values(), [axis]))


def _take_dense_layers(ranker: Ranker, plan: Plan, previous: Ranker, previous_plan: Plan, transferable: bool) -> None:
    """Attention, crosses and MLP: inputs by label. New inputs start at 0, and change nothing at first."""
    item, previous_item = _item_labels(ranker, plan, transferable), _item_labels(previous, previous_plan, True)
    of_item = (item, previous_item)
    of_joined = (
        _joined_labels(ranker, plan, item, transferable),
        _joined_labels(previous, previous_plan, previous_item, True),
    )
    for name in ("of_candidate", "of_item", "of_product"):
        _take(getattr(ranker.attention, name).kernel, getattr(previous.attention, name).kernel, of_item)
    ranker.attention.of_candidate.bias.assign(previous.attention.of_candidate.bias)
    for weight, source in zip(ranker.attention.logit.weights, previous.attention.logit.weights, strict=True):
        weight.assign(source)
    for cross, source_cross in zip(ranker.crosses, previous.crosses, strict=True):
        _take(cross.weights[0], source_cross.weights[0], of_joined, of_joined)
        _take(cross.weights[1], source_cross.weights[1], of_joined)
    _take(ranker.mlp.layers[0].kernel, previous.mlp.layers[0].kernel, of_joined)
    heads = ["logit", *(["level"] if ranker.level and previous.level else [])]
    rest, source_rest = (
        [*model.mlp.weights[1:], *(weight for head in heads for weight in getattr(model, head).weights)]
        for model in (ranker, previous)
    )
    for weight, source in zip(rest, source_rest, strict=True):
        weight.assign(source)


def _take(weight: tf.Variable, source: tf.Variable, *labelled: Axis) -> None:
    """Takes the entries whose labels agree. Axes after the labelled ones have the same size in both."""
    others = [(range(size), range(size)) for size in weight.shape[len(labelled) :]]
    weight.assign(_mapped(np.zeros(weight.shape, np.float32), source.numpy(), [*labelled, *others]))


def _item_labels(ranker: Ranker, plan: Plan, transferable: bool) -> list[Hashable]:
    """The label of each number in the representation of an item."""
    dim = plan.architecture.dim
    known = [(name, place) for name in plan.catalogue.names for place in range(dim)]
    known += [(f"list {name}", place) for name in plan.catalogue.lists.vocabularies for place in range(dim)]
    width = ranker.attention.of_item.kernel.shape[0] - len(known)
    return [*known, *(("image" if transferable else "new image", place) for place in range(width))]


def _joined_labels(ranker: Ranker, plan: Plan, item: Sequence[Hashable], transferable: bool) -> list[Hashable]:
    """The label of each input of the MLP, in the order of `model._joined`."""
    repeats = ["item itself", *(f"repeat {name}" for name in plan.catalogue.repeat_columns)]
    shares = [f"share {name}" for name in plan.catalogue.names if name != ITEM]
    labels: list[Hashable] = [("user", place) for place in range(plan.architecture.dim)]
    told = ranker.context.columns if ranker.context else Columns()
    for kind, columns in (("context", told), ("user column", plan.user_table.columns)):
        labels += [(kind, name, place) for name in columns.vocabularies for place in range(plan.architecture.dim)]
        labels += [(kind, name, part) for part in ("number", "is there") for name in columns.quantiles]
    labels += [(part, label) for part in ("candidate", "interest", "product") for label in item]
    labels += [("is repeat", name) for name in repeats]
    labels += [(kind, name) for kind in ("share", "root") for name in (*repeats, *shares)]
    labels += ["length", "has history", *statistic_names(plan.catalogue.number_columns)]
    labels += list_statistic_names(list(plan.catalogue.lists.vocabularies))
    width = ranker.mlp.layers[0].kernel.shape[0] - len(labels)
    return [*labels, *(("image number" if transferable else "new number", place) for place in range(width))]
