"""Speed of training a ranker, against the same model in plain PyTorch.

python -m tests.benchmarks.ranking RUN OUT

RUN is a workdir with ingest, embed and cluster (of hm_fashion, for the published table). Writes OUT/ranking.md. It
needs the extra `benchmark`.
"""

from pathlib import Path

import tyro

from courier_tf.workdir.atomic import write_file
from tests.benchmarks.child import in_turn, run
from tests.benchmarks.ranking.ours import FEATURES

PARTS = {
    "step": "training step, batches in memory",
    "input": "input alone (ours: TFRecords; PyTorch: arrays in memory, ids looked up beforehand)",
    "whole": "training from the input",
}


def main(workdir: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path], rows: int = 1024) -> None:
    """Runs all parts.

    Args:
        workdir: of a run with the stages ingest, embed and cluster.
        out: folder of the table.
        rows: impressions of a batch.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for mode, called in FEATURES.items():
        parity = run("ranking.parity", workdir, mode)
        differ = f"probabilities differ by {parity['worst']:.1e} at most, of {parity['spread']:.2f}"
        lines += [f"With the same weights, {differ}.\n"]
        lines += [f"| {called}, {rows} rows a batch | ours, rows/s | PyTorch | ratio |\n|---|---|---|---|"]
        for part, about in PARTS.items():
            ours, theirs = in_turn("ranking.speed", ("ours", "torch"), part, workdir, rows, mode)
            lines.append(f"| {about} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |")
            write_file(out / "ranking.md", "\n".join(lines) + "\n")
        lines.append("")
    print("\n".join(lines))


if __name__ == "__main__":
    tyro.cli(main)
