"""Speed of training a ranker, against the same model in plain PyTorch.

python -m tests.benchmarks.ranking RUN OUT

RUN is a workdir with ingest and cluster (of hm_fashion, for the published table). Writes OUT/ranking.md. Needs the
extra `benchmark`.
"""

from pathlib import Path

import tyro

from courier_tf.workdir.atomic import write_file
from tests.benchmarks.child import in_turn, run

PARTS = {
    "step": "training step, batches in memory",
    "input": "input alone (ours: TFRecords; PyTorch: arrays in memory, ids looked up beforehand)",
    "whole": "training from the input",
}


def main(workdir: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path], rows: int = 1024) -> None:
    """Runs all parts.

    Args:
        workdir: of a run with the stages ingest and cluster.
        out: folder of the table.
        rows: impressions of a batch.
    """
    out.mkdir(parents=True, exist_ok=True)
    parity = run("ranking.parity", workdir)
    lines = [
        f"With the same weights, probabilities differ by {parity['worst']:.1e} at most, of {parity['spread']:.2f}.\n",
        f"| {rows} rows a batch | ours, rows/s | PyTorch | ratio |\n|---|---|---|---|",
    ]
    for part, about in PARTS.items():
        ours, theirs = in_turn("ranking.speed", ("ours", "torch"), part, workdir, rows)
        lines.append(f"| {about} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |")
        write_file(out / "ranking.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    tyro.cli(main)
