"""The ring of routes and events, and the last errors of each printer."""

from __future__ import annotations

from klipper_router.gateway.page.activity import MAX_ENTRIES, MAX_ERRORS, MAX_TEXT_CHARS, REPEATED_WITHIN, ActivityLog

PRINTERS = ["main", "led"]


def test_the_oldest_entries_go_when_it_is_full() -> None:
    log = ActivityLog()
    for number in range(MAX_ENTRIES + 5):
        log.add("call", "main", "led", f"call {number}", number)
    entries = log.since(0)
    assert len(entries) == MAX_ENTRIES
    assert (entries[0].text, entries[-1].text) == ("call 5", f"call {MAX_ENTRIES + 4}")


def test_since_tells_only_what_is_new() -> None:
    log = ActivityLog()
    log.add("call", "main", "", "a", 1)
    seen = log.last_number
    log.add("call", "main", "", "b", 2)
    assert [entry.text for entry in log.since(seen)] == ["b"]
    assert log.since(log.last_number) == []


def test_what_happens_again_is_counted_and_moves_to_the_end() -> None:
    log = ActivityLog()
    log.add("callback", "main", "led", "ON_STATUS", 1)
    log.add("call", "led", "main", "router/call", 2)
    seen = log.last_number
    log.add("callback", "main", "led", "ON_STATUS", 3)
    assert [(entry.text, entry.count) for entry in log.since(0)] == [("router/call", 1), ("ON_STATUS", 2)]
    (again,) = log.since(seen)
    assert (again.id, again.time) == (1, 3)


def test_what_happened_long_ago_is_not_the_same_again() -> None:
    log = ActivityLog()
    log.add("event", "main", "", "again", 0)
    for number in range(REPEATED_WITHIN):
        log.add("event", "main", "", f"between {number}", number)
    log.add("event", "main", "", "again", 9)
    assert [entry.count for entry in log.since(0) if entry.text == "again"] == [1, 1]


def test_a_long_text_is_cut() -> None:
    log = ActivityLog()
    log.add("call", "main", "", "x" * 5000, 0)
    assert len(log.since(0)[0].text) == MAX_TEXT_CHARS


def test_an_error_is_found_at_the_printers_that_it_is_of() -> None:
    log = ActivityLog()
    log.add_error("led: router/gcode/script to main: Unknown command", PRINTERS, 1)
    log.add_error("main: connection lost: end of file", PRINTERS, 2)
    log.add_error("somebody: something", PRINTERS, 3)
    assert [error.text for error in log.errors("led")] == ["router/gcode/script to main: Unknown command"]
    assert [error.text for error in log.errors("main")] == [
        "router/gcode/script to main: Unknown command",
        "connection lost: end of file",
    ]
    assert [entry.source for entry in log.since(0)] == ["led", "main", ""]


def test_errors_are_kept_for_printers_only() -> None:
    log = ActivityLog()
    log.add_error("client 7 (pid 1, uid 2): router/gcode/script to main: no", PRINTERS, 1)
    assert [error.source for error in log.errors("main")] == ["client 7 (pid 1, uid 2)"]
    assert log.errors("client 7 (pid 1, uid 2)") == []


def test_errors_are_bounded_and_a_repeated_one_is_one() -> None:
    log = ActivityLog()
    for number in range(MAX_ERRORS + 3):
        log.add_error(f"main: error {number}", PRINTERS, number)
    log.add_error(f"main: error {MAX_ERRORS + 2}", PRINTERS, 99)
    errors = log.errors("main")
    assert len(errors) == MAX_ERRORS
    assert (errors[-1].count, errors[-1].time) == (2, 99)


def test_errors_go_when_the_printer_is_well_again_or_no_more() -> None:
    log = ActivityLog()
    log.add_error("main: one", PRINTERS, 1)
    log.add_error("led: two", PRINTERS, 2)
    log.forget_errors("main")
    assert log.errors("main") == []
    log.keep_only(["main"])
    assert log.errors("led") == []
    assert len(log.since(0)) == 2
