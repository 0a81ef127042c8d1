"""Errors are sentences for people, and carry where the fault is."""

from __future__ import annotations

from pathlib import Path

from klipper_router.errors import ConfigError, LinkLost, ProtocolError, RouterError


def test_a_config_error_begins_with_its_place_as_far_as_it_is_known() -> None:
    assert str(ConfigError("no sock", file=Path("/etc/router.cfg"), line=3, key="sock")) == "/etc/router.cfg:3: no sock"
    assert str(ConfigError("no sock", file="router.cfg")) == "router.cfg: no sock"
    assert str(ConfigError("no sock")) == "no sock"
    error = ConfigError("no sock", file="router.cfg", line=3, key="sock")
    assert (error.file, error.line, error.key) == ("router.cfg", 3, "sock")


def test_a_protocol_error_shows_how_the_frame_began_and_no_more() -> None:
    error = ProtocolError("unreadable", b"\xff{" + b"x" * 200)
    assert str(error) == "unreadable: '\ufffd{" + "x" * 78 + "'"
    assert len(error.head) == 202
    assert str(ProtocolError("unreadable")) == "unreadable"


def test_a_lost_link_names_the_printer() -> None:
    error = LinkLost("main", "end of file")
    assert str(error) == "connection to main lost: end of file"
    assert error.printer == "main"
    assert isinstance(error, RouterError)
