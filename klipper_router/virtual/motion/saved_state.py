"""What SAVE_GCODE_STATE keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .move import Position

if TYPE_CHECKING:
    from .gcode_move import GCodeMove


@dataclass(frozen=True)
class SavedState:
    absolute_coord: bool
    absolute_extrude: bool
    base_position: Position
    last_position: Position
    homing_position: Position
    speed: float
    speed_factor: float
    extrude_factor: float

    @classmethod
    def take(cls, move: GCodeMove) -> SavedState:
        return cls(
            absolute_coord=move.absolute_coord,
            absolute_extrude=move.absolute_extrude,
            base_position=list(move.base_position),
            last_position=list(move.last_position),
            homing_position=list(move.homing_position),
            speed=move.speed,
            speed_factor=move.speed_factor,
            extrude_factor=move.extrude_factor,
        )

    def restore(self, move: GCodeMove) -> None:
        move.absolute_coord = self.absolute_coord
        move.absolute_extrude = self.absolute_extrude
        move.base_position = list(self.base_position)
        move.homing_position = list(self.homing_position)
        move.speed = self.speed
        move.speed_factor = self.speed_factor
        move.extrude_factor = self.extrude_factor
        # What was extruded since stays extruded.
        move.base_position[3] += move.last_position[3] - self.last_position[3]
