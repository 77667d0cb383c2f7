"""Peak memory and speed of training steps.

python -m tests.benchmarks.pretrain.memory ROWS CHUNK RECOMPUTE

The page views (H = 5, P = 5) hold random pixels, and no photo twice; the backbone is `nano` at 64 px. ROWS 0 measures
the process before any step.
"""

import sys

import numpy as np

import courier_tf  # noqa: F401  (chooses the Keras before TensorFlow is imported)
from courier_tf.process import prepare
from tests.benchmarks.child import answer, repeated

SIZE, SLOTS = 64, 5


def main(rows: int, chunk: int, recompute: int) -> None:
    prepare()
    import tensorflow as tf

    from courier_tf.pretrain.data import deduplicated
    from courier_tf.pretrain.encoder import Encoder
    from courier_tf.pretrain.model import CourierModel

    rng = np.random.default_rng(0)
    model = CourierModel(Encoder("nano", 256, drop_path=0.05, recompute=bool(recompute)), chunk=chunk)
    model.compile(tf.keras.optimizers.Adam(1e-4))
    model.optimizer.build(model.trainable_variables)
    if not rows:
        return answer(rate=0.0, photos=0)
    slots = 2 * rows * SLOTS
    pixels = tf.constant(rng.integers(0, 255, [slots + 1, SIZE, SIZE, 3], dtype=np.uint8))
    page_view, history = tf.split(tf.reshape(tf.range(1, slots + 1), [2 * rows, SLOTS]), 2)
    clicked = tf.constant(np.arange(rows * SLOTS).reshape(rows, SLOTS) % SLOTS == 0)
    batch = deduplicated(page_view, history, clicked, pixels)
    step = tf.function(model.train_step, autograph=False)
    loss = float(step(batch)["loss"])
    photos = int(tf.math.count_nonzero(batch["photo_items"]))
    seconds = repeated(lambda: step(batch), seconds=0.0) if rows <= 512 else 0.0
    return answer(rate=photos / seconds if seconds else 0.0, photos=photos, loss=loss)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
