"""A crash report holds what a bug report needs, and nothing that is to stay secret."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from klipper_router import __version__, crash_report
from klipper_router.config import Config, KlippySection, RouterSection
from klipper_router.log import Recent


def config(folder: Path) -> Config:
    sections = {"main": KlippySection(sock="/s/main"), "led": KlippySection(sock="/s/led")}
    return Config(router=RouterSection(crash_dir=str(folder / "crashes")), klippy=sections)


def crash() -> BaseException:
    secret_local = "hunter2"
    try:
        raise ExceptionGroup("nursery", [KeyError(len(secret_local))])
    except ExceptionGroup as error:
        return error


def test_a_report_has_versions_printers_traceback_and_log(tmp_path: Path) -> None:
    text = crash_report.render(crash(), config(tmp_path), ["a line", "another"])
    for part in (
        f"klipper-router {__version__}",
        "Python 3.",
        "trio ",
        "main, led",
        "KeyError: 7",
        "in crash",
        "a line\nanother",
    ):
        assert part in text


@pytest.mark.parametrize(
    "line",
    [
        "GET /websocket?token=S3CRET&x=1",
        "Authorization: Bearer S3CRET",
        "X-Api-Key: S3CRET",
        'params {"api_key": "S3CRET", "y": 2}',
        "http://user:S3CRET@printer.local/",
        "password=S3CRET",
        "access_token = 'S3CRET'",
        "Authorization: Basic S3CRET",
        'Authorization: Digest username="x", response="S3CRET"',
        "Cookie: session=S3CRET; other=S3CRET",
        "{'Authorization': 'Basic S3CRET'}",
        'params {"password": "two S3CRET words"}',
        'params {"password": "a quote \\" S3CRET"}',
        "password = 'S3CRET,S3CRET'",
        '{\\"password\\": \\"a S3CRET\\"}',
        'params {"password": "cut S3CRET wor …',
        '{\\"password\\": \\"cut S3CRET wor …',
        "wifi_passphrase: S3CRET",
        "rtsp://user:p@S3CRET@camera.local/",
        "rtsp://S3CRET@camera.local/",
    ],
)
def test_what_looks_like_a_secret_is_blotted_out(tmp_path: Path, line: str) -> None:
    text = crash_report.render(crash(), config(tmp_path), [line])
    assert "S3CRET" not in text
    assert "***" in text
    assert "hunter2" not in text.replace('secret_local = "hunter2"', "")  # the source line, not a value


@pytest.mark.parametrize(
    "line",
    [
        'router/call {"token": "S3CRET", "target": "led"}',
        "GET /websocket?token=S3CRET&target=led HTTP/1.1",
        "password: S3CRET target led",
        "http://S3CRET@led/ is target led",
    ],
)
def test_what_stands_beside_a_secret_is_left(tmp_path: Path, line: str) -> None:
    text = crash_report.render(crash(), config(tmp_path), [line, "the next line"])
    assert "target" in text
    assert "the next line" in text
    assert "S3CRET" not in text


def test_the_home_directory_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    text = crash_report.render(crash(), config(tmp_path), ["/home/somebody/printer_data/x"])
    assert "~/printer_data/x" in text
    assert "somebody" not in text


def test_a_report_is_for_its_owner_and_only_the_newest_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "crashes"
    folder.mkdir()
    for number in range(9):
        (folder / f"crash-20200101-00000{number}-1.txt").touch()
    (folder / "mine.txt").touch()
    assert crash_report.write(crash(), config(tmp_path), []) == 70
    reports = sorted(folder.glob("crash-*.txt"))
    assert len(reports) == crash_report.MAX_REPORTS
    assert (folder / "mine.txt").exists()
    assert reports[-1].stat().st_mode & 0o777 == 0o600
    assert f"the router crashed: KeyError: 7. A report for its developers is in {reports[-1]}" in caplog.text
    assert "KeyError: 7" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "crashes").touch()
    assert crash_report.write(crash(), config(tmp_path), ["the last line"]) == 70
    assert "could not be written" in caplog.text
    assert "the last line" in capsys.readouterr().err


def test_only_the_last_lines_of_the_log_are_kept_and_no_debug_line() -> None:
    recent = Recent()
    logger = logging.Logger("x")
    logger.addHandler(recent)
    for number in range(1000):
        logger.info("line %d", number)
        logger.debug("secret")
    assert len(recent.lines) == recent.lines.maxlen == 100
    assert recent.lines[-1].endswith("INFO    line 999")
    assert not any("secret" in line for line in recent.lines)
