"""The benchmark's own arithmetic, its table, and that its figures survive a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.bench import report, rounds, statistics
from scripts.bench.cases import Case, Curve, Figure, all_cases, at_least, at_most
from scripts.bench.docs import BEGIN, END, tables

ROOT = Path(__file__).parents[2]


def test_a_quantile_is_a_sample_that_was_taken() -> None:
    samples = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert statistics.quantile(samples, 0.5) == 3.0
    assert statistics.quantile(samples, 0.99) == 5.0
    assert statistics.quantile(samples, 0.2) == 1.0
    assert statistics.quantile(samples, 0.21) == 2.0
    assert statistics.quantile(samples, 0.0) == 1.0


def test_the_99th_percentile_leaves_out_one_sample_of_a_hundred() -> None:
    assert statistics.quantile([1.0] * 99 + [1000.0], 0.99) == 1.0
    assert statistics.quantile([1.0] * 98 + [1000.0] * 2, 0.99) == 1000.0


def test_a_median_is_in_the_middle() -> None:
    assert statistics.median([3.0, 1.0, 2.0]) == 2.0
    assert statistics.median([4.0, 1.0, 2.0, 3.0]) == 2.5


def test_no_samples_have_no_median() -> None:
    with pytest.raises(ValueError, match="no samples"):
        statistics.median([])
    with pytest.raises(ValueError, match="no samples"):
        statistics.quantile([], 0.5)


def test_rounds_that_agree_are_no_noise_and_one_disturbed_round_neither() -> None:
    assert statistics.spread_percent([10.0]) == 0.0
    assert statistics.spread_percent([10.0, 10.0, 10.0]) == 0.0
    assert statistics.spread_percent([10.0, 10.1, 9.9, 10.0, 10.1, 9.9, 90.0]) < statistics.NOISE_PERCENT


def test_rounds_that_disagree_are_called_noise() -> None:
    noisy = Figure("x", "µs", [10.0, 14.0, 10.0, 14.0, 10.0, 14.0])
    assert noisy.is_noisy
    assert "noise: rounds differ by" in report.line(noisy)
    assert not Figure("x", "µs", [10.0, 10.5, 10.0]).is_noisy


def test_a_slope_is_that_of_the_line() -> None:
    assert statistics.slope([1, 2, 3], [5.0, 7.0, 9.0]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="no slope"):
        statistics.slope([1, 1], [1.0, 2.0])


def test_an_aim_is_met_at_its_bound() -> None:
    assert Figure("x", "×", [1.5], at_most(1.5)).met is True
    assert Figure("x", "×", [1.51], at_most(1.5)).met is False
    assert Figure("x", "×", [0.4], at_least(0.4)).met is True
    assert Figure("x", "×", [0.39], at_least(0.4)).met is False
    assert Figure("x", "×", [1.0]).met is None


def test_measures_take_turns_and_their_first_round_does_not_count() -> None:
    order: list[str] = []

    def measure(name: str) -> int:
        order.append(name)
        return len(order)

    results = rounds.interleaved(2, lambda: measure("a"), lambda: measure("b"))
    assert "".join(order) == "ab" + "ab" + "ba"
    assert results == [[3, 6], [4, 5]]
    assert rounds.ratios([2.0, 6.0], [1.0, 2.0]) == [2.0, 3.0]

    order.clear()
    assert rounds.interleaved(1, lambda: measure("a"), lambda: measure("b")) == [[1], [2]]


def example() -> report.Results:
    results = report.Results(cpus=2, python="3.11.7", quick=False)
    case = Case("relay", "A relay", lambda effort: [])
    for rounds_of_run in ([1.0, 2.0, 3.0], [4.0], [9.0]):
        results.add_figure(case, Figure("ratio", "×", rounds_of_run, at_most(1.5), "noted"))
    results.add_figure(case, Figure("plain", "MB", [7.0]))
    results.add_curve("relay", Curve("line", "printers", "MB", [(1.0, 2.0), (2.0, 3.0)], "memory"))
    return results


def test_several_runs_are_one_figure_with_the_median_of_their_medians() -> None:
    ratio, plain = example().of("relay")
    assert ratio.rounds == [2.0, 4.0, 9.0]
    assert ratio.value == 4.0
    assert plain.value == 7.0


def test_results_survive_a_file(tmp_path: Path) -> None:
    results = example()
    report.write(results, tmp_path / "r.json")
    assert report.read(tmp_path / "r.json") == results


def test_the_table_says_the_aim_and_whether_it_is_met() -> None:
    text = tables(example())
    assert "| ratio (noted) | 4 × | ≤ 1.5 | **not met** | noise: differ by 175 % |" in text
    assert "| plain | 7 MB |  |  |  |" in text


def test_every_case_is_registered_under_a_name_of_its_own_and_has_a_title() -> None:
    cases = all_cases()
    assert {"gcode-latency", "memory", "start", "growth"} <= set(cases)
    assert all(name == case.name and case.title for name, case in cases.items())


def test_the_document_has_the_markers_that_the_tables_go_between() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)
