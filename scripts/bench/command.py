"""The command line of the benchmark: which cases run, how often, and where their figures go."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.bench import machine, report
from scripts.bench.cases import Case, Curve, Effort, Figure, Skipped, all_cases
from scripts.bench.report import Results

DOCS = Path(__file__).parents[2] / "docs" / "performance.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write. 0: all of it could be measured; whether aims are met is for people to judge."""
    options = _options(argv)
    if options.write_docs:
        try:
            importlib.import_module("matplotlib")
        except ImportError:
            print(f"--write-docs draws plots: {sys.executable} -m pip install matplotlib", file=sys.stderr)
            return 2
    if options.from_file:
        results = report.read(options.from_file)
    else:
        results = _measure(options)
        if options.runs > 1:
            print(f"\nMedians of {options.runs} runs")
            report.show(results)
    if options.json:
        report.write(results, options.json)
    if options.write_docs:
        from scripts.bench import docs

        docs.write(results, DOCS)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.py",
        description="Measure what the router costs, against its aims and against what one would use instead.",
        epilog="docs/performance.md says how to read the figures.",
    )
    names = list(all_cases())
    parser.add_argument("--quick", action="store_true", help="a smoke test of all cases, with rough figures")
    parser.add_argument("--case", action="append", choices=names, metavar="NAME", help=f"only this: {', '.join(names)}")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="run everything so often, and take medians")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument("--from", dest="from_file", type=Path, metavar="FILE", help="measure nothing, read that --json")
    parser.add_argument("--write-docs", action="store_true", help="write tables and plots of docs/performance.md")
    parser.add_argument("--realtime", action="store_true", help="as root, on a busy machine: above all others")
    parser.add_argument("--tree", type=Path, metavar="DIR", help="measure the router of another checkout")
    return parser.parse_args(argv)


def _measure(options: argparse.Namespace) -> Results:
    if options.tree:
        machine.tree = options.tree.resolve()
    if not machine.settle_on_load_core(realtime=options.realtime):
        print("(no permission to raise the priority: other processes disturb more)", file=sys.stderr)
    if machine.LOAD_CORE == machine.MEASURED_CORE:
        print("(one core only: load and relay take turns on it, latencies say little)", file=sys.stderr)
    cases = [case for case in all_cases().values() if not options.case or case.name in options.case]
    results = Results(cpus=os.cpu_count() or 1, python=sys.version.split()[0], quick=options.quick)
    for run in range(options.runs):
        if options.runs > 1:
            print(f"\nRun {run + 1} of {options.runs}")
        for case in cases:
            _run(case, Effort(quick=options.quick), results)
    return results


def _run(case: Case, effort: Effort, results: Results) -> None:
    print(f"\n{case.title} ({case.name})", flush=True)
    begun = time.monotonic()
    try:
        for measured in case.run(effort):
            if isinstance(measured, Curve):
                results.add_curve(case.name, measured)
            else:
                _check(measured)
                results.add_figure(case, measured)
                print(report.line(measured), flush=True)
    except Skipped as why:
        print(f"  skipped: {why}")
    print(f"  ({time.monotonic() - begun:.0f} s)")


def _check(figure: Figure) -> None:
    if not figure.rounds:
        raise ValueError(f"{figure.what}: no rounds")
