"""The section on the verdict: do visual features help, and can it be believed?"""

from collections.abc import Iterator

from courier_tf.ranking.soundness import popularity_warning
from courier_tf.report.blocks import Block, Paragraph, Table
from courier_tf.report.workdir import Workdir


def blocks(work: Workdir) -> Iterator[Block]:
    """The sentence of the verdict, the gains behind it, and warnings."""
    metrics = work.metrics
    judged, data = metrics["verdict"], metrics["data"]
    yield Paragraph(judged["sentence"], strong=True)
    rows = [row.strip().removeprefix("gain over ") for row in judged["rows"]]
    cells = [tuple(part.strip() for part in row.partition("  ")[::2]) for row in rows]
    yield Table("Gain in AUC, in points (AUC times 100), with the 95 % interval", ("over", "gain"), cells)
    split = work.splits[-1]
    chosen = "no ranker was chosen on it" if split == "test" else "the rankers were chosen on it, too"
    yield Paragraph(
        f"Measured on the {split} span: {chosen}. Valid begins on {data['valid_from']}, test on {data['test_from']} "
        "(UTC). The control is the same ranker with the photos of other items: a gain that it has, too, does not come "
        "from photos."
    )
    for span, guard in metrics["popularity"].items():
        if warning := popularity_warning(guard["auc"], span, data["negatives"], data.get("pool_days")):
            yield Paragraph(f"Warning: {warning}")
