"""Images per second of one Swin.

python -m tests.benchmarks.pretrain.swin_speed SIDE PRESET SIZE PRECISION MODE BATCH

SIDE: ours, plain (Keras), torchvision. PRECISION: float32, bfloat16. MODE: forward, train (with Adam).
"""

import sys

import numpy as np

from tests.benchmarks.child import answer, repeated

RATE = 1e-4


def tensorflow_step(side: str, preset: str, size: int, precision: str, mode: str, photos: np.ndarray):
    import courier_tf  # noqa: F401
    from courier_tf.process import prepare

    prepare()
    import tensorflow as tf

    from courier_tf.backbone.swin import SIZES, SwinBackbone

    if precision == "bfloat16":
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    if side == "plain":
        from tests.benchmarks.pretrain.plain_swin import plain_swin

        model = plain_swin(size=size, **SIZES[preset])
    else:
        model = SwinBackbone(**SIZES[preset])
    images = tf.constant(photos)
    if mode == "forward":
        return tf.function(lambda: model(images, training=False), autograph=False)
    optimizer = tf.keras.optimizers.legacy.Adam(RATE)  # As the stage trains.

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.cast(tf.reduce_mean(model(images, training=True), [1, 2]), tf.float32)))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return step


def torch_step(preset: str, precision: str, mode: str, photos: np.ndarray):
    import torch

    from tests.benchmarks.pretrain.torch_swin import torch_swin

    model = torch_swin(preset)
    images = torch.from_numpy(photos.transpose(0, 3, 1, 2).copy())
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    if mode == "forward":
        model.eval()

        def forward():
            with torch.inference_mode(), half:
                return model(images)

        return forward
    optimizer = torch.optim.Adam(model.parameters(), RATE)

    def step():
        optimizer.zero_grad()
        with half:
            pooled = model(images)
        loss = pooled.float().square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return step


def main(side: str, preset: str, size: str, precision: str, mode: str, batch: str) -> None:
    photos = np.random.default_rng(0).normal(size=[int(batch), int(size), int(size), 3]).astype(np.float32)
    if side == "torchvision":
        step = torch_step(preset, precision, mode, photos)
    else:
        step = tensorflow_step(side, preset, int(size), precision, mode, photos)
    answer(rate=int(batch) / repeated(step))


if __name__ == "__main__":
    main(*sys.argv[1:])
