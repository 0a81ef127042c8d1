"""One Klippy, kept linked for ever: redialled, identified, registered with, subscribed to, and given its G-code.

Knows one printer and nothing of the others: what it learns goes up through `Reports`, what the router wants of it
comes down as jobs, calls and subscriptions. The only place that redials.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import trio
from msgspec import Raw

from klipper_router import gcode, messages, printer_state
from klipper_router.config import KlippySection
from klipper_router.console import Console
from klipper_router.counters import Latency, PrinterCounters
from klipper_router.errors import CallError, KlipperError, LinkLost, ProtocolError, RouterError
from klipper_router.link import Answer, Dial, Link, OnAnswer
from klipper_router.messages import Objects, Status
from klipper_router.printer_state import Effect, PrinterState
from klipper_router.script_queue import Job, ScriptQueue
from klipper_router.status_feed import STATUS_METHOD, StatusFeed
from klipper_router.subscriptions import Subscription

log = logging.getLogger("klipper_router.printer")

Caller = TypeVar("Caller")

OUTPUT_METHOD = "router/output"

REDIAL_MIN_S = 0.1
# Low enough that a printer is back within 2 s of its socket, jitter included; a dial costs some 50 µs.
REDIAL_MAX_S = 1.0
REDIAL_JITTER = 0.2
# A Klippy that dies sooner than this, again and again, is not redialled faster and faster.
SETTLED_AFTER_S = 5.0
# A healthy Klippy answers `info` at once, whatever it is doing (its G-code does not hold it up).
IDENTIFY_WITHIN_S = 10.0
PING_AFTER_S = 5.0
PING_WITHIN_S = 10.0

_INFO = msgspec.json.Decoder(messages.Info)
_OUTPUT = msgspec.json.Decoder(messages.OutputParams)
_HELP = msgspec.json.Decoder(dict[str, Raw])


OnLine = Callable[[str], None]


class Reports(Protocol[Caller]):
    """What a printer tells its router. All are called synchronously from the printer's reader: they must not wait."""

    def remote_call(self, printer: Printer[Caller], method: str, params: bytes) -> None:
        """A macro of this printer called a remote method."""

    def effect(self, printer: Printer[Caller], effect: Effect) -> None:
        """The printer's life took a step (GREET is the printer's own business, and not reported)."""

    def news(self, printer: Printer[Caller], subscription: Subscription[Caller]) -> None:
        """A subscription on this printer has something to deliver."""


