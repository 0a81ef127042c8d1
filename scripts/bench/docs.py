"""docs/performance.md: the tables between its markers, and the plot beside it. Needs matplotlib for the plot."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from typing import Any

from scripts.bench import report
from scripts.bench.cases import Curve, Figure
from scripts.bench.report import Results

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
PLOT = "performance.svg"
# One plot for each `Curve.plot`: its heading, and which axes are logarithmic.
PLOTS = {
    "memory": ("Memory", "linear", "linear"),
    "start": ("Start", "linear", "linear"),
    "following": ("Everyone follows someone at 4 Hz", "linear", "linear"),
    "subscribers": ("One status, many subscribers", "log", "linear"),
    "frames": ("A frame from A to B", "log", "log"),
}


def write(results: Results, file: Path) -> None:
    """Replace what stands between the markers of ``file``, and draw the plot. Raises ValueError without markers."""
    text = file.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file} lacks {BEGIN} … {END}")
    file.write_text(f"{before}{BEGIN}\n{tables(results)}{END}{after}")
    if results.curves:
        draw([curve for _, curve in results.curves], file.parent / PLOT)


def tables(results: Results) -> str:
    """What is between the markers: how it was measured, and a table for each case."""
    runs = max((len(of) for of in results.runs.values()), default=0)
    how = f"median of {runs} runs" if runs > 1 else "median of the rounds of one run"
    parts = [f"\nPython {results.python}, {results.cpus} cores; each value is the {how}.\n"]
    for name, title in results.titles.items():
        parts.append(f"\n### {title}\n\n| `{name}` | value | aim | | rounds |\n| --- | ---: | ---: | --- | --- |\n")
        parts += [_row(figure) for figure in results.of(name)]
    return "".join(parts) + "\n"


def _row(figure: Figure) -> str:
    mark = {None: "", True: "met", False: "**not met**"}[figure.met]
    noise = f"noise: differ by {figure.spread_percent:.0f} %" if figure.is_noisy else ""
    what = f"{figure.what} ({figure.note})" if figure.note else figure.what
    return f"| {what} | {report.text(figure.value)} {figure.unit} | {figure.aim or ''} | {mark} | {noise} |\n"


def draw(curves: list[Curve], file: Path) -> None:
    """All curves, one plot for each kind. Raises ImportError without matplotlib."""
    # By name: nothing else needs it, and mypy shall not either.
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9}
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    plots = [name for name in PLOTS if any(curve.plot == name for curve in curves)]
    columns = 2
    figure, grid = pyplot.subplots(-(-len(plots) // columns), columns, figsize=(8.5, 2.7 * -(-len(plots) // columns)))
    for axes, name in itertools.zip_longest(grid.flat, plots):
        if name is None:
            axes.axis("off")
            continue
        heading, x_scale, y_scale = PLOTS[name]
        of = [curve for curve in curves if curve.plot == name]
        for curve in of:
            xs, ys = zip(*curve.points, strict=True)
            axes.plot(xs, ys, marker="o", markersize=3, linewidth=1.2, label=curve.what)
        axes.set_xscale(x_scale)
        axes.set_yscale(y_scale)
        if y_scale == "linear":
            axes.set_ylim(bottom=0)
        axes.set_title(heading, loc="left", fontsize=10)
        axes.set_xlabel(of[0].x)
        axes.set_ylabel(of[0].y)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if len(of) > 1:
            axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)
