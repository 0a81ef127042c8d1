"""The stores of console lines and temperatures: bounded, newest kept, shaped as Moonraker's."""

from __future__ import annotations

from klipper_router.gateway.moonraker.stores import (
    GCODE_STORE_BYTES,
    GCODE_STORE_LINES,
    MAX_SENSORS,
    TEMPERATURE_STORE_SAMPLES,
    GcodeStore,
    TemperatureStore,
)

DRYER = {"temperature": 25.004, "target": 0, "power": None, "other": 1}


def test_the_oldest_lines_go_first() -> None:
    store = GcodeStore()
    for number in range(GCODE_STORE_LINES + 10):
        store.add(str(number), float(number), "response")
    lines = store.newest()
    assert len(lines) == GCODE_STORE_LINES
    assert lines[0] == {"message": "10", "time": 10.0, "type": "response"}
    assert [line["message"] for line in store.newest(2)] == ["1008", "1009"]
    assert store.newest(0) == lines


def test_long_lines_are_bounded_together() -> None:
    store = GcodeStore()
    for number in range(100):
        store.add(str(number % 10) * (GCODE_STORE_BYTES // 10), 0.0, "command")
    assert sum(len(line["message"]) for line in store.newest()) <= GCODE_STORE_BYTES
    assert store.newest()[-1]["message"][0] == "9"
    store.add("x" * (2 * GCODE_STORE_BYTES), 0.0, "command")
    assert len(store.newest()) == 1


def test_samples_are_rounded_and_null_stays_null() -> None:
    store = TemperatureStore()
    store.configure({"dryer": DRYER})
    store.sample({"dryer": {**DRYER, "temperature": 25.126}})
    assert store.shown(include_monitors=False) == {
        "dryer": {"temperatures": [25.0, 25.13], "targets": [0.0, 0.0], "powers": [None, None]}
    }


def test_a_number_that_is_none_for_a_float_is_null() -> None:
    store = TemperatureStore()
    store.configure({"heater_generic dryer": {"temperature": 10**400}})
    assert store.shown(include_monitors=False) == {"heater_generic dryer": {"temperatures": [None]}}


def test_what_is_not_told_stays_as_it_was() -> None:
    store = TemperatureStore()
    store.configure({"dryer": {"temperature": 30.0}})
    store.sample({})
    store.sample({"dryer": {"target": 5}})
    assert store.shown(include_monitors=False) == {"dryer": {"temperatures": [30.0, 30.0, 30.0]}}


def test_samples_and_sensors_are_bounded() -> None:
    store = TemperatureStore()
    store.configure({f"sensor {number}": {"temperature": 1.0} for number in range(MAX_SENSORS + 10)})
    assert len(store.sensors) == MAX_SENSORS
    for number in range(TEMPERATURE_STORE_SAMPLES + 5):
        store.sample({"sensor 0": {"temperature": number}})
    shown = store.shown(include_monitors=False)["sensor 0"]["temperatures"]
    assert len(shown) == TEMPERATURE_STORE_SAMPLES
    assert shown[-1] == TEMPERATURE_STORE_SAMPLES + 4


def test_monitors_are_shown_on_demand() -> None:
    store = TemperatureStore()
    store.configure({"a": {"temperature": 1.0}, "tmc": {"temperature": 2.0}}, ["tmc"])
    assert [*store.shown(include_monitors=False)] == ["a"]
    assert [*store.shown(include_monitors=True)] == ["a", "tmc"]


def test_a_restart_of_klippy_keeps_what_is_known_of_sensors_that_stay() -> None:
    store = TemperatureStore()
    store.configure({"a": {"temperature": 1.0, "target": 1.0}, "b": {"temperature": 1.0}})
    store.configure({"a": {"temperature": 2.0}, "c": {"temperature": 3.0}, "no fields": {}})
    assert store.shown(include_monitors=False) == {"a": {"temperatures": [1.0, 2.0]}, "c": {"temperatures": [3.0]}}
