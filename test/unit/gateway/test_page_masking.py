"""Secrets in options: what is shown, and what is meant when it comes back."""

from __future__ import annotations

import pytest

from klipper_router.gateway.page.masking import masked, unmasked


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://user:hidden@cam/?action=stream", "http://user:***@cam/?action=stream"),
        ("http://user:hid:den@cam", "http://user:***@cam"),
        ("http://:hidden@cam", "http://:***@cam"),
        ("rtsp://cam/?token=abc&quality=3", "rtsp://cam/?token=***&quality=3"),
        ("http://cam/?quality=3&api_key=abc#x", "http://cam/?quality=3&api_key=***#x"),
        ("http://cam/?PassWord=abc", "http://cam/?PassWord=***"),
        ("http://cam/?a?token=abc", "http://cam/?a?token=***"),
        ("http://cam/?action=stream", "http://cam/?action=stream"),
        ("~/printer_data/comms/klippy.sock", "~/printer_data/comms/klippy.sock"),
        ("M118 mail me@home: ok", "M118 mail me@home: ok"),
    ],
)
def test_passwords_and_tokens_are_not_shown(value: str, shown: str) -> None:
    assert masked(value) == shown


@pytest.mark.parametrize("value", ["?key" * 50_000, "keykey" * 50_000, "://" + ":" * 100_000, "?" * 100_000])
def test_a_long_value_is_looked_at_once(value: str) -> None:
    """For minutes or hours, were the time more than linear."""
    assert masked(value) == value


def test_a_value_that_comes_back_as_it_was_shown_is_the_kept_one() -> None:
    kept = "http://user:hidden@cam/?token=abc"
    assert unmasked(masked(kept), kept) == kept


@pytest.mark.parametrize("sent", ["http://user:***@elsewhere/", "http://cam/?token=***", "http://other:***@cam/"])
def test_a_kept_secret_never_moves_to_another_address(sent: str) -> None:
    with pytest.raises(ValueError, match="write the secret anew"):
        unmasked(sent, "http://user:hidden@cam/")


def test_a_new_secret_replaces_the_kept_one() -> None:
    assert unmasked("http://user:new@cam/", "http://user:hidden@cam/") == "http://user:new@cam/"
