"""Which pins a configuration uses: their spelling, and that none is used twice (klippy/pins.py).

Which pins a board has is the firmware's knowledge; any name goes here.
"""

from __future__ import annotations

from .errors import ConfigError


class Pins:
    def __init__(self) -> None:
        self._chips: set[str] = set()
        self._used: set[tuple[str, str]] = set()

    def register_chip(self, name: str) -> None:
        if name in self._chips:
            raise ConfigError(f"Duplicate chip name '{name}'")
        self._chips.add(name)

    def use(self, description: str, *, can_invert: bool = True, can_pullup: bool = False, shared: bool = False) -> str:
        """Note the use of `[^~][!][chip:]pin`. Returns `chip:pin`. Raises ConfigError."""
        chip, pin = self.parse(description, can_invert=can_invert, can_pullup=can_pullup)
        if (chip, pin) in self._used and not shared:
            raise ConfigError(f"pin {pin} used multiple times in config")
        self._used.add((chip, pin))
        return f"{chip}:{pin}"

    def parse(self, description: str, *, can_invert: bool, can_pullup: bool) -> tuple[str, str]:
        text = description.strip()
        if can_pullup and text[:1] in ("^", "~"):
            text = text[1:].strip()
        if can_invert and text.startswith("!"):
            text = text[1:].strip()
        chip, pin = [part.strip() for part in text.split(":", 1)] if ":" in text else ("mcu", text)
        if chip not in self._chips:
            raise ConfigError(f"Unknown pin chip name '{chip}'")
        if any(c in pin for c in "^~!:") or len(pin.split()) > 1:
            form = ("[^~] " if can_pullup else "") + ("[!] " if can_invert else "")
            raise ConfigError(f"Invalid pin description '{description}'\nFormat is: {form}[chip_name:] pin_name")
        return chip, pin
