"""Speed and memory of pre-training, against PyTorch, plain Keras, and the authors' code.

python -m tests.benchmarks.pretrain INGEST OUT

INGEST is the ingest directory of a workdir (of hm_fashion, for the published table). Writes OUT/pretrain.md after each
part. Needs the extra `benchmark`.
"""

from collections.abc import Iterator
from pathlib import Path

import tyro

from courier_tf.workdir import artefacts
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.stages import INGEST
from tests.benchmarks.child import in_turn, run

SWIN_BATCH = {("64", "forward"): 64, ("64", "train"): 32, ("224", "forward"): 8, ("224", "train"): 4}
MEMORY = ((0, 0, 0), (128, 0, 0), (256, 0, 0), (256, 0, 1), (256, 128, 0), (512, 128, 0), (3072, 128, 0))


def swin() -> Iterator[str]:
    yield "| Swin-T | ours, images/s | torchvision | ratio |\n|---|---|---|---|"
    for (size, mode), batch in SWIN_BATCH.items():
        for precision in ("float32", "bfloat16"):
            ours, theirs = in_turn("pretrain.swin_speed", ("ours", "torchvision"), "tiny", size, precision, mode, batch)
            yield f"| {size} px, {precision}, {mode} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |"


def nano() -> Iterator[str]:
    yield "\n| nano, 64 px | ours, images/s | plain Keras | ratio |\n|---|---|---|---|"
    for mode in ("forward", "train"):
        ours, plain = in_turn("pretrain.swin_speed", ("ours", "plain"), "nano", 64, "float32", mode, 128)
        yield f"| {mode} | {ours:.0f} | {plain:.0f} | {ours / plain:.2f} |"


def rows(ingest: Path) -> Iterator[str]:
    yield "\n| training step | ours, rows/s | the authors' way | ratio |\n|---|---|---|---|"
    for number in (64, 256):
        ours, theirs = in_turn("pretrain.rows_speed", ("ours", "authors"), ingest, number)
        yield f"| {number} rows | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |"


def memory() -> Iterator[str]:
    yield "\n| rows | photos | chunk | recomputed | peak memory, GiB | photos/s |\n|---|---|---|---|---|---|"
    for number, chunk, recompute in MEMORY:
        figures = run("pretrain.memory", number, chunk, recompute)
        rate = f"{figures['rate']:.0f}" if figures["rate"] else ""
        cells = (number, int(figures["photos"]), chunk or "all", "yes" if recompute else "no")
        yield f"| {' | '.join(map(str, cells))} | {figures['peak'] / 1024:.2f} | {rate} |"


def pipeline(ingest: Path) -> Iterator[str]:
    figures = run("pretrain.input_speed", "store", ingest, 256)
    yield f"\nInput pipeline alone, 256 rows a batch, photos from the store: {figures['rate']:.0f} rows/s."
    if artefacts.read(ingest, INGEST).facts.inline_photos:
        figures = run("pretrain.input_speed", "inline", ingest, 256)
        yield f"Photos inside the rows: {figures['rate']:.0f} rows/s."


def main(ingest: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]) -> None:
    """Runs all parts.

    Args:
        ingest: ingest directory of a workdir.
        out: folder of the table.
    """
    out.mkdir(parents=True, exist_ok=True)
    worst = run("pretrain.swin_parity")["worst"]
    lines = [f"With torchvision's weights, ours differs from torchvision's features by {worst:.1e} at most.\n"]
    for part in (nano(), rows(ingest), memory(), pipeline(ingest), iter([""]), swin()):
        for line in part:
            print(line, flush=True)
            lines.append(line)
            write_file(out / "pretrain.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
