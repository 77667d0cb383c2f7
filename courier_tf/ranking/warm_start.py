"""A ranker that starts from a former one, as a daily retraining does (paper, appendix 6).

Everything is matched by what it belongs to, never by its row: users and items by id, columns by value, and the inputs
of the dense layers by what they hold. Where the new ranker has an image feature that the former had not, the weights
of its inputs start at 0: the new ranker begins with exactly the former's predictions.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import tensorflow as tf

from courier_tf.ranking.catalogue import CATEGORY_CODE, ITEM
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import Plan

UNKNOWN = ("unknown",)  # The label of row 0 of each embedding table.


def take_over(ranker: Ranker, plan: Plan, former: Ranker, former_plan: Plan, transferable: bool) -> None:
    """Gives `ranker` what `former` has learned.

    Args:
        ranker, plan: the new ranker, with its variables made.
        former, former_plan: the old one; its image features are those of the new one, or none.
        transferable: whether cluster IDs and embeddings mean the same to both; if not, the image feature starts anew.

    Raises:
        RankingError: the two are of different widths or depths, or the former has other image features, or has learned
            from them with a gate where the new one has none, or the other way round.
    """
    new, old = plan.architecture, former_plan.architecture
    if old.image_features not in ((), new.image_features):
        raise RankingError(f"a ranker with {new.image_features} cannot start from one with {old.image_features}")
    if (new.dim, new.cross_layers) != (old.dim, old.cross_layers):
        raise RankingError(
            f"a ranker with rank_dim={new.dim}, rank_cross_layers={new.cross_layers} cannot start from one with "
            f"rank_dim={old.dim}, rank_cross_layers={old.cross_layers}"
        )
    if old.image_features and new.gated != old.gated:
        raise RankingError(
            f"a ranker with rank_category_gate={new.gated} cannot start from one with rank_category_gate={old.gated}"
        )
    _take_rows(ranker.user_embedding, former.user_embedding, _users(plan), _users(former_plan))
    tables = dict(zip(former_plan.catalogue.names, former.embeddings, strict=True))
    for name, table in zip(plan.catalogue.names, ranker.embeddings, strict=True):
        if name in tables:
            _take_rows(table, tables[name], _values(plan, name), _values(former_plan, name))
    transferable = transferable and bool(old.image_features)
    if transferable:
        for layer, other in zip(ranker.image.features, former.image.features, strict=True):
            for weight, source in zip(layer.trainable_weights, other.trainable_weights, strict=True):
                if weight.shape == source.shape:
                    weight.assign(source)
    if transferable and ranker.image.gate and former.image.gate:
        values = _values(plan, CATEGORY_CODE), _values(former_plan, CATEGORY_CODE)
        ranker.image.gate.switch.assign(
            _mapped(ranker.image.gate.switch.numpy(), former.image.gate.switch.numpy(), [values])
        )
    _take_dense(ranker, plan, former, former_plan, transferable)


def rows_in_common(plan: Plan, former: Plan) -> dict[str, int]:
    """How many rows each embedding table of a new ranker can take over from a former one, that of the unknown apart."""
    common = {"users": len(set(_users(plan)) & set(_users(former))) - 1}
    for name in plan.catalogue.names:
        if name in former.catalogue.names:
            common[name] = len(set(_values(plan, name)) & set(_values(former, name))) - 1
    return common


def _users(plan: Plan) -> list[Hashable]:
    return _rows(plan.users, plan.architecture.user_buckets)


def _values(plan: Plan, name: str) -> list[Hashable]:
    return _rows(plan.catalogue.vocabularies[name], plan.catalogue.hash_buckets if name == ITEM else 0)


def _rows(vocabulary: np.ndarray, buckets: int) -> list[Hashable]:
    """What each row of an embedding table belongs to. A bucket means the same only among as many buckets."""
    return [UNKNOWN, *(((buckets, bucket) for bucket in range(buckets)) if buckets else vocabulary)]


def _take_rows(
    table: tf.keras.layers.Embedding, former: tf.keras.layers.Embedding, rows: list[Hashable], old: list[Hashable]
) -> None:
    start, source = table.embeddings.numpy(), former.embeddings.numpy()
    # A row that is new starts as the unknown does, whose embedding stood for it until now.
    start[:] = source[0]
    table.embeddings.assign(_mapped(start, source, [(rows, old)]))


def _mapped(start: np.ndarray, source: np.ndarray, axes: Sequence[tuple[list[Hashable], list[Hashable]]]) -> np.ndarray:
    """`start` with the entries of `source` where the labels agree on each axis; `axes`: (own, source's) labels."""
    own, others = [], []
    for labels, old in axes:
        place = {label: number for number, label in enumerate(old)}
        shared = [(number, place[label]) for number, label in enumerate(labels) if label in place]
        own.append([pair[0] for pair in shared])
        others.append([pair[1] for pair in shared])
    start = start.copy()
    start[np.ix_(*own)] = source[np.ix_(*others)]
    return start


def _take_dense(ranker: Ranker, plan: Plan, former: Ranker, former_plan: Plan, transferable: bool) -> None:
    """Attention, crosses and MLP: inputs by label; those that are new start at 0, and change nothing at first."""
    item, old_item = _item_labels(ranker, plan, transferable), _item_labels(former, former_plan, True)
    joined, old_joined = (
        _joined_labels(r, p, labels, same) for r, p, labels, same in (
            (ranker, plan, item, transferable), (former, former_plan, old_item, True)
        )
    )  # fmt: skip

    def take(weight: tf.Variable, source: tf.Variable, axes: Sequence[tuple[list[Hashable], list[Hashable]]]) -> None:
        axes = [*axes, *([(list(range(n)),) * 2 for n in weight.shape[len(axes) :]])]
        weight.assign(_mapped(np.zeros(weight.shape, np.float32), source.numpy(), axes))

    for name in ("of_candidate", "of_item", "of_product"):
        take(getattr(ranker.attention, name).kernel, getattr(former.attention, name).kernel, [(item, old_item)])
    ranker.attention.of_candidate.bias.assign(former.attention.of_candidate.bias)
    for weight, source in zip(ranker.attention.logit.weights, former.attention.logit.weights, strict=True):
        weight.assign(source)
    for cross, other in zip(ranker.crosses, former.crosses, strict=True):
        both = (joined, old_joined)
        take(cross.weights[0], other.weights[0], [both, both])
        take(cross.weights[1], other.weights[1], [both])
    take(ranker.mlp.layers[0].kernel, former.mlp.layers[0].kernel, [(joined, old_joined)])
    rest, others = ([*r.mlp.weights[1:], *r.logit.weights] for r in (ranker, former))
    for weight, source in zip(rest, others, strict=True):
        weight.assign(source)


def _item_labels(ranker: Ranker, plan: Plan, transferable: bool) -> list[Hashable]:
    """What each number of an item's representation is."""
    dim = plan.architecture.dim
    known = [(name, place) for name in plan.catalogue.names for place in range(dim)]
    width = ranker.attention.of_item.kernel.shape[0] - len(known)
    return [*known, *(("image" if transferable else "new image", place) for place in range(width))]


def _joined_labels(ranker: Ranker, plan: Plan, item: list[Hashable], transferable: bool) -> list[Hashable]:
    """What each input of the MLP is; in the order in which `Ranker` joins them."""
    repeats = ["item itself", *(f"repeat {name}" for name in plan.catalogue.repeat_columns)]
    columns = [f"share {name}" for name in plan.catalogue.names if name != ITEM]
    numbers = [("stands", name) for name in repeats]
    numbers += [(kind, name) for kind in ("share", "root") for name in (*repeats, *columns)]
    labels = [("user", place) for place in range(plan.architecture.dim)]
    labels += [(part, label) for part in ("candidate", "wanted", "product") for label in item]
    labels += [*numbers, "length", "has history"]
    width = ranker.mlp.layers[0].kernel.shape[0] - len(labels)
    return [*labels, *(("image number" if transferable else "new number", place) for place in range(width))]
