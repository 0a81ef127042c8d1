"""Figures of one or several runs: gathered, shown as a table, written as JSON and read back."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench import statistics
from scripts.bench.cases import Aim, Case, Curve, Figure


@dataclass
class Results:
    """Everything that was measured. ``runs``: (case, what) -> the figure of each run."""

    cpus: int
    python: str
    quick: bool
    titles: dict[str, str] = field(default_factory=dict)
    runs: dict[tuple[str, str], list[Figure]] = field(default_factory=dict)
    curves: list[tuple[str, Curve]] = field(default_factory=list)

    def add_figure(self, case: Case, figure: Figure) -> None:
        self.titles[case.name] = case.title
        self.runs.setdefault((case.name, figure.what), []).append(figure)

    def add_curve(self, case: str, curve: Curve) -> None:
        """The curves of the last run stay."""
        self.curves = [(name, old) for name, old in self.curves if old.what != curve.what]
        self.curves.append((case, curve))

    def of(self, case: str) -> list[Figure]:
        """The figures of a case; with several runs, the runs take the place of the rounds."""
        return [merged(of) for (name, _), of in self.runs.items() if name == case]


def merged(runs: list[Figure]) -> Figure:
    """One figure of several runs: its rounds are the runs' medians."""
    if len(runs) == 1:
        return runs[0]
    return dataclasses.replace(runs[-1], rounds=[run.value for run in runs])


def text(value: float) -> str:
    """Three significant digits are all that a measurement here has."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def verdict(figure: Figure) -> str:
    return {None: "", True: "met", False: "NOT MET"}[figure.met]


def line(figure: Figure) -> str:
    noise = f"noise: rounds differ by {figure.spread_percent:.0f} %" if figure.is_noisy else ""
    aim = str(figure.aim or "")
    remarks = "; ".join(part for part in (figure.note, noise) if part)
    return (
        f"  {figure.what:<52}{text(figure.value):>8} {figure.unit:<10}{aim:>8} {verdict(figure):<8}{remarks}".rstrip()
    )


def show(results: Results) -> None:
    for name, title in results.titles.items():
        print(f"\n{title} ({name})")
        for figure in results.of(name):
            print(line(figure))


def write(results: Results, file: Path) -> None:
    figures = [
        {
            "case": case,
            "what": what,
            "unit": of[-1].unit,
            "value": merged(of).value,
            "aim": of[-1].aim and dataclasses.asdict(of[-1].aim),
            "met": merged(of).met,
            "noisy": merged(of).is_noisy,
            "note": of[-1].note,
            "runs": [run.rounds for run in of],
        }
        for (case, what), of in results.runs.items()
    ]
    document = {
        "cpus": results.cpus,
        "python": results.python,
        "quick": results.quick,
        "titles": results.titles,
        "figures": figures,
        "curves": [{"case": case, **dataclasses.asdict(curve)} for case, curve in results.curves],
    }
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def read(file: Path) -> Results:
    """What `write` wrote. Raises OSError, ValueError."""
    document: dict[str, Any] = json.loads(file.read_text())
    results = Results(document["cpus"], document["python"], document["quick"], document["titles"])
    for each in document["figures"]:
        aim = Aim(**each["aim"]) if each["aim"] else None
        figures = [Figure(each["what"], each["unit"], rounds, aim, each["note"]) for rounds in each["runs"]]
        results.runs[each["case"], each["what"]] = figures
    for each in document["curves"]:
        name = each.pop("case")
        results.curves.append((name, Curve(**{**each, "points": [tuple(point) for point in each["points"]]})))
    return results


def noisiest_percent(results: Results) -> float:
    """How far the rounds of the figures with an aim disagree, in the median."""
    spreads = [figure.spread_percent for of in results.runs.values() for figure in of if figure.aim]
    return statistics.median(spreads) if spreads else 0.0
