"""[pause_resume]: PAUSE, RESUME, CANCEL_PRINT and their endpoints (klippy/extras/pause_resume.py)."""

from __future__ import annotations

from ..config import Section
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..printer import Status
from ..webhooks import WebHooks
from .virtual_sdcard import VirtualSdCard


class PauseResume:
    def __init__(self, section: Section) -> None:
        self.printer = section.printer
        self._velocity = section.getfloat("recover_velocity", 50.0)
        self._is_paused = self._sd_paused = self._pause_sent = False
        self._gcode = gcode = self.printer.lookup(GCode, "gcode")
        gcode.register("PAUSE", self._cmd_pause, "Pauses the current print")
        gcode.register("RESUME", self._cmd_resume, "Resumes the print from a pause")
        gcode.register(
            "CLEAR_PAUSE",
            lambda command: self._clear(),
            "Clears the current paused state without resuming the print",
        )
        gcode.register("CANCEL_PRINT", self._cmd_cancel, "Cancel the current print")
        webhooks = self.printer.lookup(WebHooks, "webhooks")
        webhooks.register("pause_resume/cancel", lambda request: gcode.run_script("CANCEL_PRINT"))
        webhooks.register("pause_resume/pause", lambda request: gcode.run_script("PAUSE"))
        webhooks.register("pause_resume/resume", lambda request: gcode.run_script("RESUME"))

    @property
    def _card(self) -> VirtualSdCard | None:
        return self.printer.find(VirtualSdCard, "virtual_sdcard")

    def get_status(self, eventtime: float) -> Status:
        return {"is_paused": self._is_paused}

    async def send_pause_command(self) -> None:
        """Stop the print now; PAUSE may come later (a filament sensor does that)."""
        if self._pause_sent:
            return
        card = self._card
        if card is not None and card.is_active():
            self._sd_paused = True
            await card.do_pause()
        else:
            self._sd_paused = False
            self._gcode.respond_info("action:paused")
        self._pause_sent = True

    async def _cmd_pause(self, command: GCodeCommand) -> None:
        if self._is_paused:
            command.respond_info("Print already paused")
            return
        await self.send_pause_command()
        await self._gcode.run_script_from_command("SAVE_GCODE_STATE NAME=PAUSE_STATE")
        self._is_paused = True

    async def _cmd_resume(self, command: GCodeCommand) -> None:
        if not self._is_paused:
            command.respond_info("Print is not paused, resume aborted")
            return
        velocity = command.get_float("VELOCITY", self._velocity)
        await self._gcode.run_script_from_command(
            f"RESTORE_GCODE_STATE NAME=PAUSE_STATE MOVE=1 MOVE_SPEED={velocity:.4f}"
        )
        card = self._card
        if self._sd_paused and card is not None:
            card.do_resume()
            self._sd_paused = False
        else:
            self._gcode.respond_info("action:resumed")
        self._pause_sent = self._is_paused = False

    def _clear(self) -> None:
        self._is_paused = self._pause_sent = False

    async def _cmd_cancel(self, command: GCodeCommand) -> None:
        card = self._card
        if card is not None and (card.is_active() or self._sd_paused):
            await card.do_cancel()
        else:
            command.respond_info("action:cancel")
        self._clear()


def load(section: Section) -> PauseResume:
    return PauseResume(section)
