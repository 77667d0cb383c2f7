"""Speed and quality of clusters and search, against faiss.

python -m tests.benchmarks.clusters EMBED OUT

EMBED is the embed directory of a workdir (of hm_fashion, for the published table). Writes OUT/clusters.md after each
part. Needs the extra `benchmark`, 6 GB of memory and 7 GB in OUT.
"""

from collections.abc import Iterator
from pathlib import Path

import tyro

from courier_tf.workdir.atomic import write_file
from tests.benchmarks.child import run


def population(out: Path, name: str, rows: int, width: int, *more: object) -> Path:
    file = out / f"{name}.npy"
    if not file.exists():
        aside = out / f"{name}.partial.npy"
        run("clusters.populations", aside, rows, width, *more)
        aside.rename(file)
    return file


def learning(file: Path, clusters: int, sample: int) -> Iterator[str]:
    yield (
        f"\n{file.stem}, {clusters:,} clusters; faiss and kmeans learn from the first {sample:,} rows, 25 steps; "
        "online goes over all rows once. Distortion: of rows spread over all of the data.\n\n"
        "| | seconds | of faiss | processor seconds | of faiss | peak memory, GiB | distortion | over faiss |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    theirs = None
    for side in ("faiss", "kmeans", "online"):
        centroids = file.with_name(f"{file.stem}-{clusters}-{side}.npy")
        figures = run("clusters.learning", side, file, clusters, sample, centroids)
        figures["distortion"] = run("clusters.distortion", file, centroids)["distortion"]
        theirs = theirs or figures
        ratio = {name: figures[name] / theirs[name] for name in figures}
        yield (
            f"| {side} | {figures['seconds']:.0f} | {ratio['seconds']:.2f} | {figures['processor']:.0f} | "
            f"{ratio['processor']:.2f} | {figures['peak'] / 1024:.2f} | {figures['distortion']:.5f} | "
            f"{100 * (ratio['distortion'] - 1):+.1f} % |"
        )


def search(file: Path, points: Path, number: int, name: str) -> Iterator[str]:
    yield (
        f"\n{name}: {points.stem}, {number} nearest.\n\n"
        "| | queries/s | of faiss | recall | built, s |\n|---|---|---|---|---|"
    )
    for way in ("exact", "approximate"):
        of_sides = {side: run("clusters.search", side, way, file, points, number) for side in ("faiss", "ours")}
        for side, figures in of_sides.items():
            ratio = figures["rate"] / of_sides["faiss"]["rate"]
            cells = (
                f"{side}, {way}",
                f"{figures['rate']:.0f}",
                f"{ratio:.2f}",
                f"{figures['recall']:.4f}",
                f"{figures['built']:.1f}",
            )
            yield f"| {' | '.join(cells)} |"


def parts(embed: Path, out: Path) -> Iterator[str]:
    real = population(out, "hm_fashion-jittered-1M", 1_000_000, 256, "--embed", embed)
    yield from learning(real, 4096, 256 * 1024)
    mixture = population(out, "mixture-1M", 1_000_000, 256)
    yield from learning(mixture, 20_000, 256_000)
    yield from search(mixture, mixture.with_name("mixture-1M-20000-faiss.npy"), 1, "Assignment to centroids")
    yield from search(real, real, 10, "Similar items")
    wide = population(out, "mixture-10M", 10_000_000, 64)
    yield from learning(wide, 4096, 256 * 4096)


def main(embed: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]) -> None:
    """Runs all parts.

    Args:
        embed: embed directory of a workdir.
        out: folder of the table and of the data.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for line in parts(embed, out):
        print(line, flush=True)
        lines.append(line)
        write_file(out / "clusters.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