class Printer(Generic[Caller]):
    """A printer of the configuration. ``methods`` are registered on its Klippy at each connection.

    ``section`` may be replaced at any time; `redial` makes a new socket count at once.
    """

    def __init__(
        self,
        name: str,
        section: KlippySection,
        *,
        dial: Dial,
        methods: Sequence[str],
        client_info: dict[str, str],
        reports: Reports[Caller],
    ) -> None:
        self.name = name
        self.section = section
        self.state = PrinterState()
        self.counters = PrinterCounters()
        self.callback_latency = Latency()  # of status callbacks on it: from the change to Klipper's answer
        self.scripts = ScriptQueue()
        self.feed: StatusFeed[Caller] = StatusFeed(name, self._on_status, lambda news: reports.news(self, news))
        self._dial = dial
        self._methods = methods
        self._client_info = client_info
        self._reports = reports
        self._link: Link | None = None
        self._commands: frozenset[str] = frozenset()
        self._console = Console()
        self._console_queued = False
        self._listeners: list[OnLine] = []
        self._hooks: dict[tuple[str, str], Job] = {}
        self._pumping = self._pump_again = False
        self._nursery: trio.Nursery | None = None
        self._early_waits: list[Callable[[], Awaitable[None]]] = []  # of scripts that came before `keep_linked` began
        self._ended = False
        self._link_scope = trio.CancelScope()

    # -- what the router asks of it ------------------------------------------------------------------------------

    @property
    def calls_under_way(self) -> int:
        """How many calls its Klippy has not answered yet."""
        return self._link.calls_under_way if self._link is not None else 0

    def defines(self, command: str) -> bool:
        """Whether the printer has this command, as far as it is known (always known once it is ready)."""
        return command.upper() in self._commands

    def run(self, job: Job, wait_s: float = 0.0) -> None:
        """Queue a script. With ``wait_s`` it may wait that long for the printer to become ready.

        Raises CallError when the printer is not connected and there is no time to wait, or the queue is full.
        """
        if wait_s > 0:
            self._run_in_time(job, wait_s)
            return
        if not self.state.connected:
            raise CallError(f"{self.name} is not connected: {self.state.message}")
        self._put(job)

    def run_hook(self, macro: str, parameters: Sequence[tuple[str, str]]) -> None:
        """Run one of the macros that a printer may define; nothing is run where it does not define it.

        It takes the place of the same hook about the same printer (the first parameter) that still waits: a busy
        printer may have to be told of another that comes and goes for hours, and the newest is what it needs.
        """
        key = (macro, parameters[0][1])
        if waiting := self._hooks.pop(key, None):
            self.scripts.withdraw(waiting)

        def done(error: RouterError | None) -> None:
            if self._hooks.get(key) is job:
                del self._hooks[key]
            if error is not None and not isinstance(error, LinkLost):
                log.warning("%s: %s failed: %s", self.name, macro, error)

        job = self._hooks[key] = Job(lambda: self._hook(macro, parameters), done, when_ready=True)
        self._put(job)

    def _hook(self, macro: str, parameters: Sequence[tuple[str, str]] = ()) -> gcode.Script | None:
        return gcode.command_line(macro, parameters) if self.defines(macro) else None

    def tell_console(self, text: str) -> None:
        """Show an error to whoever watches this printer's console; the oldest is dropped when too many wait."""
        if not self.state.connected:
            return  # whoever calls this has logged it
        self.counters.drops += self._console.add(text)
        if not self._console_queued:
            self._queue_console()

    def call(self, method: str, params: Any, on_answer: OnAnswer) -> None:
        """Call an endpoint of its Klippy; ``on_answer`` is called exactly once."""
        if self._link is None:
            on_answer(CallError(f"{self.name} is not connected: {self.state.message}"))
        else:
            self._link.post(method, params, on_answer)

    def listen(self, on_line: OnLine) -> Callable[[], None]:
        """Have each line of this printer's console told to ``on_line``; returns what ends it."""
        self._listeners.append(on_line)
        if len(self._listeners) == 1 and self._link is not None:
            self._subscribe_output(self._link)
        return lambda: self._listeners.remove(on_line)

    def _subscribe_output(self, link: Link) -> None:
        # Klipper has no way to end it (webhooks.py GCodeHelper) but the end of the connection.
        link.post("gcode/subscribe_output", {"response_template": {"method": OUTPUT_METHOD}}, self._output_subscribed)

    def _output_subscribed(self, answer: Answer) -> None:
        if isinstance(answer, KlipperError):
            log.error("%s: its console cannot be listened to: %s", self.name, answer)

    def follow(self, caller: Caller, callback: str, objects: Objects) -> Subscription[Caller]:
        """Let ``callback`` of ``caller`` follow objects of this printer. Raises CallError when there are too many."""
        subscription = self.feed.following.subscribe(caller, callback, objects)
        if subscription.has_news:
            self._reports.news(self, subscription)
        self.feed.refresh()
        return subscription

    def unfollow(self, caller: Caller, callback: str | None = None) -> int:
        """End the caller's subscription with this callback, or all of them; return how many there were."""
        gone = self.feed.following.unsubscribe(caller, callback)
        if gone:
            self.feed.refresh()
        return len(gone)

    # -- its life ------------------------------------------------------------------------------------------------

    async def keep_linked(self) -> None:
        """Connect, serve the connection, and begin again when it is lost; for ever."""
        delay_s = REDIAL_MIN_S
        async with trio.open_nursery() as self._nursery:
            for wait in self._early_waits:
                self._nursery.start_soon(wait)
            self._early_waits.clear()
            while not self._ended:  # it may be removed before this task has begun
                dialled_at = trio.current_time()
                was_connected, why = await self._link_once()
                if was_connected and trio.current_time() - dialled_at > SETTLED_AFTER_S:
                    delay_s = REDIAL_MIN_S
                elif not was_connected and why != self.state.message:
                    log.warning("%s: cannot connect to %s: %s (retrying)", self.name, self.section.sock, why)
                self._step(printer_state.lost(self.state, why))  # nothing happens, but for the reason
                await trio.sleep(delay_s * random.uniform(1 - REDIAL_JITTER, 1 + REDIAL_JITTER))
                delay_s = min(delay_s * 2, REDIAL_MAX_S)

    def redial(self, why: str) -> None:
        """Give up the connection, if there is one, and make a new one."""
        if self._link is not None:
            self._link.end(why)
        self._link_scope.cancel()  # also a connection that is not identified yet

    def end(self, why: str) -> None:
        """Be no more: the connection is closed, and everything that waits is told why."""
        lost = LinkLost(self.name, why)
        if self._link is not None:
            self._link.end(why)
            self._lose_link(lost, why)
        self.state = printer_state.lost(self.state, why)[0]
        self.scripts.close(lost)
        self._ended = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _link_once(self) -> tuple[bool, str]:
        """One connection from dial to end. Returns whether it came to be identified, and why it ended."""
        try:
            with trio.fail_after(IDENTIFY_WITHIN_S):
                stream = await self._dial(self.section.sock)
        except (OSError, trio.TooSlowError) as error:
            return False, getattr(error, "strerror", None) or str(error) or "no answer to connect()"
        link = Link(self.name, stream, self._on_message, self.counters)
        async with trio.open_nursery() as nursery:
            self._link_scope = nursery.cancel_scope

            async def live(*, task_status: trio.TaskStatus[None]) -> None:
                try:
                    await link.run(task_status=task_status)
                finally:
                    nursery.cancel_scope.cancel()

            await nursery.start(live)
            try:
                with trio.fail_after(IDENTIFY_WITHIN_S):
                    await self._begin(link)
                while True:
                    await self._notice_silence(link)
            except trio.TooSlowError:
                link.end(f"accepts connections but does not answer (for {IDENTIFY_WITHIN_S:g} s)")
            except RouterError as error:
                link.end(str(error))
            nursery.cancel_scope.cancel()
        assert link.lost is not None
        why = str(link.lost).removeprefix(f"connection to {self.name} lost: ")
        was_connected = self._link is link
        if was_connected:
            self._lose_link(link.lost, why)
        return was_connected, why

    async def _begin(self, link: Link) -> None:
        """Identify ourselves, register, subscribe. From the first answer on, the printer counts as connected."""
        info = messages.decode(await link.call("info", {"client_info": self._client_info}), _INFO)
        self._link = link
        self.counters.connections += 1
        log.info("%s: connected, %s (%s)", self.name, info.state, info.software_version or "unknown version")
        # At once, not when ready: macros with an initial_duration call within seconds, and registrations stay.
        for method in self._methods:
            link.post(
                "register_remote_method",
                {"remote_method": method, "response_template": {"remote_method": method}},
                lambda answer, method=method: self._registered(method, answer),  # type: ignore[misc]
            )
        if info.state != "ready":  # else `_greet` does it
            link.post("gcode/help", {}, self._learn_commands)
        if self._listeners:
            self._subscribe_output(link)
        self._step(printer_state.identified(self.state, info.state, info.state_message))
        self.feed.open(link)

    def _registered(self, method: str, answer: Answer) -> None:
        if isinstance(answer, KlipperError):
            log.error("%s: cannot register %s: %s", self.name, method, answer)

    def _learn_commands(self, answer: Answer) -> None:
        if isinstance(answer, RouterError):
            return
        try:
            self._commands = frozenset(messages.decode(answer, _HELP).keys())
        except ProtocolError as error:
            log.error("%s: gcode/help: %s", self.name, error)

    async def _notice_silence(self, link: Link) -> None:
        """Wait a while, and ask a Klippy that was silent all along whether it is there."""
        received = self.counters.frames_in
        await trio.sleep(PING_AFTER_S)
        self.feed.refresh()  # does nothing, unless the last subscription failed
        if self.counters.frames_in != received:
            return
        with trio.move_on_after(PING_WITHIN_S) as patience:
            try:
                await link.call("info", {})
            except KlipperError:
                pass  # a sign of life, too
            except CallError:
                await trio.sleep_forever()  # it cannot be asked; but when it is alive, it answers one of so many calls
        if patience.cancelled_caught and self.counters.frames_in == received:
            link.end(f"no sign of life for {PING_AFTER_S + PING_WITHIN_S:g} s")
            raise LinkLost(self.name, "silent")

    def _lose_link(self, lost: LinkLost, why: str) -> None:
        log.warning("%s: connection lost: %s", self.name, why)
        self._link = None
        step = printer_state.lost(self.state, why)
        self.state = step[0]  # first: what fails below must not be told, or run, in the printer's next life
        self._commands = frozenset()
        self._console.clear()
        self._console_queued = False
        self.feed.close()
        self.scripts.lose(lost)
        self._step(step)

    # -- what comes from Klipper ---------------------------------------------------------------------------------

    def _on_message(self, message: messages.FromKlippy) -> None:
        if message.method == STATUS_METHOD:
            self.feed.update(bytes(message.params))
        elif message.method == OUTPUT_METHOD:
            self._on_output(bytes(message.params))
        elif message.remote_method:
            self._reports.remote_call(self, message.remote_method, bytes(message.params))
        else:
            log.warning("%s: skipped a message that nobody asked for: %r", self.name, message.method)

    def _on_output(self, params: bytes) -> None:
        try:
            line = messages.decode(params, _OUTPUT).response
        except ProtocolError as error:
            log.warning("%s: skipped a line of its console: %s", self.name, error)
            return
        for on_line in tuple(self._listeners):
            on_line(line)

    def _on_status(self, status: Status) -> bool:
        webhooks = status.get("webhooks", {})
        message = webhooks.get("state_message")
        text = gcode.parameter_text(message) if message is not None else self.state.message
        state = webhooks.get("state")
        if state is not None and state != b"null":
            self._step(printer_state.changed(self.state, gcode.parameter_text(state), text))
        return self.state.has_objects

    def _step(self, step: printer_state.Step) -> None:
        before = self.state
        self.state, effects = step
        for effect in effects:
            if effect is Effect.STATE and before.connected:
                log.info("%s: %s", self.name, self.state.state)
            if effect is Effect.GREET:
                self._greet(had_objects=before.has_objects)
            else:
                self._reports.effect(self, effect)
        self._pump()

    # -- ready: on_connect, ROUTER_ON_READY ----------------------------------------------------------------------

    def _greet(self, *, had_objects: bool) -> None:
        """The printer is ready: learn its macros anew, take a full snapshot, run its on_connect and ROUTER_ON_READY."""
        link = self._link
        assert link is not None
        if not had_objects:
            self.feed.objects_appeared()

        def learned(answer: Answer) -> None:
            if self._link is not link or not self.state.ready:
                return
            self._learn_commands(answer)
            if on_connect := self.section.on_connect:
                self._put(Job(lambda: gcode.Script.of(on_connect), self._on_connect_done, greets=True))
            self._put(Job(lambda: self._hook("ROUTER_ON_READY"), self._on_ready_done, greets=True))

        link.post("gcode/help", {}, learned)

    def _on_ready_done(self, error: RouterError | None) -> None:
        if isinstance(error, LinkLost):
            return
        if error is not None:
            log.warning("%s: ROUTER_ON_READY failed: %s", self.name, error)
        self._step(printer_state.greeted(self.state))

    def _on_connect_done(self, error: RouterError | None) -> None:
        if error is not None and not isinstance(error, LinkLost):
            log.warning("%s: on_connect failed: %s", self.name, error)

    # -- the queue -----------------------------------------------------------------------------------------------

    def _put(self, job: Job) -> None:
        """Queue a job. Raises CallError only when it is a counted one."""
        self.scripts.put(job)
        self._pump()

    def _pump(self) -> None:
        """Send what may be sent now."""
        self._pump_again = True
        if self._pumping:
            return  # from below: a job may be done at once, and a thousand may wait behind it
        self._pumping = True
        try:
            while self._pump_again:
                self._pump_again = False
                while (link := self._link) is not None and link.lost is None:
                    greeting = self.state.ready and not self.state.announced
                    turn = self.scripts.next(ready=self.state.announced, greeting=greeting)
                    if turn is None:
                        break
                    self._send(link, *turn)
        finally:
            self._pumping = False

    def _send(self, link: Link, job: Job, script: str) -> None:
        def answered(answer: Answer) -> None:
            if isinstance(answer, LinkLost):
                return  # `_lose_link` tells the job
            again = self.scripts.answered(job, answer if isinstance(answer, RouterError) else None)
            if again is not None:
                self._send(link, job, again)
            else:
                self.counters.script_errors += isinstance(answer, RouterError)
            self._pump()

        self.counters.scripts += 1
        link.post("gcode/script", {"script": script}, answered)

    def _run_in_time(self, job: Job, wait_s: float) -> None:
        """The wait is for readiness: a script that waits for its turn on a ready printer keeps its place."""
        over = trio.CancelScope()
        tell = job.done

        def done(error: RouterError | None) -> None:
            over.cancel()
            tell(error)

        async def end_of_wait() -> None:
            with over:
                await trio.sleep(wait_s)
                if self.state.announced:
                    job.when_ready = job.outlives_link = False
                    return
                why = "its ROUTER_ON_READY is not done" if self.state.ready else self.state.message
                self.scripts.give_up(job, CallError(f"{self.name} was not ready within {wait_s:g} s: {why}"))

        job.done = done
        job.when_ready = job.outlives_link = True
        self.scripts.put(job)
        if self._nursery is not None:
            self._nursery.start_soon(end_of_wait)
        else:
            self._early_waits.append(end_of_wait)
        self._pump()

    # -- the console ---------------------------------------------------------------------------------------------

    def _queue_console(self) -> None:
        self._console_queued = True
        self._put(Job(self._render_console, self._console_done))

    def _render_console(self) -> gcode.Script:
        return self._console.render(has_respond=self.defines("RESPOND"))

    def _console_done(self, error: RouterError | None) -> None:
        self._console_queued = False
        if isinstance(error, KlipperError):
            log.warning("%s: its console cannot be written to: %s", self.name, error)
        if self._console and not isinstance(error, LinkLost):
            self._queue_console()
