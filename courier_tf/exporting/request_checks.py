"""What the graph of a served model checks before it computes anything, and how it bounds the memory of a request.

A server in C++ compares no shape with a signature, so the graph does. A refusal is INVALID_ARGUMENT, for the sender
alone where requests are not joined.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf


def refuse_unless(condition: tf.Tensor, message: str, *values: tf.Tensor) -> tf.Operation:
    """An operation that fails with INVALID_ARGUMENT and one line, the message and some values."""
    return tf.debugging.Assert(condition, [message, *values])


def bounded(rows: tf.Tensor, most: int, kind: str) -> tf.Tensor:
    """The rows of a request, which fails before anything is computed of more than `most`.

    Args:
        rows: [B, ...] of any type.
        most: the most rows that are answered.
        kind: what a row is, for the message.
    """
    number = tf.shape(rows, tf.int64)[0]
    with tf.control_dependencies([refuse_unless(number <= most, f"more than {most} {kind}:", number)]):
        return tf.identity(rows)


def shaped(given: tf.Tensor) -> tf.Tensor:
    """An input of a signature, which fails if what was sent has another shape than its placeholder.

    >>> shaped(tf.constant([[1.0, 2.0]])).shape
    TensorShape([1, 2])
    """
    return tf.ensure_shape(given, given.shape)


def in_parts(
    answer: Callable[[tf.Tensor], Mapping[str, tf.Tensor]], rows: tf.Tensor, most: int
) -> dict[str, tf.Tensor]:
    """Answers a request up to `most` rows at a time: its memory is that of a part.

    Args:
        answer: [P, ...] rows, P up to `most`, to tensors [P, ...] by name.
        rows: [B, ...].
        most: the most rows of a part.

    Returns:
        The tensors [B, ...] of all rows. All but B is known before.

    >>> in_parts(lambda rows: {"twice": 2 * rows}, tf.range(5), 2)["twice"].numpy().tolist()
    [0, 2, 4, 6, 8]
    """
    traced = tf.function(answer, autograph=False)
    part = traced.get_concrete_function(tf.TensorSpec([None, *rows.shape[1:]], rows.dtype))
    shapes = {name: tf.TensorShape([None, *spec.shape[1:]]) for name, spec in part.structured_outputs.items()}
    none = {name: tf.zeros([0, *spec.shape[1:]], spec.dtype) for name, spec in part.structured_outputs.items()}

    def add(begin: tf.Tensor, answered: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        further = part(rows[begin : begin + most])
        return begin + most, {name: tf.concat([answered[name], further[name]], axis=0) for name in answered}

    number = tf.shape(rows)[0]
    _, answers = tf.while_loop(
        lambda begin, _: begin < number, add, (0, none), (tf.TensorShape([]), shapes), parallel_iterations=1
    )
    return answers
