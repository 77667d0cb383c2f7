"""Long histories: of each history, the items that are most similar to the candidate."""

import tensorflow as tf

from courier_tf.ranking.lookups import Features, Lookups

BELOW_ALL = -1.5  # Less than any cosine.
UNSEEN, PADDING = -2.0, -4.0  # What is added to the cosine with an item without a photo, and with padding.


def nearest_items(
    candidate: tf.Tensor, history: tf.Tensor, mask: tf.Tensor, embeddings: tf.Tensor, most: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the history items of the largest cosine with each candidate (as MUSE does, arXiv 2512.07216).

    Where cosines are equal, and for an item without a photo, the later history items are taken. Embeddings are gathered
    for one history at a time, so that memory does not grow with their number.

    Args:
        candidate: [B, N] int32, rows of `embeddings`.
        history: [B, H] int32, rows of `embeddings`.
        mask: [B, H] bool, False for padding, which stands at the end and has a row without a photo.
        embeddings: [items, D] float32 of length 1, or 0 for an item without a photo; D may be 0.
        most: K, the most items to take.

    Returns:
        ([B, N, min(K, H)] int32, places in the history, in the order of the history, those of padding last;
        [B, N, min(K, H)] float32, the cosines with these items, 0 without a photo).
    """
    length = tf.shape(history)[1]
    number = tf.minimum(most, length)

    def of_row(row: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        candidates, clicked, real = row
        wanted, offered = tf.gather(embeddings, candidates), tf.gather(embeddings, clicked)
        # What is taken from a cosine is a part of the product: to go through all pairs once more takes as long.
        less = tf.stack([UNSEEN * (1 - _has_photo(offered)), PADDING * (1 - tf.cast(real, tf.float32))], axis=1)
        wanted = tf.concat([wanted, _has_photo(wanted)[:, None], tf.ones([tf.size(candidates), 1])], axis=1)
        order = tf.matmul(wanted, tf.concat([offered, less], axis=1), transpose_b=True)
        _, places = tf.math.top_k(order, number, sorted=False)
        places = tf.sort(places, axis=1)
        cosine = tf.gather(order, places, batch_dims=1)
        return length - 1 - tf.reverse(places, [1]), tf.reverse(tf.where(cosine < BELOW_ALL, 0.0, cosine), [1])

    # Of equal values the first is taken: the latest item has to come first. One row more, as `map_fn` fails in a graph
    # where there are none.
    rows = (candidate, tf.reverse(history, [1]), tf.reverse(mask, [1]))
    rows = tuple(tf.pad(part, [[0, 1], [0, 0]]) for part in rows)
    places, cosines = tf.map_fn(of_row, rows, fn_output_signature=(tf.int32, tf.float32))
    return places[:-1], cosines[:-1]


def _has_photo(embeddings: tf.Tensor) -> tf.Tensor:
    """[R, D] to [R] float32: 1 where an item has a photo, 0 where its embedding is 0."""
    return tf.cast(tf.reduce_any(embeddings != 0, axis=1), tf.float32)


def with_items(features: Features, lookups: Lookups, places: tf.Tensor, cosines: tf.Tensor) -> tuple[Features, Lookups]:
    """Gives each pair of a user and a candidate a history of its own.

    Args:
        features: of B users with N candidates each. Further features are [B].
        lookups: of the same.
        places, cosines: [B, N, K], as of `nearest_items`.

    Returns:
        Features and lookups of B N users with one candidate each, and K history items.
    """
    number, most = tf.shape(places)[1], tf.shape(places)[2]
    rows = tf.repeat(tf.range(tf.shape(places)[0]), number)
    # Places in the histories of all users, one after the other.
    flat = tf.reshape(places, [-1, most]) + rows[:, None] * tf.shape(lookups.history)[1]

    def one_each(values: tf.Tensor) -> tf.Tensor:
        """[B, N, ...] to [B N, 1, ...]."""
        return tf.reshape(values, [-1, 1, *values.shape[2:]])

    def taken(values: tf.Tensor) -> tf.Tensor:
        """[B, H, ...] to [B N, K, ...]."""
        return tf.gather(tf.reshape(values, [-1, *values.shape[2:]]), flat)

    pairs = {name: tf.gather(values, rows) for name, values in features.items() if values.shape.rank == 1}
    pairs |= {"item_id": one_each(features["item_id"]), "history_item_ids": taken(features["history_item_ids"])}
    return pairs, Lookups(
        users=tf.gather(lookups.users, rows),
        candidates=one_each(lookups.candidates),
        candidate_codes=one_each(lookups.candidate_codes),
        history=taken(lookups.history),
        history_codes=taken(lookups.history_codes),
        mask=taken(lookups.mask),
        cosines=tf.reshape(cosines, [tf.size(rows), 1, most]),
    )
