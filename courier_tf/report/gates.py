"""The section on categories: in which of them the rankers use visual features."""

from collections.abc import Iterator

import numpy as np

from courier_tf.escaping import printable
from courier_tf.report.blocks import Block, Paragraph, Table
from courier_tf.report.figures import NONE, figure
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.schema import CATEGORY

MOST = 40  # Categories that are shown at once.
UNKNOWN = "(unknown)"


def blocks(work: Workdir) -> Iterator[Block]:
    """How far the gate of each category is open, and how many items it has."""
    gates = work.metrics["category_gates"]
    if not gates:
        raise Missing("The rankers have no category gates (--rank-category-gate).")
    values, numbers = np.unique(work.items.columns[CATEGORY], return_counts=True)
    items = {value.decode(): int(number) for value, number in zip(values, numbers, strict=True)}
    categories = sorted({name for of_mode in gates.values() for name in of_mode}, key=lambda name: -items.get(name, 0))
    rows = [
        (
            printable(category),
            NONE if category == UNKNOWN else figure(items.get(category, 0)),
            *(figure(of_mode.get(category), 2) for of_mode in gates.values()),
        )
        for category in categories
    ]
    columns = ("category", "items", *gates)
    yield Paragraph(
        "1 is open: the ranker uses the visual features of items of this category. 0 is shut, where they told nothing "
        "on the valid span. Values between are means over several starts."
    )
    yield Table("Category gates, the largest categories first", columns, rows[:MOST])
    if rows[MOST:]:
        yield Table(f"The other {figure(len(rows) - MOST)} categories", columns, rows[MOST:], folded=True)
