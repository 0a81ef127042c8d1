"""The simulated modules: which section of the configuration is served by what.

To simulate one more section of Klipper, write a module with a `load(section)` and add it to the table. A section that
is not in the table but exists in Klipper is accepted with a warning (config_reference.py).
"""

from __future__ import annotations

from collections.abc import Callable

from .. import mcu
from ..config import Config, Section
from ..configfile import PrinterConfig
from ..gcode import GCode
from ..motion import (
    arcs,
    bed_mesh,
    exclude_object,
    extruder,
    force_move,
    gcode_move,
    homing,
    leveling,
    manual_probe,
    manual_stepper,
    probe,
    report,
    safe_homing,
    screws,
    skew,
    tuning_tower,
)
from ..motion.toolhead import Toolhead
from ..pins import Pins
from ..printer import Printer
from ..status import StatusEndpoints
from ..webhooks import GCodeEndpoints, WebHooks
from . import (
    display_status,
    display_template,
    fans,
    filament,
    firmware_retraction,
    heaters,
    idle_timeout,
    input_shaper,
    leds,
    macros,
    outputs,
    passive,
    pause_resume,
    pid_calibrate,
    print_stats,
    query_adc,
    respond,
    save_variables,
    sdcard_loop,
    servo,
    switches,
    system_stats,
    temperature_probe,
    temperature_sensor,
    tmc,
    verify_heater,
    virtual_sdcard,
)

Loader = Callable[[Section], object]

# "name" is a section [name], "name *" a section [name something].
MODULES: dict[str, Loader] = {
    "adc_temperature *": passive.load,
    "bed_mesh": bed_mesh.load,
    "bltouch": probe.load,
    "board_pins *": passive.load,
    "board_pins": passive.load,
    "controller_fan *": fans.load_controller_fan,
    "delayed_gcode *": macros.load_delayed,
    "display_status": display_status.load,
    "display_template *": display_template.load,
    "dotstar *": leds.load_dotstar,
    "duplicate_pin_override": passive.load,
    "exclude_object": exclude_object.load,
    "extruder_stepper *": extruder.load_stepper,
    "fan": outputs.load_fan,
    "fan_generic *": fans.load_generic,
    "filament_motion_sensor *": filament.load_motion,
    "filament_switch_sensor *": filament.load_switch,
    "firmware_retraction": firmware_retraction.load,
    "force_move": force_move.load,
    "gcode_arcs": arcs.load,
    "gcode_button *": switches.load_gcode_button,
    "gcode_macro *": macros.load,
    "gcode_macro": macros.load_templates,
    "gcode_move": gcode_move.load,
    "heater_bed": heaters.load_bed,
    "heater_fan *": fans.load_heater_fan,
    "heater_generic *": heaters.load_generic,
    "heaters": heaters.load,
    "homing": homing.load_homing,
    "homing_override": safe_homing.load_override,
    "idle_timeout": idle_timeout.load,
    "input_shaper": input_shaper.load,
    "led *": leds.load_led,
    "manual_probe": manual_probe.load,
    "manual_stepper *": manual_stepper.load,
    "mcu *": mcu.load,
    "mcu": mcu.load,
    "motion_report": report.load,
    "neopixel *": leds.load_neopixel,
    "output_pin *": outputs.load_output_pin,
    "pause_resume": pause_resume.load,
    "pid_calibrate": pid_calibrate.load,
    "pca9533 *": leds.load_i2c_led,
    "pca9632 *": leds.load_i2c_led,
    "print_stats": print_stats.load,
    "probe": probe.load,
    "pwm_cycle_time *": outputs.load_output_pin,
    "pwm_tool *": outputs.load_output_pin,
    "quad_gantry_level": leveling.load_quad_gantry_level,
    "query_adc": query_adc.load,
    "query_endstops": homing.load_query_endstops,
    "respond": respond.load,
    "safe_z_home": safe_homing.load_safe_z,
    "save_variables": save_variables.load,
    "screws_tilt_adjust": screws.load,
    "sdcard_loop": sdcard_loop.load,
    "servo *": servo.load,
    "skew_correction": skew.load,
    "static_digital_output *": passive.load,
    "stepper_enable": homing.load_stepper_enable,
    "system_stats": system_stats.load,
    "temperature_fan *": fans.load_temperature_fan,
    "temperature_probe *": temperature_probe.load,
    "temperature_sensor *": temperature_sensor.load,
    "thermistor *": passive.load,
    "tmc2130 *": tmc.load,
    "tmc2208 *": tmc.load,
    "tmc2209 *": tmc.load,
    "tmc2240 *": tmc.load,
    "tmc2660 *": tmc.load,
    "tmc5160 *": tmc.load,
    "tuning_tower": tuning_tower.load,
    "verify_heater *": verify_heater.load,
    "virtual_sdcard": virtual_sdcard.load,
    "z_tilt": leveling.load_z_tilt,
}

# What klippy/toolhead.py loads after everything else.
AFTER_TOOLHEAD = ("gcode_move", "homing", "idle_timeout", "system_stats", "manual_probe", "tuning_tower")


class SimulatedModules:
    """Implements printer.Loaders."""

    def find(self, section: str) -> Loader | None:
        module, _, own_name = section.partition(" ")
        return MODULES.get(f"{module} *" if own_name else module)

    def load_core(self, printer: Printer) -> None:
        """What works before any configuration is read."""
        printer.add_object("gcode", GCode(printer))
        printer.add_object("webhooks", WebHooks(printer))
        GCodeEndpoints(printer)
        StatusEndpoints(printer)
        printer.configfile = PrinterConfig(printer)
        printer.add_object("configfile", printer.configfile)
        printer.add_object("pins", Pins())

    def load_last(self, config: Config) -> None:
        """The toolhead and what comes with every printer."""
        printer = config.printer
        toolhead = Toolhead(config)
        printer.add_object("toolhead", toolhead)
        if toolhead.kinematics.steppers or config.has_section("extruder"):
            for name in ("stepper_enable", "force_move", "motion_report"):
                printer.load_object(config, name)
        if toolhead.kinematics.rails:
            printer.load_object(config, "query_endstops")
        extruder.load_extruders(config, toolhead)
        enable = printer.find(homing.StepperEnable, "stepper_enable")
        force = printer.find(force_move.ForceMove, "force_move")
        motors = [e.name for e in printer.find_all(extruder.Extruder) if e.stepper is not None]
        for name in (*toolhead.kinematics.steppers, *motors):
            if enable is not None and force is not None:
                enable.add_stepper(name)
                force.add_stepper(name)
        for name in AFTER_TOOLHEAD:
            printer.load_object(config, name)
        switches.virtual_sensors(printer)
