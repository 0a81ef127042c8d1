"""Heaters and temperatures: M105, TURN_OFF_HEATERS, TEMPERATURE_WAIT (klippy/extras/heaters.py)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..config import Section
from ..errors import CommandError, ConfigError
from ..gcode import GCode
from ..gcode_command import GCodeCommand
from ..motion.toolhead import Toolhead
from ..pins import Pins
from ..printer import MESSAGE_SHUTDOWN, Printer, Status
from .query_adc import QueryAdc
from .sensors import SENSORS, THERMISTORS
from .thermal import BED, HOTEND, Thermal, ThermalState

KELVIN_TO_CELSIUS = -273.15
REPORT_S = 1.0
HINT_ADC = """
This generally occurs when a heater temperature exceeds
its configured min_temp or max_temp."""
# klippy/extras/heaters.py: ControlPID.check_busy
PID_SETTLE_DELTA_C = 1.0
PID_SETTLE_SLOPE = 0.1


@runtime_checkable
class Sensor(Protocol):
    """What has a temperature: a heater, a temperature_sensor, a temperature_fan."""

    def get_temp(self, eventtime: float) -> tuple[float, float]: ...


class Heater:
    def __init__(self, section: Section, model: Thermal) -> None:
        self.printer = section.printer
        self.name = section.name
        self.short_name = section.own_name
        self.min_temp = section.getfloat("min_temp", minval=KELVIN_TO_CELSIUS)
        self.max_temp = section.getfloat("max_temp", above=self.min_temp)
        self.min_extrude_temp = section.getfloat("min_extrude_temp", 170.0, minval=self.min_temp, maxval=self.max_temp)
        max_power = section.getfloat("max_power", 1.0, above=0.0, maxval=1.0)
        section.getfloat("smooth_time", 1.0, above=0.0)
        self._max_delta: float | None = None  # of a watermark control; None is pid
        self.pid: tuple[float, float, float] | None = None
        if section.getchoice("control", ("watermark", "pid")) == "watermark":
            self._max_delta = section.getfloat("max_delta", 2.0, above=0.0)
        else:
            self.pid = (section.getfloat("pid_Kp"), section.getfloat("pid_Ki"), section.getfloat("pid_Kd"))
        self.printer.lookup(Pins, "pins").use(section.get("heater_pin"))
        section.getfloat("pwm_cycle_time", 0.1, above=0.0)
        self.thermal = ThermalState(model, self.printer.reactor.now(), max_power)
        self.target = 0.0
        self.printer.load_object(section.config, f"verify_heater {self.short_name}")
        self.printer.load_object(section.config, "pid_calibrate")
        self.printer.lookup(GCode, "gcode").register_mux(
            "SET_HEATER_TEMPERATURE", "HEATER", self.short_name, self._cmd_set, "Sets a heater temperature"
        )
        self.printer.on("klippy:shutdown", lambda: self.thermal.set_target(0.0, self.printer.reactor.now()))

    def set_temp(self, degrees: float) -> None:
        if degrees and not self.min_temp <= degrees <= self.max_temp:
            raise CommandError(
                f"Requested temperature ({degrees:.1f}) out of range ({self.min_temp:.1f}:{self.max_temp:.1f})"
            )
        if degrees != self.target:
            self.target = degrees
            self.thermal.set_target(degrees, self.printer.reactor.now())
            self.printer.send_event("virtual:heater_target", self)

    def get_temp(self, eventtime: float) -> tuple[float, float]:
        return self.thermal.temperature(eventtime), self.target

    def set_sensor(self, degrees: float) -> None:
        """For VIRTUAL_SENSOR. Out of range, the micro-controller stops the printer, as a broken sensor makes it."""
        self.thermal.force(degrees, self.printer.reactor.now())
        stop_if_out_of_range(self.printer, self.name, degrees, self.min_temp, self.max_temp)

    @property
    def can_extrude(self) -> bool:
        if self.min_extrude_temp <= 0.0:
            return True
        return self.thermal.temperature(self.printer.reactor.now()) >= self.min_extrude_temp

    def check_busy(self, eventtime: float) -> bool:
        temperature = self.thermal.temperature(eventtime)
        if self._max_delta is not None:
            return temperature < self.target - self._max_delta
        return (
            abs(self.target - temperature) > PID_SETTLE_DELTA_C or abs(self.thermal.slope(eventtime)) > PID_SETTLE_SLOPE
        )

    def get_status(self, eventtime: float) -> Status:
        return {
            "temperature": round(self.thermal.temperature(eventtime), 2),
            "target": self.target,
            "power": round(self.thermal.power(eventtime), 3),
        }

    def _cmd_set(self, command: GCodeCommand) -> None:
        heaters = self.printer.lookup(Heaters, "heaters")
        heaters.set_temperature(self, command.get_float("TARGET", 0.0))


class Heaters:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer
        self.heaters: dict[str, Heater] = {}
        self.available_heaters: list[str] = []
        self.available_sensors: list[str] = []
        self.available_monitors: list[str] = []
        self._by_gcode_id: dict[str, Sensor] = {}
        self._started = False
        gcode = printer.lookup(GCode, "gcode")
        gcode.register("TURN_OFF_HEATERS", lambda command: self.turn_off_all(), "Turn off all heaters")
        gcode.register("M105", self._cmd_m105, always=True)
        printer.on("klippy:ready", self._on_ready)
        printer.on("gcode:request_restart", lambda print_time: self.turn_off_all())

    def _on_ready(self) -> None:
        self._started = True

    def setup_heater(self, section: Section, model: Thermal, gcode_id: str | None = None) -> Heater:
        if section.own_name in self.heaters:
            raise ConfigError(f"Heater {section.own_name} already registered")
        read_sensor(section)
        heater = Heater(section, model)
        self.heaters[heater.short_name] = heater
        self.register_sensor(section, heater, gcode_id)
        self.available_heaters.append(section.name)
        return heater

    def lookup_heater(self, name: str) -> Heater:
        if name not in self.heaters:
            raise ConfigError(f"Unknown heater '{name}'")
        return self.heaters[name]

    def register_sensor(self, section: Section, sensor: Sensor, gcode_id: str | None = None) -> None:
        self.available_sensors.append(section.name)
        self.printer.lookup(GCode, "gcode").register_mux(
            "TEMPERATURE_WAIT",
            "SENSOR",
            section.name,
            lambda command: self._cmd_temperature_wait(command, sensor),
            "Wait for a temperature on a sensor",
        )
        if gcode_id is None:
            gcode_id = section.get("gcode_id", None)
        if gcode_id is None:
            return
        if gcode_id in self._by_gcode_id:
            raise ConfigError(f"G-Code sensor id {gcode_id} already registered")
        self._by_gcode_id[gcode_id] = sensor

    def get_status(self, eventtime: float) -> Status:
        return {
            "available_heaters": self.available_heaters,
            "available_sensors": self.available_sensors,
            "available_monitors": self.available_monitors,
        }

    def turn_off_all(self) -> None:
        for heater in self.heaters.values():
            heater.set_temp(0.0)

    def set_temperature(self, heater: Heater, degrees: float) -> None:
        # Klipper orders it after the queued moves, which wakes the toolhead: idle_timeout becomes "Printing".
        self.printer.lookup(Toolhead, "toolhead").get_last_move_time()
        heater.set_temp(degrees)

    async def set_temperature_and_wait(self, heater: Heater, degrees: float) -> None:
        self.set_temperature(heater, degrees)
        if not degrees:
            return
        reactor = self.printer.reactor
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        now = reactor.now()
        while not self.printer.is_shutdown and heater.check_busy(now):
            toolhead.get_last_move_time()
            self.printer.lookup(GCode, "gcode").respond_raw(self.report(now))
            now = await reactor.pause(now + REPORT_S)

    def report(self, eventtime: float) -> str:
        """As M105: `B:25.0 /60.0 T0:200.1 /200.0`."""
        words = []
        if self._started:
            for gcode_id, sensor in sorted(self._by_gcode_id.items()):
                temperature, target = sensor.get_temp(eventtime)
                words.append(f"{gcode_id}:{temperature:.1f} /{target:.1f}")
        return " ".join(words) or "T:0"

    def _cmd_m105(self, command: GCodeCommand) -> None:
        message = self.report(self.printer.reactor.now())
        if not command.ack(message):
            command.respond_raw(message)

    async def _cmd_temperature_wait(self, command: GCodeCommand, sensor: Sensor) -> None:
        low = command.get_float("MINIMUM", float("-inf"))
        high = command.get_float("MAXIMUM", float("inf"), above=low)
        if low == float("-inf") and high == float("inf"):
            raise CommandError("Error on 'TEMPERATURE_WAIT': missing MINIMUM or MAXIMUM.")
        reactor = self.printer.reactor
        toolhead = self.printer.lookup(Toolhead, "toolhead")
        now = reactor.now()
        while not self.printer.is_shutdown and not low <= sensor.get_temp(now)[0] <= high:
            toolhead.get_last_move_time()
            command.respond_raw(self.report(now))
            now = await reactor.pause(now + REPORT_S)


def stop_if_out_of_range(printer: Printer, name: str, degrees: float, low: float, high: float) -> None:
    """klippy/extras/adc_temperature.py and error_mcu.py: what a sensor outside of its limits ends in."""
    if low <= degrees <= high:
        return
    printer.invoke_shutdown(
        "MCU shutdown",
        f"MCU 'mcu' shutdown: ADC out of range\n\nSensor '{name}' temperature {degrees:.3f} not in range"
        f" {low:.3f}:{high:.3f}\n{HINT_ADC}{MESSAGE_SHUTDOWN}",
    )


def read_sensor(section: Section) -> None:
    """The sensor's type and pin: checked, without effect."""
    sensor_type = section.get("sensor_type")
    config = section.config
    if sensor_type not in SENSORS and not any(
        config.has_section(f"{module} {sensor_type}") for module in ("thermistor", "adc_temperature")
    ):
        raise ConfigError(f"Unknown temperature sensor '{sensor_type}'")
    if sensor_type in THERMISTORS or config.has_section(f"thermistor {sensor_type}"):
        section.getfloat("pullup_resistor", 4700.0, above=0.0)
        section.getfloat("inline_resistor", 0.0, minval=0.0)
    pin = section.get("sensor_pin", None)
    if pin is not None:
        section.printer.lookup(Pins, "pins").use(pin, can_invert=False)
        section.printer.require(QueryAdc, config, "query_adc").add(section.name)


def load(section: Section) -> Heaters:
    return Heaters(section.printer)


class HeaterBed:
    """[heater_bed] with M140 and M190 (klippy/extras/heater_bed.py)."""

    def __init__(self, section: Section) -> None:
        self._heaters = section.printer.require(Heaters, section.config, "heaters")
        self._heater = self._heaters.setup_heater(section, BED, "B")
        gcode = section.printer.lookup(GCode, "gcode")
        gcode.register("M140", lambda c: self._heaters.set_temperature(self._heater, c.get_float("S", 0.0)))
        gcode.register("M190", lambda c: self._heaters.set_temperature_and_wait(self._heater, c.get_float("S", 0.0)))

    def get_status(self, eventtime: float) -> Status:
        return self._heater.get_status(eventtime)

    def get_temp(self, eventtime: float) -> tuple[float, float]:
        return self._heater.get_temp(eventtime)

    def set_sensor(self, degrees: float) -> None:
        self._heater.set_sensor(degrees)


def load_bed(section: Section) -> HeaterBed:
    return HeaterBed(section)


def load_generic(section: Section) -> Heater:
    return section.printer.require(Heaters, section.config, "heaters").setup_heater(section, HOTEND)
