"""Which commands a script holds, for a policy: everything that any Klipper would run of it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router import gcode, policy
from klipper_router.config import KlippySection
from klipper_router.errors import CallError
from test.unit.klipper_model import VERSIONS, Klipper, Version

# What decides how Klipper cuts a line, letters and digits between it, and commands that a policy may name.
signs = st.sampled_from("MmNn1127 8\t\r\x0b;#*/=_.'\"-GXSET\u0131\u017f\x85\u00a0")
names = st.sampled_from(["M112", "m112", "N5 ", "M117 ", "SET_PIN", "set_led ", "G1 X1", "GO", " A='x'"])
lines = st.lists(signs | names | names, max_size=5).map("".join)
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


ALLOWED = st.sampled_from([None, [], ["M117"], ["M117", "SET_*"], ["set_led", "G1", "M112"], ["*"]])
DENIED = st.sampled_from([[], ["M112"], ["M112", "SET*"], ["m11?"], ["*"]])


@pytest.mark.parametrize("version", VERSIONS)
@given(scripts, ALLOWED, DENIED)
def test_what_is_denied_or_not_allowed_never_runs(
    version: Version, script: str, allowed: list[str] | None, denied: list[str]
) -> None:
    section = KlippySection(sock="s", allow_gcode=allowed, deny_gcode=denied)
    ran = [each.command for each in Klipper(version).run(script).ran]
    forbidden = [command for command in ran if is_one_of(command, denied) or not is_one_of(command, allowed)]
    if forbidden:
        with pytest.raises(CallError, match=r"is (not in allow_gcode|in deny_gcode) of \[klippy main\]"):
            policy.check_gcode("main", section, "led", script)


@given(st.lists(st.sampled_from(["M117 hello", "m112", "SET_PIN PIN=a", "FOO", ""]), max_size=4), ALLOWED, DENIED)
def test_what_is_allowed_and_not_denied_passes(
    commands: list[str], allowed: list[str] | None, denied: list[str]
) -> None:
    section = KlippySection(sock="s", allow_gcode=allowed, deny_gcode=denied)
    wanted = [command.split()[0].upper() for command in commands if command]
    if all(is_one_of(command, allowed) and not is_one_of(command, denied) for command in wanted):
        policy.check_gcode("main", section, "led", "\n".join(commands))


def is_one_of(command: str, patterns: list[str] | None) -> bool:
    """Whether one of the patterns names it; None names everything."""
    if patterns is None:
        return True
    return any(re.fullmatch(p.replace("*", ".*").replace("?", "."), command, re.IGNORECASE) for p in patterns)


@pytest.mark.parametrize("allowed", [[], ["clients"], ["led2"]])
def test_gcode_and_endpoints_of_others_than_those_named_do_not_pass(allowed: list[str]) -> None:
    section = KlippySection(sock="s", gcode_from=allowed, endpoints_from=allowed)
    with pytest.raises(CallError, match=r"led is not in gcode_from of \[klippy main\]"):
        policy.check_gcode("main", section, "led", "M117")
    with pytest.raises(CallError, match=r"led is not in endpoints_from of \[klippy main\]"):
        policy.check_endpoint("main", section, "led", "info")


def test_gcode_and_endpoints_of_those_named_pass() -> None:
    section = KlippySection(sock="s", gcode_from=["led", "clients"], endpoints_from=["led"])
    policy.check_gcode("main", section, "led", "M117")
    policy.check_endpoint("main", section, "led", "info")


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


@given(scripts, st.sampled_from(["G1 X1 Y2\n", "set_led led=x ; y\r\n", "\t m104S200 \n", "\n", " ;M112\n", "NEXT\n"]))
def test_a_line_that_most_are_like_hides_no_other(script: str, ordinary: str) -> None:
    assert set(gcode.commands(ordinary + script)) == {*gcode.commands(ordinary), *gcode.commands(script)}


def test_a_script_that_is_too_long_to_be_checked_is_refused_where_there_is_something_to_check() -> None:
    longest = "G1\n" * (policy.MAX_CHECKED_CHARACTERS // 3)
    longer = longest + "G1\n"
    for section in (KlippySection(sock="s", allow_gcode=["G1"]), KlippySection(sock="s", deny_gcode=["M112"])):
        policy.check_gcode("main", section, "led", longest)
        with pytest.raises(CallError, match=rf"a script of {len(longer)} characters is too long to be checked"):
            policy.check_gcode("main", section, "led", longer)
    policy.check_gcode("main", KlippySection(sock="s"), "led", longer)


@pytest.mark.parametrize(
    "line", ["", "1", "{}", "*{:x}", "A{}", "N{} A", "G1 X{} Y2", "A/{}", "\u0131{}", "M117 {}", "N1N{}", " ; {}"]
)
def test_a_long_script_holds_nobody_up(line: str) -> None:
    size = policy.MAX_CHECKED_CHARACTERS
    script = "\n".join(line.format(number) for number in range(size))[:size]
    section = KlippySection(sock="s", deny_gcode=["M112", "SET_*", "*RESTART", "G28", "M10?"])
    began_s = time.process_time()
    policy.check_gcode("main", section, "led", script)
    assert time.process_time() - began_s < 1.0
