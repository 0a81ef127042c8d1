"""The scripts of one printer: in order, each once, bounded, and in the spelling that its Klipper reads.

The state machine runs what is sent on the model of Klipper, of either version, and keeps the account of every job.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from klipper_router import gcode
from klipper_router.errors import CallError, KlipperError, LinkLost, RouterError
from klipper_router.gcode import Script
from klipper_router.script_queue import MAX_SCRIPT_BYTES, MAX_SCRIPTS, WINDOW, Job, ScriptQueue

from .klipper_model import VERSIONS, Klipper, Version

LOST = LinkLost("led", "end of file")
LATE = CallError("not ready within 1 s")


class Account:
    """One job, and what became of it."""

    def __init__(self, number: int, script: Script | None, when_done: Callable[[], None]) -> None:
        self.number = number
        self.script = script
        self.when_done = when_done
        self.rendered = 0
        self.sent: list[str] = []
        self.ends: list[RouterError | None] = []
        self.job: Job

    def render(self) -> Script | None:
        self.rendered += 1
        return self.script

    def done(self, error: RouterError | None) -> None:
        assert not self.ends, "done twice"
        self.ends.append(error)
        self.when_done()


def script_of(number: int, kind: str) -> Script | None:
    """A script whose commands bear its number."""
    match kind:
        case "user":
            return Script.of(f"DO N{number}='x'")
        case "same":
            return gcode.command_line("DO", [(f"N{number}", "x")])
        case "differs":
            return gcode.command_line("DO", [(f"N{number}", "a#b")])
        case "two lines":
            first, second = (gcode.command_line("DO", [(f"N{number}", value)]) for value in ("x", "a;b"))
            return Script(f"{first.exact}\n{second.exact}", f"{first.plain}\n{second.plain}")
        case "malformed":
            second = gcode.command_line("DO", [(f"N{number}", "*")])
            return Script(f"{second.exact} oops", f"{second.plain} oops")
    return None


KINDS = st.sampled_from(["user", "same", "differs", "differs", "two lines", "malformed", "no need"])


class QueueAndKlipper(RuleBasedStateMachine):
    """A queue, the Klipper that it is sent to, and a naive account of all jobs."""

    @initialize(version=st.sampled_from(VERSIONS))
    def begin(self, version: Version) -> None:
        self.queue = ScriptQueue()
        self.klipper = Klipper(version)
        self.ready = True
        self.greeting = False
        self.made = 0
        self.accounts: list[Account] = []
        self.waiting: list[Account] = []
        self.under_way: list[Account] = []
        self.executed: list[int] = []  # numbers of the jobs, in the order in which Klipper began them
        self.reordered = False

    def account_of(self, job: Job) -> Account:
        return next(account for account in self.accounts if account.job is job)

    def may_go(self, account: Account) -> bool:
        return account.job.greets if self.greeting else self.ready or not account.job.when_ready

    def add(
        self, kind: str, *, when_ready: bool, outlives: bool, counted: bool, again: bool, greets: bool = False
    ) -> None:
        def when_done() -> None:
            if again:  # as a subscription with more news does
                self.add("same", when_ready=when_ready, outlives=False, counted=False, again=False)

        number = self.made = self.made + 1
        account = Account(number, script_of(number, kind), when_done)
        account.job = Job(
            account.render,
            account.done,
            greets=greets,
            when_ready=when_ready,
            outlives_link=outlives,
            size_bytes=10 * counted,
        )
        self.accounts.append(account)
        self.waiting.append(account)
        self.queue.put(account.job)

    @rule(kind=KINDS, when_ready=st.booleans(), outlives=st.booleans(), counted=st.booleans(), again=st.booleans())
    def put(self, kind: str, when_ready: bool, outlives: bool, counted: bool, again: bool) -> None:
        self.add(kind, when_ready=when_ready, outlives=outlives, counted=counted, again=again)

    @rule(kind=KINDS)
    def put_greeting(self, kind: str) -> None:
        self.add(kind, when_ready=False, outlives=False, counted=False, again=False, greets=True)

    @rule(ready=st.booleans(), greeting=st.booleans())
    def turn(self, ready: bool, greeting: bool) -> None:
        """Klipper is or is not ready now, or has just become so; what may be sent is sent."""
        self.ready, self.greeting = ready or greeting, greeting
        self.pump()

    def pump(self) -> None:
        while (turn := self.queue.next(ready=self.ready, greeting=self.greeting)) is not None:
            job, text = turn
            account = self.account_of(job)
            for earlier in self.waiting[: self.waiting.index(account)]:
                assert earlier.ends or not self.may_go(earlier), "overtaken by a later job"
            assert self.may_go(account)
            assert not account.sent
            assert account.rendered == 1
            account.sent.append(text)
            self.waiting.remove(account)
            self.under_way.append(account)
        self.waiting = [account for account in self.waiting if not account.ends]
        eligible = [account for account in self.waiting if self.may_go(account)]
        assert not eligible or self.under_way, "nothing is under way, yet somebody waits"

    @precondition(lambda self: self.under_way)
    @rule()
    def answer(self) -> None:
        """Klipper runs the first script that was sent, and answers."""
        account = self.under_way[0]
        assert account.script is not None
        outcome = self.klipper.run(account.sent[-1])
        self.executed += [account.number for _ in outcome.ran]
        error = None if outcome.error is None else KlipperError(outcome.error)
        again = self.queue.answered(account.job, error)
        if again is not None:
            assert error is not None
            assert len(account.sent) == 1, "sent a third time"
            account.sent.append(again)
            assert not account.ends
        else:
            self.under_way.remove(account)
            assert account.ends == [error]
        self.pump()

    @precondition(lambda self: self.accounts)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        account = data.draw(st.sampled_from(self.accounts))
        was_waiting = account in self.waiting
        ends = list(account.ends)
        self.queue.give_up(account.job, LATE)
        if was_waiting:
            self.waiting.remove(account)
            assert account.ends == [LATE]
        else:
            assert account.ends == ends

    @precondition(lambda self: self.accounts)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        account = data.draw(st.sampled_from(self.accounts))
        assert self.queue.withdraw(account.job) == (account in self.waiting)
        if account in self.waiting:
            self.waiting.remove(account)
            self.accounts.remove(account)  # nothing is to become of it
            assert not account.ends

    @rule()
    def close(self) -> None:
        """The printer is no more."""
        gone = self.under_way + self.waiting
        self.under_way, self.waiting = [], []
        self.queue.close(LOST)
        assert all(account.ends == [LOST] for account in gone)

    @rule()
    def lose(self) -> None:
        gone = [*self.under_way, *(account for account in self.waiting if not account.job.outlives_link)]
        self.under_way = []
        self.waiting = [account for account in self.waiting if account.job.outlives_link]
        self.queue.lose(LOST)
        assert all(account.ends == [LOST] for account in gone)

    @invariant()
    def the_account_is_right(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert len(self.queue) == len(self.waiting) + len(self.under_way)
        assert len(self.under_way) <= WINDOW
        counted = [account.job.size_bytes for account in self.waiting if account.job.size_bytes]
        assert (self.queue._counted, self.queue._counted_bytes) == (len(counted), sum(counted))
        assert not any(account.ends for account in self.waiting + self.under_way)

    @invariant()
    def klipper_began_the_scripts_in_the_order_in_which_they_were_sent(self) -> None:
        if hasattr(self, "queue"):
            first_sent = [account.number for account in self.accounts if account.sent]
            assert set(self.executed) <= set(first_sent)
            begun = list(dict.fromkeys(self.executed))
            assert self.executed == [number for number in begun for _ in range(self.executed.count(number))]

    @invariant()
    def no_command_runs_twice_and_none_of_a_finished_script_is_missing(self) -> None:
        for account in self.accounts if hasattr(self, "queue") else ():
            if account.script is not None and account.ends == [None]:
                assert self.executed.count(account.number) == len(account.script.exact.split("\n"))
            elif account.script is not None:
                assert self.executed.count(account.number) <= len(account.script.exact.split("\n"))

    def teardown(self) -> None:
        """Whatever happened: in the end every job is done, once."""
        if not hasattr(self, "queue"):
            return
        self.ready, self.greeting = True, False
        self.pump()
        while self.under_way:
            self.answer()
        assert len(self.queue) == 0
        assert all(len(account.ends) == 1 for account in self.accounts)
        for account in self.accounts:
            if account.ends == [None] and account.script is not None:
                assert account.sent, "done without being sent"
            if account.script is None and account.ends == [None]:
                assert not account.sent


QueueAndKlipper.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestQueueAndKlipper = QueueAndKlipper.TestCase


class Ends(list[RouterError | None]):
    """Jobs whose ends are noted here."""

    def job(self, script: Script | str = "DO", *, when_ready: bool = False, size_bytes: int = 0) -> Job:
        made = Script.of(script) if isinstance(script, str) else script
        return Job(lambda: made, self.append, when_ready=when_ready, size_bytes=size_bytes)


DIFFERS = gcode.command_line("DO", [("A", "#")])
MALFORMED = KlipperError("Malformed command 'DO A='#''")


def sent_now(queue: ScriptQueue, *, ready: bool = True) -> list[tuple[Job, str]]:
    return list(iter(lambda: queue.next(ready=ready), None))


def test_a_few_scripts_are_under_way_and_the_rest_waits() -> None:
    queue, ends = ScriptQueue(), Ends()
    for number in range(10):
        queue.put(ends.job(f"DO N={number}"))
    sent = sent_now(queue)
    assert [text for _, text in sent] == [f"DO N={number}" for number in range(WINDOW)]
    assert queue.answered(sent[0][0], None) is None
    assert [text for _, text in sent_now(queue)] == [f"DO N={WINDOW}"]
    assert ends == [None]
    assert len(queue) == 9


def test_a_full_queue_refuses_a_script_and_keeps_those_it_has() -> None:
    queue, ends = ScriptQueue(), Ends()
    for _ in range(MAX_SCRIPTS):
        queue.put(ends.job(size_bytes=2))
    with pytest.raises(CallError, match=r"queue is full \(1000 scripts, 2000 bytes wait\)"):
        queue.put(ends.job(size_bytes=2))
    queue.put(ends.job())  # what is bounded by its maker is not refused
    assert len(queue) == MAX_SCRIPTS + 1
    assert ends == []
    sent_now(queue)
    queue.put(ends.job(size_bytes=2))  # what was sent waits no more


def test_a_queue_is_full_by_its_bytes_too() -> None:
    queue, ends = ScriptQueue(), Ends()
    queue.put(ends.job(size_bytes=MAX_SCRIPT_BYTES))
    with pytest.raises(CallError, match="queue is full"):
        queue.put(ends.job(size_bytes=1))
    queue.lose(LOST)
    assert ends == [LOST]
    queue.put(ends.job(size_bytes=MAX_SCRIPT_BYTES))


def test_a_script_that_no_queue_could_hold_is_refused_with_its_size() -> None:
    queue, ends = ScriptQueue(), Ends()
    with pytest.raises(CallError, match=f"a script of {MAX_SCRIPT_BYTES + 1} bytes is too long"):
        queue.put(ends.job(size_bytes=MAX_SCRIPT_BYTES + 1))
    assert len(queue) == 0
    queue.put(ends.job(size_bytes=MAX_SCRIPT_BYTES))
    assert ends == []


def test_a_script_can_be_taken_back_until_it_is_sent_and_makes_room_for_another() -> None:
    queue, ends = ScriptQueue(), Ends()
    sent, first, last = ends.job("SENT"), ends.job("FIRST"), ends.job("LAST", size_bytes=MAX_SCRIPT_BYTES)
    queue.put(sent)
    assert [text for _, text in sent_now(queue)] == ["SENT"]
    queue.put(first)
    queue.put(last)
    assert queue.withdraw(last)
    assert not queue.withdraw(last)
    assert not queue.withdraw(sent)
    queue.put(ends.job("OTHER", size_bytes=MAX_SCRIPT_BYTES))
    assert [text for _, text in sent_now(queue)] == ["FIRST", "OTHER"]
    assert ends == []  # what was taken back is neither rendered nor done


def test_a_script_that_waits_for_readiness_does_not_hold_up_the_others() -> None:
    queue, ends = ScriptQueue(), Ends()
    queue.put(ends.job("WHEN_READY", when_ready=True))
    queue.put(ends.job("NOW"))
    assert [text for _, text in sent_now(queue, ready=False)] == ["NOW"]
    assert [text for _, text in sent_now(queue)] == ["WHEN_READY"]


def test_what_can_be_read_is_tried_out_by_one_script_alone() -> None:
    queue, ends = ScriptQueue(), Ends()
    jobs = [ends.job("FIRST"), ends.job(DIFFERS), ends.job("LAST")]
    for job in jobs:
        queue.put(job)
    assert sent_now(queue) == [(jobs[0], "FIRST")]
    queue.answered(jobs[0], None)
    assert sent_now(queue) == [(jobs[1], DIFFERS.exact)]
    queue.answered(jobs[1], None)
    queue.put(ends.job(DIFFERS))
    queue.put(ends.job(DIFFERS))
    assert [text for _, text in sent_now(queue)] == ["LAST", DIFFERS.exact, DIFFERS.exact]


def test_a_klipper_that_cannot_read_quotes_gets_the_plain_spelling_from_then_on_until_it_is_lost() -> None:
    queue, ends = ScriptQueue(), Ends()
    first, later = ends.job(DIFFERS), ends.job(DIFFERS)
    queue.put(first)
    queue.put(later)
    assert sent_now(queue) == [(first, DIFFERS.exact)]
    assert queue.answered(first, MALFORMED) == DIFFERS.plain
    assert sent_now(queue) == []
    assert ends == []
    assert queue.answered(first, None) is None
    assert ends == [None]
    assert sent_now(queue) == [(later, DIFFERS.plain)]
    queue.lose(LOST)  # it may come back as another version
    again = ends.job(DIFFERS)
    queue.put(again)
    assert sent_now(queue) == [(again, DIFFERS.exact)]


def test_a_users_own_malformed_line_does_not_cost_others_their_exact_values() -> None:
    queue, ends = ScriptQueue(), Ends()
    script = Script("DO A='#' oops", "DO A='_' oops")
    bad, good = ends.job(script), ends.job(DIFFERS)
    queue.put(bad)
    queue.put(good)
    sent_now(queue)
    assert queue.answered(bad, KlipperError("Malformed command 'DO A='#' oops'")) == script.plain
    error = KlipperError("Malformed command 'DO A='_' oops'")
    assert queue.answered(bad, error) is None
    assert ends == [error]
    assert sent_now(queue) == [(good, DIFFERS.exact)]


def test_a_script_that_failed_for_another_reason_is_not_sent_again_and_proves_nothing() -> None:
    queue, ends = ScriptQueue(), Ends()
    first, second = ends.job(DIFFERS), ends.job(DIFFERS)
    queue.put(first)
    queue.put(second)
    sent_now(queue)
    error = KlipperError("Must home axis first")
    assert queue.answered(first, error) is None
    assert ends == [error]
    assert sent_now(queue) == [(second, DIFFERS.exact)]
    queue.put(ends.job("NEXT"))
    assert sent_now(queue) == []  # the second one is the trial now


def test_a_script_is_rendered_when_its_turn_comes() -> None:
    queue, ends = ScriptQueue(), Ends()
    news = ["old"]
    queue.put(Job(lambda: Script.of(f"DO {news[0]}"), ends.append))
    news[0] = "new"
    assert [text for _, text in sent_now(queue)] == ["DO new"]
