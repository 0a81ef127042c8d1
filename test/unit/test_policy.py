"""Which commands a script holds, for a policy: everything that any Klipper would run of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router import gcode, policy
from klipper_router.config import KlippySection
from klipper_router.errors import CallError
from test.unit.klipper_model import VERSIONS, Klipper, Version

# What decides how Klipper cuts a line, and letters and digits between it.
lines = st.text(st.sampled_from("MmNn1127 8\t\r\x0b;#*/=_.'\"-GXSET\u0131\u017f\x85\u00a0"), max_size=14)
scripts = st.lists(lines, max_size=4).map("\n".join)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("M117 hello", ["M117"]),
        ("m112", ["M112"]),
        ("  \tN10 M112 ; stop", ["M112"]),
        ("G1 X1\n\n;M112\nSET_LED LED=x", ["G1", "SET_LED"]),
        ("M112/", ["M112/", "M112"]),  # v0.13 sees an unknown command, v0.12 runs M112
        ("M117 1", ["M117"]),
        ("M1121", ["M1121"]),
        ("", []),
    ],
)
def test_the_commands_of_a_script_are_found(script: str, found: list[str]) -> None:
    assert gcode.commands(script) == found


@pytest.mark.parametrize("version", VERSIONS)
@given(scripts)
def test_every_command_that_klipper_would_run_is_found(version: Version, script: str) -> None:
    ran = [command for command, _, _ in Klipper(version).run(script).ran]
    found = gcode.commands(script)
    assert set(ran) <= set(found)


@pytest.mark.parametrize("version", VERSIONS)
@given(scripts)
def test_what_is_denied_never_runs(version: Version, script: str) -> None:
    section = KlippySection(sock="s", deny_gcode=["M112", "SET*"])
    try:
        policy.check_gcode("main", section, "led", script)
    except CallError:
        return
    for command, _, _ in Klipper(version).run(script).ran:
        assert command != "M112"
        assert not command.startswith("SET")


@given(scripts)
def test_with_no_list_everything_passes(script: str) -> None:
    policy.check_gcode("main", KlippySection(sock="s"), "led", script)


@pytest.mark.parametrize(
    ("allowed", "endpoint", "passes"),
    [
        (None, "pause_resume/pause", True),
        (None, "emergency_stop", False),
        (["*"], "emergency_stop", False),
        (["emergency_stop"], "emergency_stop", True),
        (["pause_resume/*"], "pause_resume/pause", True),
        (["pause_resume/*"], "info", False),
        ([], "info", False),
    ],
)
def test_endpoints(allowed: list[str] | None, endpoint: str, passes: bool) -> None:
    section = KlippySection(sock="s", allow_endpoints=allowed)
    if passes:
        policy.check_endpoint("main", section, "led", endpoint)
    else:
        with pytest.raises(CallError, match=rf"{endpoint} is not in allow_endpoints of \[klippy main\]"):
            policy.check_endpoint("main", section, "led", endpoint)


@pytest.mark.parametrize("allowed", [None, ["led"], ["clients", "led"]])
def test_events_of_those_named_pass(allowed: list[str] | None) -> None:
    policy.check_event("main", KlippySection(sock="s", events_from=allowed), "led")


@pytest.mark.parametrize("allowed", [[], ["clients"]])
def test_events_of_others_do_not(allowed: list[str]) -> None:
    with pytest.raises(CallError, match=r"led is not in events_from of \[klippy main\]"):
        policy.check_event("main", KlippySection(sock="s", events_from=allowed), "led")
