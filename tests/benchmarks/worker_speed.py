"""Rows a second of pre-training, in one process and in two workers of one core each.

python -m tests.benchmarks.worker_speed WORKDIR OUT

WORKDIR is that of a run whose ingest is done, with the settings to use. Each side trains in a copy. What counts is the
time from one checkpoint to the next, without the first: the median of all. Writes OUT/worker_speed.md.
"""

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro

from courier_tf.workdir.atomic import write_file

CORES = (0, 1)
PORTS = (34_211, 34_212)
STEPS = 5  # From one checkpoint to the next.


def main(
    workdir: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    rounds: int = 2,
    steps: int = 30,
    batch_rows: int = 64,
    backbone: str = "nano@64",
) -> None:
    """Measures and writes the table.

    Args:
        workdir: of the run that is copied.
        out: folder of the table.
        rounds: runs of each side, in turn.
        steps: of each run.
        batch_rows: pre-training rows of a step.
        backbone: that learns through all layers.
    """
    options = ["pretrain", "--trainable", "all", "--backbone", backbone, "--objective", "courier"]
    options += ["--pretrain-batch-rows", str(batch_rows), "--supervised-steps", "1"]
    options += ["--pretrain-steps", str(steps), "--checkpoint-every", str(STEPS)]
    seconds: dict[str, list[float]] = {"one process, two cores": [], "two workers, a core each": []}
    for _ in range(rounds):
        for name, of_side in seconds.items():
            of_side += _seconds(workdir, options, name.startswith("two"))
            print(name, f"{STEPS * batch_rows / statistics.median(of_side):.1f} rows/s", flush=True)
    one, two = (STEPS * batch_rows / statistics.median(of_side) for of_side in seconds.values())
    lines = [
        f"| {backbone}, {batch_rows} rows a step | rows/s | ratio |",
        "|---|---|---|",
        f"| one process, two cores | {one:.1f} | |",
        f"| two workers, a core each | {two:.1f} | {two / one:.2f} |",
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "worker_speed.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def _seconds(source: Path, options: list[str], together: bool) -> list[float]:
    """The seconds from each checkpoint to the next, of a command in a copy of the workdir."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "W"
        workdir.mkdir()
        shutil.copy(source / "settings.json", workdir)
        os.symlink((source / "ingest").resolve(), workdir / "ingest")
        command = [sys.executable, "-m", "courier_tf", *options, "--workdir", str(workdir)]
        places = [[]] if not together else [[core] for core in CORES]
        running = []
        for index, cores in enumerate(places):
            words = ["taskset", "--cpu-list", ",".join(map(str, cores or CORES)), *command]
            if together:
                addresses = ",".join(f"localhost:{port}" for port in PORTS)
                words += ["--workers", addresses, "--index", str(index)]
            log = (Path(folder) / f"{index}.log").open("w")
            running.append(subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT))
        codes = [process.wait() for process in running]
        if any(codes):
            raise SystemExit((Path(folder) / "0.log").read_text()[-2000:])
        return _between_checkpoints(workdir / "pretrain" / "logs")


def _between_checkpoints(logs: Path) -> list[float]:
    from tensorflow.compat.v1.train import summary_iterator

    (file,) = logs.rglob("events.out.*")
    times = [
        event.wall_time
        for event in summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "epoch_loss"
    ]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


if __name__ == "__main__":
    tyro.cli(main)
