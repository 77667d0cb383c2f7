"""`make gpu-check`: whether training on this machine's GPU is right, and how fast. Under 8 minutes.

python -m tests.benchmarks.gpu OUT

Runs the tiny chain, then trainings in float32, TF32, bfloat16 and float16, with photos decoded on the host and pixels
kept on the device, by one and two input streams, and Swin-T with and without XLA, against torchvision's where the extra
`benchmark` is installed. Writes OUT/gpu.md. Ends with code 1 where the loss of a precision leaves that of float32 by
2 %. Without a GPU everything runs in small on the CPU, and the page says so.
"""

import courier_tf  # noqa: F401  (chooses the Keras before TensorFlow is imported)

# isort: split
import dataclasses
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
import tyro

from courier_tf.workdir.atomic import write_file
from tests.benchmarks.child import run
from tests.benchmarks.gpu.cases import Learning, Network

PRECISIONS = ("float32", "tf32", "mixed_bfloat16", "mixed_float16")
TOLERANCE = 0.02
SECONDS = 8 * 60
ON_GPU = (Learning("tiny", 128, 64, 60), Network("tiny", 224, 64))
ON_CPU = (Learning("nano", 32, 16, 12), Network("nano", 32, 4))


def measured(case: Any) -> dict[str, float]:
    """The figures of a case, from a process of its own."""
    return run("gpu.cases", type(case).__name__.lower(), json.dumps(dataclasses.asdict(case)))


def figure(value: float, form: str) -> str:
    """A figure that a device may not tell, which is then negative."""
    return format(value, form) if value >= 0 else ""


def chain(out: Path) -> Iterator[str]:
    """The tiny chain, by the commands of a user."""
    started = time.monotonic()
    shop, work = out / "shop", out / "work"
    for words in (
        ["shop", str(shop), "--items", "300", "--users", "150"],
        ["run", "--raw", str(shop), "--preset", "tiny", "--workdir", str(work), "--force", "pretrain", "rank"],
    ):
        if words[0] == "run" or not shop.exists():
            subprocess.run([sys.executable, "-m", "courier_tf", *words], check=True, stdout=subprocess.DEVNULL)
    yield f"The tiny chain took {time.monotonic() - started:.0f} s.\n"


def learnings(base: Learning, faults: list[str]) -> Iterator[str]:
    """Trainings: every precision, then other inputs."""
    yield "| precision | photos | streams | loss | rows/s | input alone, rows/s | GPU busy, % | peak, GiB |"
    yield "|---|---|---|---|---|---|---|---|"
    cases = [dataclasses.replace(base, precision=precision) for precision in PRECISIONS]
    cases += [
        dataclasses.replace(base, photos=photos, streams=n) for photos, n in (("host", 2), ("device", 1), ("device", 2))
    ]
    expected: float | None = None
    for case in cases:
        told = measured(case)
        expected = told["loss"] if expected is None else expected
        if not abs(told["loss"] / expected - 1) <= TOLERANCE:
            faults.append(
                f"{case.precision}, photos on the {case.photos}: loss {told['loss']:.4f}, float32 {expected:.4f}"
            )
        yield (
            f"| {case.precision} | {case.photos} | {case.streams} | {told['loss']:.4f} | {told['rows']:.0f} "
            f"| {told['input']:.0f} | {figure(told['busy'], '.0f')} | {figure(told['gib'], '.2f')} |"
        )


def networks(base: Network) -> Iterator[str]:
    """Swin alone, ours with and without XLA, and torchvision's."""
    with_torch = importlib.util.find_spec("torchvision") is not None
    yield f"\n| {base.backbone}, {base.side} px | precision | ours, images/s | by XLA | torchvision | ratio |"
    yield "|---|---|---|---|---|---|"
    for mode in ("forward", "train"):
        for precision in ("float32", "mixed_bfloat16"):
            case = dataclasses.replace(base, mode=mode, precision=precision)
            plain, xla = measured(case)["images"], measured(dataclasses.replace(case, xla=True))["images"]
            theirs = measured(dataclasses.replace(case, ours=False))["images"] if with_torch else -1.0
            ratio = figure(max(plain, xla) / theirs, ".2f")
            yield f"| {mode} | {precision} | {plain:.0f} | {xla:.0f} | {figure(theirs, '.0f')} | {ratio} |"
    if not with_torch:
        yield "\ntorchvision is not installed: `pip install -e .[benchmark]` brings it."


def main(out: tyro.conf.Positional[Path]) -> None:
    """Runs all parts.

    Args:
        out: folder of the page and of the chain.
    """
    out.mkdir(parents=True, exist_ok=True)
    started, faults = time.monotonic(), []
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    lines = [
        f"GPU: {', '.join(names)}.\n" if gpus else "This machine has no GPU: all ran in small on its processors.\n"
    ]
    learning, network = ON_GPU if gpus else ON_CPU
    for part in (chain(out), learnings(learning, faults), networks(network)):
        for line in part:
            print(line, flush=True)
            lines.append(line)
            write_file(out / "gpu.md", "\n".join(lines) + "\n")
    took = time.monotonic() - started
    print(f"\n{took:.0f} s{'' if took < SECONDS else ', more than 8 minutes'}")
    if faults:
        sys.exit("the loss leaves that of float32 by more than 2 %:\n" + "\n".join(faults))


if __name__ == "__main__":
    tyro.cli(main)
