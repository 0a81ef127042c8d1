"""The G-code that waits for one printer: in order, bounded, a few scripts under way at a time.

Pure: decides what is to be sent next, and keeps the account; `printer` sends. Klipper itself runs scripts first
come first served, but would take on any number of them, so all but `WINDOW` wait here, where they are counted.

Which spelling of a `Script` a Klipper can read is found out by the first one whose two spellings differ: it is sent
alone, and sent again in the plain spelling when Klipper refused the exact one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from klipper_router.errors import CallError, KlipperError, RouterError
from klipper_router.gcode import Script

# More would make Klipper's own users wait longer for their turn; fewer would leave a round trip unused.
WINDOW = 4
MAX_SCRIPTS = 1000
MAX_SCRIPT_BYTES = 8 * 1024 * 1024


@dataclass(eq=False, slots=True)
class Job:
    """One script for one printer.

    ``render`` is called when the turn comes, so that what is merged meanwhile goes along; None: no need any more. It
    may raise CallError: no right any more.
    ``done`` is called exactly once: with None, or with why the script did not run to its end.
    ``greets``: it belongs to what a printer that became ready is given before everything else.
    ``when_ready``: it waits until the printer is ready and greeted (others are left to Klipper to accept or refuse).
    ``outlives_link``: it waits for a lost connection to return, too.
    ``size_bytes``: what it counts against `MAX_SCRIPT_BYTES`; 0 for what is bounded by its maker.
    """

    render: Callable[[], Script | None]
    done: Callable[[RouterError | None], None]
    greets: bool = False
    when_ready: bool = False
    outlives_link: bool = False
    size_bytes: int = 0
    script: Script | None = field(default=None, init=False)  # once rendered
    sent: str = field(default="", init=False)  # what of it was sent last

    @classmethod
    def of(cls, script: Script, done: Callable[[RouterError | None], None]) -> Job:
        """A counted job for a script that is known already; an empty one counts, too."""
        return cls(lambda: script, done, size_bytes=max(1, len(script.exact)))


class ScriptQueue:
    """The waiting and the sent scripts of one printer."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._under_way: list[Job] = []
        self._counted = 0
        self._counted_bytes = 0
        self._reads_quotes: bool | None = None  # None: not known yet

    def __len__(self) -> int:
        return len(self._waiting) + len(self._under_way)

    def put(self, job: Job) -> None:
        """Take a job in. Raises CallError when there are too many: the job was not taken, `done` is not called."""
        if job.size_bytes:
            if job.size_bytes > MAX_SCRIPT_BYTES:
                raise CallError(f"a script of {job.size_bytes} bytes is too long, {MAX_SCRIPT_BYTES} are the most")
            if self._counted >= MAX_SCRIPTS or self._counted_bytes + job.size_bytes > MAX_SCRIPT_BYTES:
                raise CallError(f"its queue is full ({self._counted} scripts, {self._counted_bytes} bytes wait)")
            self._count(job, 1)
        self._waiting.append(job)

    def next(self, *, ready: bool, greeting: bool = False) -> tuple[Job, str] | None:
        """The job whose turn it is, and the G-code to send; it is under way from now on. None: nothing to send now.

        ``greeting``: the printer is ready, but not greeted yet; all else keeps its order behind that.
        """
        under_way = self._under_way
        while self._waiting and len(under_way) < WINDOW and not (under_way and self._is_trial(under_way[-1])):
            job = self._waiting[0] if ready and not greeting else self._first(ready, greeting)
            if job is None:
                return None
            refused: RouterError | None = None
            if job.script is None:
                try:
                    job.script = job.render()
                except CallError as error:
                    refused = error
            if job.script is None:
                self._remove(job)
                job.done(refused)
                continue
            if self._is_trial(job) and under_way:
                return None
            self._remove(job)
            under_way.append(job)
            job.sent = job.script.plain if self._reads_quotes is False else job.script.exact
            return job, job.sent
        return None

    def answered(self, job: Job, error: RouterError | None) -> str | None:
        """Klipper's answer to a job under way. Returns what is to be sent for it again, or None: it is done."""
        script = job.script
        if isinstance(error, KlipperError) and script is not None and job.sent == script.exact:
            rest = script.after_malformed(str(error))
            if rest is not None:
                job.sent = rest
                return rest
        if error is None and script is not None and script.exact != script.plain:
            # Only from a success: a line of a user that is malformed in either spelling tells nothing of this Klipper.
            if job.sent != script.exact:
                self._reads_quotes = False
            elif self._reads_quotes is None:
                self._reads_quotes = True
        self._under_way.remove(job)
        job.done(error)
        return None

    def give_up(self, job: Job, error: RouterError) -> None:
        """Its time to wait is over. No-op for a job that is under way or done."""
        if self.withdraw(job):
            job.done(error)

    def withdraw(self, job: Job) -> bool:
        """Take a waiting job back: neither rendered nor done. False when it is under way or done."""
        if job not in self._waiting:
            return False
        self._remove(job)
        return True

    def lose(self, error: RouterError) -> None:
        """The connection ended: what was under way may or may not have run, what waited did not."""
        self._reads_quotes = None
        under_way, self._under_way = self._under_way, []
        gone = [job for job in self._waiting if not job.outlives_link]
        for job in gone:
            self._remove(job)
        for job in under_way + gone:
            job.done(error)

    def close(self, error: RouterError) -> None:
        """The printer is no more: nothing outlives that."""
        for job in self._waiting:
            job.outlives_link = False
        self.lose(error)

    def _first(self, ready: bool, greeting: bool) -> Job | None:
        if greeting:
            return next((job for job in self._waiting if job.greets), None)
        return next((job for job in self._waiting if ready or not job.when_ready), None)

    def _is_trial(self, job: Job) -> bool:
        """Whether this job tells what Klipper can read, and so goes alone."""
        return self._reads_quotes is None and job.script is not None and job.script.exact != job.script.plain

    def _remove(self, job: Job) -> None:
        if self._waiting[0] is job:
            self._waiting.popleft()
        else:
            self._waiting.remove(job)
        if job.size_bytes:
            self._count(job, -1)

    def _count(self, job: Job, sign: int) -> None:
        self._counted += sign
        self._counted_bytes += sign * job.size_bytes
