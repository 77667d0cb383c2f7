"""The plot of the gains in docs/paper.md."""

from docs.tables import DOCS, NEW, ROWS, gain_of

PLOT = DOCS / "images/gains.svg"


def plot() -> str:
    """The gains on the test span with their intervals, as SVG that reads in light and in dark."""
    left, scale, height = 300, 42, 26
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height * len(ROWS) + 60}" role="img">',
        "<title>Gains of AUC with 95 % intervals, hm_fashion, test span, items new to the user</title>",
        "<style>text{font:13px sans-serif;fill:#555}line{stroke:#888}.gain{stroke:#2a78c2;stroke-width:3}"
        "circle{fill:#2a78c2}@media(prefers-color-scheme:dark){text{fill:#bbb}}</style>",
    ]
    bottom = height * len(ROWS) + 14
    for points in range(-2, 10, 2):
        x = left + scale * (points + 2)
        lines.append(f'<line x1="{x}" x2="{x}" y1="6" y2="{bottom}" stroke-width="{2 if points == 0 else 0.4}"/>')
        lines.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{f"{points:+d}" if points else 0}</text>')
    for number, row in enumerate(ROWS):
        gain, low, high = (left + scale * (value + 2) for value in gain_of(row, "test", NEW))
        y = 20 + height * number
        lines.append(f'<text x="8" y="{y + 4}">{row.knows}; {row.feature}</text>')
        lines.append(f'<line class="gain" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>')
        lines.append(f'<circle cx="{gain:.1f}" cy="{y}" r="5"/>')
    lines.append(f'<text x="{left}" y="{bottom + 38}">gain of AUC in points, items new to the user</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    PLOT.write_text(plot())
