"""The section on cost: time and memory of the stages."""

from collections.abc import Iterator

from courier_tf.report.blocks import Block, Paragraph, Table
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.workdir.costs import read_costs


def blocks(work: Workdir) -> Iterator[Block]:
    """What making each stage took, when it was made last."""
    costs = read_costs(work.path)
    if not costs:
        raise Missing("No stage of this workdir was made by a version that keeps its cost.")
    rows = [(cost.name, f"{cost.seconds:,.1f}", f"{cost.peak_bytes / 2**30:.2f}", cost.finished) for cost in costs]
    total = (
        "all",
        f"{sum(cost.seconds for cost in costs):,.1f}",
        f"{max(c.peak_bytes for c in costs) / 2**30:.2f}",
        "",
    )
    yield Table("Stages as they were made last", ("stage", "seconds", "memory, GiB", "finished (UTC)"), [*rows, total])
    yield Paragraph(
        "Memory is the most that the command and its workers had at a time. A stage that went on after an interruption "
        "counts from its last begin, and one that was copied from another run has no line."
    )
