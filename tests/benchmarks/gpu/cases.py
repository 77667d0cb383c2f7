"""What is measured on a device, each in a process of its own.

python -m tests.benchmarks.gpu.cases learning|network JSON
"""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.benchmarks.child import answer, repeated

ITEMS, KINDS, HISTORY, PAGE_VIEW = 512, 16, 3, 4
LAST = 10  # Steps whose mean loss is compared.


@dataclasses.dataclass(frozen=True)
class Learning:
    """A training with the objective courier on made-up clicks.

    Attributes:
        precision: a policy of Keras; tf32 is float32 multiplied as TF32.
        photos: `host`: PNG files are decoded in the input pipeline; `device`: pixels lie in the memory of the device.
        streams: input pipelines that run at the same time.
    """

    backbone: str
    side: int
    rows: int
    steps: int
    precision: str = "float32"
    photos: str = "host"
    streams: int = 1


@dataclasses.dataclass(frozen=True)
class Network:
    """A Swin alone: images/s forward, or in training with Adam."""

    backbone: str
    side: int
    batch: int
    mode: str = "forward"
    precision: str = "float32"
    xla: bool = False
    ours: bool = True  # Otherwise torchvision's.


class Watch(threading.Thread):
    """Looks at `nvidia-smi` twice a second: how busy the first GPU is."""

    COMMAND = ("nvidia-smi", "-i", "0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.busy: list[float] = []
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.5):
            try:
                done = subprocess.run(self.COMMAND, capture_output=True, text=True, check=True, timeout=5)
                self.busy.append(float(done.stdout.split()[0]))
            except (OSError, subprocess.SubprocessError, ValueError, IndexError):
                return  # No GPU, or a driver that does not tell.

    def mean(self) -> float:
        """Percent of the time that the GPU was busy; -1 where nothing tells."""
        self._ended.set()
        return float(np.mean(self.busy)) if self.busy else -1.0


def shop(side: int) -> tuple[np.ndarray, np.ndarray]:
    """[ITEMS + 1, S, S, 3] uint8 photos by item number, noise over a picture of their kind; [ITEMS + 1] kinds."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, KINDS, ITEMS + 1)
    pictures = rng.integers(0, 256, [KINDS, 4, 4, 3]).repeat(side // 4, 1).repeat(side // 4, 2)
    photos = np.clip(pictures[kinds] + rng.normal(0, 40, [ITEMS + 1, side, side, 3]), 0, 255).astype(np.uint8)
    photos[0] = 0
    return photos, kinds


def rows(kinds: np.ndarray, number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Endless batches: page views [B, P], histories [B, H], clicked [B, P]. A click is of the kind of the history."""
    rng = np.random.default_rng(1)
    of_kind = [np.flatnonzero(kinds[1:] == kind) + 1 for kind in range(KINDS)]
    while True:
        chosen = rng.integers(0, KINDS, number)
        history = np.stack([rng.choice(of_kind[kind], HISTORY) for kind in chosen])
        page_view = rng.integers(1, ITEMS + 1, [number, PAGE_VIEW])
        slot = rng.integers(0, PAGE_VIEW, number)
        page_view[np.arange(number), slot] = [rng.choice(of_kind[kind]) for kind in chosen]
        yield page_view.astype(np.int32), history.astype(np.int32), np.arange(PAGE_VIEW) == slot[:, None]


