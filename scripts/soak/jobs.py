"""The account of scripts and events: what was sent, what was answered, what ran. Pure; times are handed in, in s.

Every job bears a number, in the order of sending. A *stream* is one sender's jobs of one kind: those for one printer
must run there in the order of their numbers. The rules, each a count that must be 0, are the methods of `Jobs`.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from scripts.soak.breaks import Breaks, Witnesses

# How long an answer may be on its way from a printer to the queue of the macro that asked, on a busy machine.
ANSWER_WITHIN_S = 1.0
# Of each kind of complaint so many are told in full.
DETAILED = 5


class Answer(Enum):
    DONE = "done"
    REFUSED = "refused"  # not run, by the router's word
    UNCERTAIN = "uncertain"  # the connection was lost meanwhile: nobody can know
    GONE = "gone"  # whoever was to be told is gone: the router was killed, or the caller's own connection lost


@dataclass(slots=True)
class Script:
    stream: str
    printer: str
    sent_at: float
    waits: bool = False  # sent with `wait`, so it may be passed by others
    caller: str = ""  # the printer whose macro sent it; empty for an API client
    was_sent: bool = True
    answer: Answer | None = None
    answered_at: float = 0.0


@dataclass(slots=True)
class Event:
    stream: str
    name: str
    sent_at: float
    answer: Answer | None = None
    answered_at: float = 0.0
    handlers: int | None = None  # how many were started, by the router's word
    caller: str = ""  # the printer whose macro triggered it: then there is no answer


@dataclass
class Jobs:
    """Everything that was given to the router to be run."""

    breaks: Breaks
    # event name -> (printer that runs it, label of the handler)
    handlers: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    scripts: dict[int, Script] = field(default_factory=dict)
    events: dict[int, Event] = field(default_factory=dict)
    removed: list[tuple[str, float, float]] = field(default_factory=list)  # printers that the router does not have
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.numbers = itertools.count(1)
        self._runs: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._heard: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
        self._seen: set[int] = set()
        self._seen_heard: set[tuple[int, str, str]] = set()
        self.excused: Counter[str] = Counter()

    # -- entries -------------------------------------------------------------------------------------------------

    def script(
        self, stream: str, printer: str, at: float, *, waits: bool = False, caller: str = "", was_sent: bool = True
    ) -> int:
        """A script is about to be sent; its number."""
        number = next(self.numbers)
        self.scripts[number] = Script(stream, printer, at, waits, caller, was_sent)
        return number

    def event(self, stream: str, name: str, at: float, *, caller: str = "") -> int:
        """An event is about to be triggered; its number."""
        number = next(self.numbers)
        self.events[number] = Event(stream, name, at, caller=caller)
        return number

    def answered(self, number: int, answer: Answer, at: float, handlers: int | None = None) -> None:
        """What the caller was told."""
        job = self.scripts.get(number) or self.events[number]
        job.answer, job.answered_at = answer, at
        if isinstance(job, Event):
            job.handlers = handlers

    def ran(self, printer: str, number: int, at: float) -> None:
        """A printer has run a script."""
        self._runs[printer].append((number, at))
        self._seen.add(number)

    def heard(self, printer: str, label: str, number: int, at: float) -> None:
        """A printer has run a handler of an event."""
        self._heard[printer, label].append((number, at))
        self._seen_heard.add((number, printer, label))

    def ran_for_certain(self, number: int) -> None:
        """Seen elsewhere than in the printer's log, whose last line is lost when a printer is killed."""
        self._seen.add(number)

    def heard_for_certain(self, printer: str, label: str, number: int) -> None:
        """Like `ran_for_certain`."""
        self._seen_heard.add((number, printer, label))

    # -- scripts: each is a count that must be 0 -----------------------------------------------------------------

    def lost(self) -> int:
        """Answered with success, but never run."""
        return self._complain("lost", (n for n in self._answered(Answer.DONE) if n not in self._seen))

    def ghosts(self) -> int:
        """Refused, but run all the same."""
        return self._complain("ghost", (n for n in self._answered(Answer.REFUSED) if n in self._seen))

    def doubled(self) -> int:
        """Run twice."""
        runs = Counter(number for entries in self._runs.values() for number, _ in entries)
        return self._complain("doubled", (number for number, count in runs.items() if count > 1))

    def astray(self) -> int:
        """Run on another printer than it was sent to, or sent by nobody."""
        return self._complain(
            "astray",
            (
                number
                for printer, entries in self._runs.items()
                for number, _ in entries
                if number not in self.scripts or self.scripts[number].printer != printer
            ),
        )

    def out_of_order(self) -> int:
        """Run after one that the same sender sent to the same printer later."""
        return sum(
            self._disorder(printer, [number for number, _ in entries if number in self.scripts], self._stream)
            for printer, entries in self._runs.items()
        )

    def unanswered(self) -> int:
        """A client that was there all the time waits still."""
        waiting = (n for n, script in self.scripts.items() if script.answer is None and not script.caller)
        return self._complain("unanswered", waiting)

    def silent(self) -> int:
        """Sent by a macro, and neither run nor refused, although its caller could be told all the time."""
        witnesses = self._witnesses()
        unknown = [
            number
            for number, script in self.scripts.items()
            if script.caller and script.was_sent and script.answer is None and number not in self._seen
        ]
        wrong = [number for number in unknown if not self._caller_was_away(self.scripts[number], witnesses)]
        self.excused["scripts lost with their caller's link"] += len(unknown) - len(wrong)
        return self._complain("silent", wrong)

    def served_though_removed(self) -> int:
        """Sent and done while the router did not have the printer."""
        return self._complain(
            "served though removed",
            (
                number
                for printer, since, until in self.removed
                for number, script in self.scripts.items()
                if script.printer == printer and script.sent_at > since and not script.waits
                if script.answer is Answer.DONE and script.answered_at < until
            ),
        )

    # -- events --------------------------------------------------------------------------------------------------

    def events_lost(self) -> int:
        """Of the handlers that were started, those that did not run although their printer was there all the time."""
        witnesses = self._witnesses()
        heard = Counter(number for number, _, _ in self._seen_heard)
        lost = 0
        for number, event in self.events.items():
            missing = (event.handlers or 0) - heard[number]
            if missing <= 0:
                continue
            excused = sum(
                self.breaks.overlap(printer, event.sent_at, witnesses.first(printer, event.answered_at))
                for printer, label in self.handlers[event.name]
                if (number, printer, label) not in self._seen_heard
            )
            self.excused["event handlers lost with their link"] += min(missing, excused)
            if missing > excused:
                lost += missing - excused
                self._complain("event lost", [number])
        return lost

    def events_ghosts(self) -> int:
        """Handlers that ran beyond those that were started."""
        heard = Counter(number for number, _, _ in self._seen_heard)
        return self._complain(
            "event ghost",
            (n for n, event in self.events.items() if event.handlers is not None and heard[n] > event.handlers),
        )

    def events_doubled(self) -> int:
        """One handler ran twice for one event."""
        return sum(
            self._complain("event doubled", (n for n, count in Counter(n for n, _ in entries).items() if count > 1))
            for entries in self._heard.values()
        )

    def events_out_of_order(self) -> int:
        """A handler ran for an event after it did for a later one of the same sender."""
        return sum(
            self._disorder(printer, [number for number, _ in entries if number in self.events], self._event_stream)
            for (printer, _), entries in self._heard.items()
        )

    def events_unanswered(self) -> int:
        """Triggered by a client that was there all the time, and not answered."""
        waiting = (n for n, event in self.events.items() if event.answer is None and not event.caller)
        return self._complain("event unanswered", waiting)

    # -- what happened, for the report ---------------------------------------------------------------------------

    def figures(self) -> dict[str, int]:
        """How many of each kind; after the counts that must be 0."""
        sent = [script for script in self.scripts.values() if script.was_sent]
        answers = Counter(script.answer for script in sent)
        events = Counter(event.answer for event in self.events.values())
        return {
            "scripts sent": len(sent),
            "scripts sent by macros": sum(bool(script.caller) for script in sent),
            "scripts run": len(self._seen),
            "scripts done": answers[Answer.DONE],
            "scripts answered with an error": answers[Answer.REFUSED],
            "scripts uncertain (link lost under way)": answers[Answer.UNCERTAIN],
            "scripts whose caller was gone": answers[Answer.GONE] + answers[None],
            "events sent": len(self.events),
            "events done": events[Answer.DONE],
            "events answered with an error": events[Answer.REFUSED] + events[Answer.UNCERTAIN],
            "event handlers started": sum(event.handlers or 0 for event in self.events.values()),
            "event handlers run": len(self._seen_heard),
            **self.excused,
        }

    # -- how -----------------------------------------------------------------------------------------------------

    def _answered(self, answer: Answer) -> Iterable[int]:
        return (number for number, script in self.scripts.items() if script.answer is answer)

    def _stream(self, number: int) -> str:
        return self.scripts[number].stream

    def _event_stream(self, number: int) -> str:
        return self.events[number].stream

    def _disorder(self, printer: str, numbers: list[int], stream_of: Callable[[int], str]) -> int:
        newest: dict[str, int] = {}
        wrong = []
        for number in numbers:
            stream = stream_of(number)
            if number < newest.get(stream, 0):
                wrong.append(number)
            newest[stream] = max(number, newest.get(stream, 0))
        return self._complain(f"out of order on {printer}", wrong)

    def _witnesses(self) -> Witnesses:
        """Scripts that waited for nothing but their turn."""
        witnesses = Witnesses()
        for printer, entries in self._runs.items():
            for number, at in entries:
                script = self.scripts.get(number)
                if script is not None and not script.waits and not script.caller:
                    witnesses.add(printer, script.sent_at, at)
        return witnesses

    def _caller_was_away(self, script: Script, witnesses: Witnesses) -> bool:
        """Whether the word of a script's failure may have found its caller out of reach."""
        # Its turn came before that of a later script; or it was lost with a break of its printer, which ends with a new
        # connection. The answer is on its way a little longer than the line in the printer's log.
        decided_at = min(
            witnesses.first(script.printer, script.sent_at), self.breaks.end_of_next(script.printer, script.sent_at)
        )
        return self.breaks.overlap(
            script.caller, script.sent_at, witnesses.first(script.caller, decided_at + ANSWER_WITHIN_S)
        )

    def _complain(self, what: str, numbers: Iterable[int]) -> int:
        """Count them; the first ones are told with all that is known of them."""
        numbers = list(numbers)
        for number in numbers[:DETAILED]:
            job = self.scripts.get(number) or self.events.get(number)
            runs = [(p, round(at, 2)) for p, entries in self._runs.items() for n, at in entries if n == number]
            runs += [(p, round(at, 2)) for (p, _), entries in self._heard.items() for n, at in entries if n == number]
            self.complaints.append(f"{what}: {number} {job}, ran {runs}")
        return len(numbers)
