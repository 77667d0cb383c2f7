"""Charts as SVG inside the page, drawn by Matplotlib. They take their colours from the page, in light and in dark.

SVG of a chart has some 10 kB and no script. A library that draws in the browser would bring a megabyte of script into
each report. Beside each chart its figures stand as a table.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from courier_tf.escaping import printable
from courier_tf.report.blocks import Chart, Table
from courier_tf.report.figures import figure as shown

WIDTH, HEIGHT = 4.4, 3.2  # Inches at 72 units: as wide as the screen of a phone, so that words stay readable there.
#: Colour that is drawn -> what it becomes, a colour of the page.
COLOURS = {
    "#0a0b01": "var(--ink)",
    "#0a0b02": "var(--grid)",
    "#0a0c01": "var(--series-1)",
    "#0a0c02": "var(--series-2)",
    "#0a0c03": "var(--series-3)",
    "#0a0c04": "var(--series-4)",
    "#0a0c05": "var(--series-5)",
    "#0a0c06": "var(--series-6)",
}
INK, GRID, *SERIES = COLOURS
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))  # Not told by colour alone.
MARKS = ("o", "s", "^", "D", "v", "P")
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "courier",
    "text.parse_math": False,  # A category may hold dollar signs.
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.facecolor": "none",
    "legend.edgecolor": "none",
    "legend.framealpha": 0,
    "xtick.color": INK,
    "ytick.color": INK,
}
Line = Sequence[tuple[float, float]]


def lines(
    title: str, alt: str, series: Mapping[str, Line], x: str, y: str, *, diagonal: bool = False, limit: int = 6
) -> Chart:
    """Lines with a mark at each point.

    Args:
        title, alt: as of `Chart`.
        series: name -> points (x, y). Points that are not finite are left out.
        x, y: what the axes show.
        diagonal: draw the line y = x, too.
        limit: lines that are drawn; all are in the table.
    """
    finite = {name: [point for point in line if all(map(math.isfinite, point))] for name, line in series.items()}
    with matplotlib.rc_context(STYLE):
        drawing, axes = _axes(x, y)
        if diagonal:
            most = max((max(point) for line in finite.values() for point in line), default=1.0)
            axes.plot([0, most], [0, most], color=INK, linewidth=0.8, linestyle=":")
        for number, (name, line) in enumerate(list(finite.items())[:limit]):
            axes.plot(
                [point[0] for point in line],
                [point[1] for point in line],
                color=SERIES[number % len(SERIES)],
                linestyle=DASHES[number % len(DASHES)],
                marker=MARKS[number % len(MARKS)] if len(line) <= 25 else None,
                markersize=3.5,
                label=printable(name, 40),
            )
        places = sorted({point[0] for line in finite.values() for point in line})
        if all(float(place).is_integer() for place in places):  # There is no half an epoch.
            axes.xaxis.set_major_locator(MaxNLocator(integer=True) if len(places) > 8 else FixedLocator(places))
        if len(finite) > 1:
            drawing.legend(loc="outside lower center", ncols=2, fontsize=10)
        svg = _svg(drawing, title)
    rows = [(printable(name), shown(float(a), 3), shown(float(b), 5)) for name, line in finite.items() for a, b in line]
    return Chart(title, alt, svg, Table(f"Figures: {title}", ("line", x, y), rows, folded=True))


def intervals(title: str, alt: str, rows: Sequence[tuple[str, float, float | None, float | None]], x: str) -> Chart:
    """Points with intervals, one below the other, and a line at 0.

    Args:
        title, alt: as of `Chart`.
        rows: (name, value, low, high); low and high are None where there is no interval.
        x: what the axis shows.
    """
    with matplotlib.rc_context(STYLE):
        drawing, axes = _axes(x, "", height=0.8 + 0.45 * max(len(rows), 1))
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, (_, value, low, high) in enumerate(rows):
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=SERIES[0], linewidth=2.5)
            axes.plot([value], [place], color=SERIES[1], marker="o", markersize=6)
        axes.set_yticks(range(len(rows)), [printable(name, 32).replace(", ", "\n") for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        svg = _svg(drawing, title)
    cells = [(printable(name), *(shown(part, 2) for part in figures)) for name, *figures in rows]
    return Chart(title, alt, svg, Table(f"Figures: {title}", ("", x, "low", "high"), cells, folded=True))


def _axes(x: str, y: str, height: float = HEIGHT) -> tuple[Figure, Any]:
    drawing = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasSVG(drawing)
    axes = drawing.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return drawing, axes


def _svg(drawing: Figure, title: str) -> Markup:
    """A drawing as an element of the page, without a size of its own. Its ids are its own on the page."""
    stream = io.StringIO()
    drawing.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    prefix = re.sub("[^a-z0-9]+", "-", title.lower())
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{prefix}-", svg)
    for drawn, colour in COLOURS.items():
        svg = svg.replace(drawn, colour)
    return Markup(svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1))  # noqa: S704 (Matplotlib's own)
