"""What people see of a run: progress step by step, the printers' consoles, console files, JUnit XML.

Each is a `run.Show`; `Several` makes one of many.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from klipper_router.scenario.plan import Plan, PlannedStep
from klipper_router.scenario.run import Result, Show, StepResult
from klipper_router.scenario.schema import Say
from klipper_router.scenario.watch import ConsoleLine

# XML 1.0 has no writing at all for these (W3C XML 2.2).
_NOT_IN_XML = dict.fromkeys([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0xFFFE, 0xFFFF], "\ufffd")


class Quiet:
    """Shows nothing; base of the others."""

    def begins(self, plan: Plan, directory: Path) -> None:
        pass

    def console(self, line: ConsoleLine) -> None:
        pass

    def router_log(self, at_s: float, record: logging.LogRecord) -> None:
        pass

    def state(self, at_s: float, printer: str, state: str) -> None:
        pass

    def step_begins(self, at_s: float, step: PlannedStep) -> None:
        pass

    def step_ended(self, result: StepResult) -> None:
        pass

    def ended(self, result: Result) -> None:
        pass


class Several:
    """All of these."""

    def __init__(self, shows: list[Show]) -> None:
        self._shows = shows

    def begins(self, plan: Plan, directory: Path) -> None:
        for show in self._shows:
            show.begins(plan, directory)

    def console(self, line: ConsoleLine) -> None:
        for show in self._shows:
            show.console(line)

    def router_log(self, at_s: float, record: logging.LogRecord) -> None:
        for show in self._shows:
            show.router_log(at_s, record)

    def state(self, at_s: float, printer: str, state: str) -> None:
        for show in self._shows:
            show.state(at_s, printer, state)

    def step_begins(self, at_s: float, step: PlannedStep) -> None:
        for show in self._shows:
            show.step_begins(at_s, step)

    def step_ended(self, result: StepResult) -> None:
        for show in self._shows:
            show.step_ended(result)

    def ended(self, result: Result) -> None:
        for show in self._shows:
            show.ended(result)


class Progress(Quiet):
    """A line for each step, and the report of a failure. ``keep``: says where the run's files are."""

    def __init__(self, *, keep: bool = False, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout
        self._keep = keep
        self._total = 0

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def begins(self, plan: Plan, directory: Path) -> None:
        self._total = len(plan.steps)
        self._say(f"{plan.folder}: {plan.scenario.description.strip()}")
        if self._keep:
            self._say(f"  the files of this run are kept in {directory}")

    def step_ended(self, result: StepResult) -> None:
        step = result.step
        width = len(str(self._total))
        if isinstance(step.body, Say):
            self._say(f"  {step.number:{width}}/{self._total}  {step.text}:")
            return
        mark = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}[result.outcome]
        text = f"  {step.number:{width}}/{self._total}  {mark:7} {result.seconds:5.1f} s  {step.text}"
        self._say(text + (f" ({result.message})" if result.outcome == "skipped" else ""))

    def ended(self, result: Result) -> None:
        if result.skipped:
            self._say(f"skipped: {result.plan.folder}, {result.skipped}\n")
            return
        if not result.passed:
            self._say(failure(result))
        skipped = sum(each.outcome == "skipped" for each in result.steps)
        more = f", {skipped} skipped" if skipped else ""
        outcome = "passed" if result.passed else "FAILED"
        steps = f"{len(result.steps)} of {self._total} steps{more}"
        self._say(f"{outcome}: {result.plan.folder}, {steps} in {result.seconds:.1f} s\n")


def failure(result: Result) -> str:
    """Which step, what it wants, what came instead."""
    failed = result.failed
    if failed is None:
        return f"\n{result.plan.file}: the printers did not get ready\n" + _indented(result.problem)
    return f"\n{result.plan.file}:{failed.step.line}: {failed.step.text}\n" + _indented(failed.message)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


class Consoles(Quiet):
    """The consoles of all printers, each line with its printer's name; with ``routes`` the router's log as well."""

    def __init__(self, *, console: bool = True, routes: bool = False, debug: bool = False) -> None:
        self._console = console
        self._level = logging.DEBUG if debug else logging.INFO if routes else logging.WARNING
        self._width = 6

    def begins(self, plan: Plan, directory: Path) -> None:
        self._width = max(6, *(len(name) for name in plan.printers))

    def console(self, line: ConsoleLine) -> None:
        if self._console:
            self._say(line.at_s, line.printer, line.text)

    def router_log(self, at_s: float, record: logging.LogRecord) -> None:
        if record.levelno >= self._level:
            level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
            self._say(at_s, "router", f"{level}{record.getMessage()}")

    def step_begins(self, at_s: float, step: PlannedStep) -> None:
        if self._console:
            self._say(at_s, "", f"--- {step.text}")

    def _say(self, at_s: float, who: str, text: str) -> None:
        print(f"  {at_s:7.2f} s  {who:{self._width}}  {text}", flush=True)


class ConsoleFiles(Quiet):
    """NAME.console of each printer and router.log, for `tail -F`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def begins(self, plan: Plan, directory: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for name in plan.printers:
            self._add(f"{name}.console", f"{name}: {plan.folder}")
        self._add("router.log", f"router: {plan.folder}")

    def console(self, line: ConsoleLine) -> None:
        self._add(f"{line.printer}.console", f"{line.at_s:7.2f}  {line.text}")

    def state(self, at_s: float, printer: str, state: str) -> None:
        self._add(f"{printer}.console", f"{at_s:7.2f}  ({state})")

    def router_log(self, at_s: float, record: logging.LogRecord) -> None:
        self._add("router.log", f"{at_s:7.2f}  {record.levelname:7} {record.getMessage()}")

    def _add(self, name: str, line: str) -> None:
        with (self._directory / name).open("a", encoding="utf-8", errors="replace") as file:
            file.write(line + "\n")


def junit(results: list[Result]) -> ElementTree.ElementTree[ElementTree.Element]:
    """A suite for each scenario, a case for each step that was run."""
    root = ElementTree.Element("testsuites", name="klipper-router test")
    for result in results:
        cases = result.steps
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=str(result.plan.folder),
            tests=str(len(cases) + bool(result.problem or result.skipped)),
            failures=str(sum(each.outcome == "failed" for each in cases) + bool(result.problem)),
            errors="0",
            skipped=str(sum(each.outcome == "skipped" for each in cases) + bool(result.skipped)),
            time=f"{result.seconds:.3f}",
        )
        if result.problem or result.skipped:
            case = ElementTree.SubElement(suite, "testcase", classname=str(result.plan.folder), name="start", time="0")
            if result.problem:
                _failure(case, "the printers did not get ready", result.problem)
            else:
                ElementTree.SubElement(case, "skipped", message=_xml(result.skipped))
        for each in cases:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=str(result.plan.folder),
                name=_xml(f"{each.step.number}: {each.step.text}"),
                file=str(result.plan.file),
                line=str(each.step.line),
                time=f"{each.seconds:.3f}",
            )
            if each.outcome == "failed":
                _failure(case, each.message.splitlines()[0], each.message)
            elif each.outcome == "skipped":
                ElementTree.SubElement(case, "skipped", message=_xml(each.message))
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _failure(case: ElementTree.Element, message: str, text: str) -> None:
    ElementTree.SubElement(case, "failure", message=_xml(message)).text = _xml(text)


def _xml(text: str) -> str:
    return text.encode("utf-8", "replace").decode().translate(_NOT_IN_XML)