def learning(case: Learning) -> dict[str, float]:
    """{loss, its mean over the last steps; rows/s; input rows/s of the pipeline alone; busy, %; peak GiB}."""
    import tensorflow as tf

    from courier_tf.pretrain.data import deduplicated, deduplicated_files
    from courier_tf.pretrain.encoder import Encoder
    from courier_tf.pretrain.model import CourierModel
    from courier_tf.pretrain.objectives.courier import Courier
    from courier_tf.training import compile_with_adam, precision_policy

    pixels, kinds = shop(case.side)
    files = tf.constant([tf.io.encode_png(photo).numpy() for photo in pixels])

    def to_batch(page_view: Any, history: Any, clicked: Any) -> dict[str, Any]:
        if case.photos == "device":  # The pixels are gathered in the step.
            batch = deduplicated(page_view, history, clicked, tf.zeros([ITEMS + 1, 1, 1, 3], tf.uint8))
        else:
            shown = tf.gather(files, page_view), tf.gather(files, history)
            batch = deduplicated_files(page_view, history, clicked, *shown, case.side)
        return {**batch, "user": tf.range(case.rows, dtype=tf.int64), "day": tf.zeros([case.rows], tf.int64)}

    class OnDevice(CourierModel):
        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            return super().train_step({**batch, "photos": tf.gather(self.pixels, batch["photo_items"])})

    specs = tuple(
        tf.TensorSpec([case.rows, width], kind)
        for width, kind in ((PAGE_VIEW, tf.int32), (HISTORY, tf.int32), (PAGE_VIEW, tf.bool))
    )
    read = tf.data.Dataset.from_generator(lambda: rows(kinds, case.rows), output_signature=specs)
    data = tf.data.Dataset.range(case.streams).interleave(
        lambda stream: read.shard(case.streams, stream).map(to_batch, num_parallel_calls=tf.data.AUTOTUNE),
        cycle_length=case.streams,
        num_parallel_calls=case.streams,
        deterministic=True,
    )
    data = data.prefetch(2)
    stream = iter(data)
    alone = case.rows / repeated(lambda: next(stream), 2.0)
    tf.keras.utils.set_random_seed(0)
    with precision_policy("float32" if case.precision == "tf32" else case.precision):
        kind = OnDevice if case.photos == "device" else CourierModel
        model = kind(Encoder(case.backbone, 64, drop_path=0.0), Courier(temperature=0.2))
        model.pixels = tf.constant(pixels) if case.photos == "device" else None
        compile_with_adam(model, 3e-4)
    losses: list[float] = []
    each = tf.keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses.append(logs["loss"] * 1.0))
    model.fit(data, steps_per_epoch=2, verbose=0)  # Traces.
    watch = Watch()
    watch.start()
    import time

    started = time.perf_counter()
    model.fit(data, steps_per_epoch=case.steps, verbose=0, callbacks=[each])
    seconds = time.perf_counter() - started
    busy = watch.mean()
    # Keras gives the running mean of an epoch.
    sums = np.array(losses) * np.arange(1, len(losses) + 1)
    last = min(LAST, case.steps - 1)
    gpus = tf.config.list_physical_devices("GPU")
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30 if gpus else -1.0
    return {
        "loss": float((sums[-1] - sums[-1 - last]) / last),
        "rows": case.rows * case.steps / seconds,
        "input": alone,
        "busy": busy,
        "gib": peak,
    }


def network(case: Network) -> dict[str, float]:
    """{images: per second}."""
    photos = np.random.default_rng(0).normal(size=[case.batch, case.side, case.side, 3]).astype(np.float32)
    if not case.ours:
        return {"images": case.batch / repeated(_torch_step(case, photos), 4.0)}
    import tensorflow as tf

    from courier_tf.backbone.swin import SIZES, SwinBackbone
    from courier_tf.training import precision_policy

    with precision_policy("float32" if case.precision == "tf32" else case.precision):
        model = SwinBackbone(**SIZES[case.backbone])
    images, optimizer = tf.constant(photos), tf.keras.optimizers.legacy.Adam(1e-4)

    def forward() -> Any:
        return tf.reduce_sum(model(images, training=False))

    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.cast(tf.reduce_mean(model(images, training=True), [1, 2]), tf.float32)))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    chosen = tf.function(forward if case.mode == "forward" else step, autograph=False, jit_compile=case.xla)
    return {"images": case.batch / repeated(lambda: chosen().numpy(), 4.0)}


def _torch_step(case: Network, photos: np.ndarray) -> Any:
    import torch

    from tests.benchmarks.pretrain.torch_swin import torch_swin

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.precision == "tf32"
    model = torch_swin(case.backbone).to(device)
    images = torch.from_numpy(photos.transpose(0, 3, 1, 2).copy()).to(device)
    half = {"mixed_float16": torch.float16, "mixed_bfloat16": torch.bfloat16}.get(case.precision)
    cast = torch.autocast(device, half or torch.bfloat16, enabled=half is not None)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> float:
        if case.mode == "forward":
            with torch.inference_mode(), cast:
                return float(model(images).sum())
        optimizer.zero_grad()
        with cast:
            pooled = model(images)
        loss = pooled.float().square().mean()
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


CASES = {"learning": (Learning, learning), "network": (Network, network)}


def main(kind: str, text: str) -> None:
    case_type, measure = CASES[kind]
    case = case_type(**json.loads(text))
    if case.precision == "tf32":  # Before TensorFlow looks, and before the program forbids it.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "1"
    from courier_tf.process import prepare

    prepare()
    answer(**measure(case))


if __name__ == "__main__":
    main(*sys.argv[1:])
