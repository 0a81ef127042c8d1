"""The account of a chaos run: it must be able to fail. What is wrong is counted, and what is right is not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.soak.books import Books, percentile
from scripts.soak.breaks import Breaks, Witnesses
from scripts.soak.exchanges import BROKEN, GONE
from scripts.soak.jobs import Answer
from scripts.soak.report import MAX_GROWTH_KB_PER_MINUTE, Course

CLIENT = "client 0.0"


def hear(books: Books, printer: str, *lines: str, at: float = 10.0) -> None:
    for line in lines:
        books.hear(printer, "neighbour", line, at)


def wrong(books: Books) -> dict[str, int]:
    return {name: count for name, count in books.balance().items() if count}


def done_and_run(books: Books, printer: str = "a", stream: str = CLIENT, at: float = 1.0) -> int:
    number = books.jobs.script(stream, printer, at)
    books.jobs.answered(number, Answer.DONE, at + 0.1)
    hear(books, printer, f"RUN {number}", at=at + 0.1)
    return number


# -- scripts ------------------------------------------------------------------------------------------------------


def test_scripts_that_are_done_and_run_balance() -> None:
    books = Books()
    for printer in "aabbab":
        done_and_run(books, printer)
    assert wrong(books) == {}
    assert books.jobs.figures()["scripts run"] == 6


def test_a_script_that_is_done_but_never_ran_is_lost() -> None:
    books = Books()
    done_and_run(books)
    number = books.jobs.script(CLIENT, "a", 1.0)
    books.jobs.answered(number, Answer.DONE, 2.0)
    assert wrong(books) == {"lost": 1}
    assert f"lost: {number} " in books.complaints()[0]


def test_a_script_whose_line_a_killed_printer_could_not_log_is_not_lost() -> None:
    books = Books()
    number = books.jobs.script(CLIENT, "a", 1.0)
    books.jobs.answered(number, Answer.DONE, 2.0)
    books.see("a", f"// RUN {number}")
    assert wrong(books) == {}


def test_a_script_that_ran_twice_is_doubled() -> None:
    books = Books()
    number = done_and_run(books)
    hear(books, "a", f"RUN {number}")
    assert wrong(books) == {"doubled": 1}


def test_two_scripts_of_one_sender_the_other_way_round_are_out_of_order() -> None:
    books = Books()
    numbers = [books.jobs.script(CLIENT, "a", 1.0) for _ in range(3)]
    for number in numbers:
        books.jobs.answered(number, Answer.DONE, 2.0)
    hear(books, "a", *(f"RUN {number}" for number in (numbers[1], numbers[0], numbers[2])))
    assert wrong(books) == {"out of order": 1}


def test_scripts_of_two_senders_and_those_for_two_printers_may_pass_each_other() -> None:
    books = Books()
    first = books.jobs.script("client 0.0", "a", 1.0)
    second = books.jobs.script("client 0.0 waits", "a", 1.0, waits=True)
    third = books.jobs.script("client 0.0", "b", 1.0)
    for number in (first, second, third):
        books.jobs.answered(number, Answer.DONE, 2.0)
    hear(books, "b", f"RUN {third}")
    hear(books, "a", f"RUN {second}", f"RUN {first}")
    assert wrong(books) == {}


def test_a_script_that_was_refused_but_ran_is_a_ghost() -> None:
    books = Books()
    number = books.jobs.script(CLIENT, "a", 1.0)
    books.jobs.answered(number, Answer.REFUSED, 2.0)
    hear(books, "a", f"RUN {number}")
    assert wrong(books) == {"ghosts (refused, but run)": 1}


def test_an_uncertain_script_may_have_run_or_not() -> None:
    books = Books()
    for ran in (True, False):
        number = books.jobs.script(CLIENT, "a", 1.0)
        books.jobs.answered(number, Answer.UNCERTAIN, 2.0)
        if ran:
            hear(books, "a", f"RUN {number}")
    assert wrong(books) == {}


def test_a_script_on_the_wrong_printer_or_of_nobody_is_counted() -> None:
    books = Books()
    number = books.jobs.script(CLIENT, "a", 1.0)
    books.jobs.answered(number, Answer.DONE, 2.0)
    hear(books, "b", f"RUN {number}", "RUN 777")
    assert wrong(books) == {"run elsewhere": 2}


def test_a_client_that_still_waits_was_never_answered_one_that_is_gone_needs_no_answer() -> None:
    books = Books()
    waiting, gone = books.jobs.script(CLIENT, "a", 1.0), books.jobs.script(CLIENT, "a", 1.0)
    books.jobs.answered(gone, Answer.GONE, 2.0)
    assert wrong(books) == {"never answered": 1}
    assert f"unanswered: {waiting} " in books.complaints()[0]


def test_a_script_done_on_a_printer_that_the_router_does_not_have_is_counted() -> None:
    books = Books()
    done_and_run(books, at=1.0)
    done_and_run(books, at=5.0)
    done_and_run(books, "b", at=5.0)
    books.jobs.removed.append(("a", 4.0, 6.0))
    assert wrong(books) == {"done on a removed printer": 1}


# -- what macros send ---------------------------------------------------------------------------------------------


def flood(books: Books, count: int = 1, at: float = 10.0) -> list[int]:
    """A macro of printer a calls for printer b."""
    numbers = [books.jobs.script("a", "b", at, caller="a", was_sent=False) for _ in range(count)]
    hear(books, "a", f"FLOODED {numbers[0]} {count}", at=at)
    return numbers


def test_a_macros_script_that_neither_ran_nor_failed_is_lost_without_a_word() -> None:
    books = Books()
    ran, failed, lost = flood(books, 3)
    hear(books, "b", f"RUN {ran}")
    hear(books, "a", f'Unknown command:"DONE{ran}"', f'Unknown command:"FAIL{failed}"')
    assert wrong(books) == {"lost without a word": 1}
    assert f"silent: {lost} " in books.complaints()[0]


def test_a_macros_script_that_is_reported_done_but_did_not_run_is_lost() -> None:
    books = Books()
    hear(books, "a", f'Unknown command:"DONE{flood(books)[0]}"')
    assert wrong(books) == {"lost": 1}


def test_a_macro_that_was_never_rendered_sent_nothing() -> None:
    books = Books()
    books.jobs.script("a", "b", 10.0, caller="a", was_sent=False)
    assert wrong(books) == {}
    assert books.jobs.figures()["scripts sent"] == 0


def test_a_caller_that_was_away_cannot_have_been_told() -> None:
    books = Books()
    flood(books, at=10.0)
    books.breaks.begins("a", 10.5)
    books.breaks.ends("a", 12.0)
    assert wrong(books) == {}
    assert books.jobs.figures()["scripts lost with their caller's link"] == 1


def test_a_caller_that_was_away_only_after_others_were_served_excuses_nothing() -> None:
    books = Books()
    flood(books, at=10.0)
    done_and_run(books, "b", at=11.0)  # the script's turn was before this one's
    done_and_run(books, "a", at=14.0)  # and the word of its failure before this
    books.breaks.begins("a", 20.0)
    books.breaks.ends("a", 30.0)
    assert wrong(books) == {"lost without a word": 1}


def test_a_script_is_decided_by_the_end_of_its_printers_break() -> None:
    books = Books()
    books.breaks.begins("b", 9.0)
    flood(books, at=10.0)
    books.breaks.ends("b", 11.0)
    done_and_run(books, "a", at=13.0)
    books.breaks.begins("a", 20.0)
    books.breaks.ends("a", 30.0)
    assert wrong(books) == {"lost without a word": 1}


# -- events -------------------------------------------------------------------------------------------------------


def event(books: Books, handlers: int | None = 2, at: float = 10.0) -> int:
    books.jobs.handlers["soak/a"] = {("a", "a"), ("b", "a_far"), ("c", "c")}
    number = books.jobs.event(CLIENT, "soak/a", at)
    books.jobs.answered(number, Answer.REFUSED if handlers is None else Answer.DONE, at + 0.1, handlers)
    return number


def test_an_event_that_all_started_handlers_ran_balances() -> None:
    books = Books()
    number = event(books)
    hear(books, "a", f"HEARD a {number}")
    hear(books, "b", f"HEARD a_far {number}")
    assert wrong(books) == {}


def test_a_started_handler_that_did_not_run_is_a_lost_event() -> None:
    books = Books()
    hear(books, "a", f"HEARD a {event(books)}")
    assert wrong(books) == {"events lost": 1}


def test_a_started_handler_is_excused_by_a_break_of_its_printer_only() -> None:
    for broken, expected in (("b", {}), ("c", {}), ("a", {"events lost": 1}), ("d", {"events lost": 1})):
        books = Books()
        hear(books, "a", f"HEARD a {event(books)}")
        books.breaks.begins(broken, 10.5)
        books.breaks.ends(broken, 12.0)
        assert wrong(books) == expected


def test_a_break_after_a_later_script_ran_does_not_excuse_an_event() -> None:
    books = Books()
    hear(books, "a", f"HEARD a {event(books)}")
    for printer in "bc":
        done_and_run(books, printer, at=11.0)
        books.breaks.begins(printer, 15.0)
    assert wrong(books) == {"events lost": 1}


def test_a_handler_that_ran_twice_or_beyond_those_started_is_counted() -> None:
    books = Books()
    number = event(books, handlers=1)
    hear(books, "a", f"HEARD a {number}", f"HEARD a {number}")
    hear(books, "b", f"HEARD a_far {number}")
    assert wrong(books) == {"events doubled": 1, "events ghosts (not started, but run)": 1}


def test_of_an_event_that_was_answered_with_an_error_any_handlers_may_have_run() -> None:
    books = Books()
    hear(books, "a", f"HEARD a {event(books, handlers=None)}")
    assert wrong(books) == {}


def test_events_of_one_sender_the_other_way_round_are_out_of_order() -> None:
    books = Books()
    first, second = event(books, handlers=1), event(books, handlers=1)
    hear(books, "a", f"HEARD a {second}", f"HEARD a {first}")
    assert wrong(books) == {"events out of order": 1}


def test_an_event_that_a_client_waits_for_was_never_answered_a_macro_waits_for_none() -> None:
    books = Books()
    books.jobs.event(CLIENT, "soak/a", 1.0)
    books.jobs.event("a", "soak/a", 1.0, caller="a")
    assert wrong(books) == {"events never answered": 1}


# -- requests through the gateway ---------------------------------------------------------------------------------


def exchange(books: Books, *, arrives: int = 1, acts: bool = False, outcome: int | None = 200) -> int:
    """One that its upstream answers well, the last time."""
    number = next(books.jobs.numbers)
    books.exchanges.sent(number, "GET /", 1.0, acts=acts)
    for time in range(arrives):
        arrived = books.exchanges.arrived(number)
        if time == arrives - 1:
            arrived.begun += 1
            arrived.served += 1
    if outcome is not None:
        books.exchanges.ended(number, outcome, str(number))
    return number


def test_requests_that_come_to_an_end_balance() -> None:
    books = Books()
    exchange(books)
    exchange(books, acts=True)
    exchange(books, arrives=2)
    exchange(books, arrives=0, outcome=502)
    exchange(books, outcome=GONE)  # the router was killed
    exchange(books, arrives=0, outcome=GONE)
    assert wrong(books) == {}
    assert books.exchanges.figures()["requests repeated"] == 1


@pytest.mark.parametrize(("acts", "arrives"), [(True, 2), (False, 3)])
def test_a_request_that_was_sent_too_often_is_doubled(acts: bool, arrives: int) -> None:
    books = Books()
    exchange(books, acts=acts, arrives=arrives)
    assert wrong(books) == {"requests doubled": 1}
    assert "request doubled" in books.complaints()[0]


def test_the_answer_to_another_request_is_told() -> None:
    books = Books()
    first, second = exchange(books), exchange(books)
    books.exchanges.ended(first, 200, str(second))
    assert wrong(books) == {"answers to another request": 1}


def test_an_answer_that_the_upstream_gave_must_arrive() -> None:
    for outcome in (502, BROKEN):
        books = Books()
        exchange(books, outcome=outcome)
        assert wrong(books)["answers lost (the upstream gave them)"] == 1


def test_an_answer_that_nobody_gave_is_told() -> None:
    books = Books()
    exchange(books, arrives=0)
    assert wrong(books) == {"answers that nobody gave": 1}


def test_a_request_that_waits_still_and_one_that_nobody_sent() -> None:
    books = Books()
    exchange(books, outcome=None)
    books.exchanges.arrived(12345)
    assert wrong(books) == {"requests never answered": 1, "requests that nobody sent": 1}


def test_only_where_the_upstream_broke_off_may_the_gateway() -> None:
    books = Books()
    number = exchange(books, arrives=0, outcome=BROKEN)
    assert wrong(books) == {"broken off by the gateway": 1}
    books.exchanges.arrived(number).begun += 1
    assert wrong(books) == {}
    spoilt = exchange(books, arrives=0, outcome=BROKEN)
    books.exchanges.arrived(spoilt).spoilt += 1
    assert wrong(books) == {}


# -- status -------------------------------------------------------------------------------------------------------


def say(books: Books, number: int, text: str = "text") -> str:
    books.statuses.plan(number, "target", f"{number} {text}")
    books.hear("target", "other", f"SAID {number}", number)
    return f"{number} {text}"


def tell(books: Books, *texts: str, at: float = 10.0) -> None:
    for text in texts:
        books.hear("follower", "target", f"TOLD {text}", at)


def subscribe(books: Books) -> None:
    books.hear("follower", "target", "SUBSCRIBED", 0)


def test_values_in_order_some_of_them_merged_balance() -> None:
    books = Books()
    texts = [say(books, number) for number in range(5)]
    subscribe(books)
    tell(books, "None", texts[0], texts[2], texts[4])
    assert wrong(books) == {}


def test_a_follower_that_is_expected_and_told_nothing_has_not_the_newest_value() -> None:
    books = Books()
    books.statuses.expected("web follower", "target")
    text = say(books, 1)
    assert wrong(books) == {"wrong status (not the newest)": 1}
    books.statuses.told("web follower", "target", text, 2.0)
    assert wrong(books) == {}


def test_a_value_that_never_was_is_untrue() -> None:
    books = Books()
    text = say(books, 1, "it's")
    tell(books, "1 its", text)
    assert wrong(books) == {"status untrue": 1}


def test_a_value_that_was_planned_but_not_set_is_untrue() -> None:
    books = Books()
    text = say(books, 1)
    books.statuses.plan(2, "target", "2 x")
    tell(books, "2 x")
    assert wrong(books) == {"status untrue": 1, "wrong status (not the newest)": 1}
    assert any(text in complaint for complaint in books.complaints())


def test_the_same_value_twice_is_doubled_unless_a_subscription_or_a_break_came_between() -> None:
    books = Books()
    text = say(books, 1)
    tell(books, text, text)
    assert wrong(books) == {"status doubled": 1}

    books = Books()
    text = say(books, 1)
    tell(books, text)
    subscribe(books)
    tell(books, text)
    assert wrong(books) == {}

    for broken in ("target", "follower"):
        books = Books()
        text = say(books, 1)
        tell(books, text, at=10.0)
        books.breaks.begins(broken, 11.0)
        books.breaks.ends(broken, 12.0)
        tell(books, text, at=13.0)
        assert wrong(books) == {}


def test_a_follower_that_was_slow_hears_that_the_target_was_back_and_then_the_same_value() -> None:
    for line, doubled in (("STATE target ready", {}), ("STATE another ready", {"status doubled": 1})):
        books = Books()
        text = say(books, 1)
        books.breaks.begins("target", 8.0)
        books.breaks.ends("target", 9.0)
        tell(books, text, at=10.0)
        books.hear("follower", "target", line, 11.0)
        tell(books, text, at=12.0)
        assert wrong(books) == doubled


def test_a_callback_under_way_and_the_snapshot_of_a_new_subscription_may_say_the_same() -> None:
    books = Books()
    text = say(books, 1)
    subscribe(books)
    tell(books, text, text)
    assert wrong(books) == {}
    tell(books, text)
    assert wrong(books) == {"status doubled": 1}


def test_an_older_value_after_a_newer_one_is_out_of_order() -> None:
    books = Books()
    old, new = say(books, 1), say(books, 2)
    tell(books, new, old, new)
    assert wrong(books) == {"status out of order": 1}


def test_no_value_after_one_is_right_only_when_the_target_started_anew() -> None:
    books = Books()
    text = say(books, 1)
    tell(books, text, at=10.0)
    tell(books, "None", at=11.0)
    tell(books, text, at=11.0)
    assert wrong(books) == {"status out of order": 1}
    books.breaks.begins("target", 10.5)
    books.breaks.ends("target", 10.6)
    assert wrong(books) == {}


@pytest.mark.parametrize(("began_anew_at", "balance"), [(8.0, {}), (0.5, {"status out of order": 1})])
def test_a_slow_follower_is_told_of_the_last_value_after_the_target_started_anew(
    began_anew_at: float, balance: dict[str, int]
) -> None:
    books = Books()
    text = say(books, 1)  # at 1.0
    books.breaks.begins("target", began_anew_at)
    books.breaks.ends("target", began_anew_at + 0.1)
    tell(books, text, at=10.0)
    tell(books, "None", at=11.0)
    tell(books, text, at=11.0)
    assert wrong(books) == balance


def test_a_follower_that_was_not_told_the_newest_value_is_wrong() -> None:
    books = Books()
    old, new = say(books, 1), say(books, 2)
    tell(books, old)
    assert wrong(books) == {"wrong status (not the newest)": 1}
    tell(books, new)
    assert wrong(books) == {}


# -- the rest -----------------------------------------------------------------------------------------------------


def test_a_mishap_is_part_of_the_balance() -> None:
    books = Books()
    books.mishap("router crashed", "life 1")
    assert wrong(books) == {"router crashed": 1}


def test_lines_that_tell_nothing_are_passed_over() -> None:
    books = Books()
    hear(books, "a", "", "Starting Klippy...", 'Unknown command:"OTHER"', "STATE b ready", "{action_respond_info")
    books.see("a", "// hello")
    assert wrong(books) == {}


def test_breaks_overlap_exactly_the_times_from_begin_to_end() -> None:
    breaks = Breaks()
    breaks.begins("a", 1.0)
    breaks.begins("a", 1.5)  # it goes on already
    assert breaks.ends("a", 2.0)
    assert not breaks.ends("a", 2.5)
    breaks.begins("a", 5.0)
    assert breaks.open() == ["a"]
    for since, until, expected in ((0, 0.9, False), (0, 1, True), (1.2, 1.3, True), (2, 3, True), (2.1, 4.9, False)):
        assert breaks.overlap("a", since, until) is expected
    assert breaks.overlap("a", 100, math.inf)
    assert not breaks.overlap("b", 0, math.inf)
    assert [breaks.end_of_next("a", after) for after in (0, 2, 2.1)] == [2.0, 2.0, math.inf]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20))), st.integers(0, 20))
def test_the_first_witness_is_the_earliest_run_of_all_that_were_sent_later(
    runs: list[tuple[int, int]], after: int
) -> None:
    witnesses = Witnesses()
    for sent_at, ran_at in runs:
        witnesses.add("a", sent_at, ran_at)
    assert witnesses.first("a", after) == min((ran for sent, ran in runs if sent > after), default=math.inf)


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0
    assert math.isnan(percentile([], 0.5))


# -- memory -------------------------------------------------------------------------------------------------------


def test_memory_that_creeps_up_is_growth() -> None:
    course = Course(rss_kb=[(5.0 * n, 27_000 + 20 * n) for n in range(180)])  # 240 kB a minute
    assert (course.growth_kb_per_minute() or 0) > 2 * MAX_GROWTH_KB_PER_MINUTE


def test_memory_that_a_bad_client_holds_for_a_while_is_no_growth() -> None:
    course = Course(rss_kb=[(5.0 * n, 27_000 + 8_000 * (n % 30 > 10)) for n in range(180)])
    assert course.growth_kb_per_minute() == 0


def test_files_and_tasks_that_a_new_router_does_not_have_are_left_over() -> None:
    course = Course(end={"files": 40, "tasks": 21}, new={"files": 20, "tasks": 20})
    assert course.left_over("files") > 10
    assert course.left_over("tasks") == 0
    assert Course().left_over("files") == 0


def test_a_short_life_tells_nothing_of_growth() -> None:
    assert Course().growth_kb_per_minute() is None
    assert Course(rss_kb=[(5.0 * n, 27_000 + 100 * n) for n in range(100)]).growth_kb_per_minute() is None
