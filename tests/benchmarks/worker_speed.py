"""Rows a second of pre-training and of a ranker, in one process and in two workers of one core each.

python -m tests.benchmarks.worker_speed WORKDIR OUT

WORKDIR is that of a run whose ingest is done, with the settings to use. Each command runs twice in a copy, with few and
with more steps: the difference leaves out how long it takes to start. Writes OUT/worker_speed.md.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

from courier_tf.workdir.atomic import write_file

CORES = (0, 1)
PORTS = (34_211, 34_212)


def main(
    workdir: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    few: int = 10,
    more: int = 50,
    batch_rows: int = 128,
    backbone: str = "nano@64",
) -> None:
    """Measures and writes the table.

    Args:
        workdir: of the run that is copied.
        out: folder of the table.
        few, more: steps of the two runs of a command.
        batch_rows: pre-training rows of a step.
        backbone: that learns through all layers.
    """
    options = ["pretrain", "--trainable", "all", "--backbone", backbone, "--objective", "courier"]
    options += ["--pretrain-batch-rows", str(batch_rows), "--supervised-steps", "1"]
    rates: dict[str, list[float]] = {"one process, two cores": [], "two workers, a core each": []}
    for _ in range(3):
        for name, of_side in rates.items():
            seconds = [_seconds(workdir, options, steps, name.startswith("two")) for steps in (few, more)]
            of_side.append((more - few) * batch_rows / (seconds[1] - seconds[0]))
            print(name, f"{of_side[-1]:.1f} rows/s", flush=True)
    one, two = (sorted(of_side)[1] for of_side in rates.values())
    lines = [
        f"| {backbone}, {batch_rows} rows a step | rows/s | ratio |",
        "|---|---|---|",
        f"| one process, two cores | {one:.1f} | |",
        f"| two workers, a core each | {two:.1f} | {two / one:.2f} |",
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "worker_speed.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def _seconds(source: Path, options: list[str], steps: int, together: bool) -> float:
    """How long a command takes in a copy of the workdir."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "W"
        workdir.mkdir()
        shutil.copy(source / "settings.json", workdir)
        os.symlink((source / "ingest").resolve(), workdir / "ingest")
        command = [sys.executable, "-m", "courier_tf", *options, "--workdir", str(workdir)]
        command += ["--pretrain-steps", str(steps)]
        places = [[]] if not together else [[core] for core in CORES]
        started, running = time.perf_counter(), []
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
        return time.perf_counter() - started


if __name__ == "__main__":
    tyro.cli(main)
