"""HTTP's rules for static files."""

from __future__ import annotations

import pytest

from klipper_router.gateway.ui import negotiation


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip, deflate, br, zstd", True),
        ("deflate,GZIP;q=0.5", True),
        ("x-gzip", True),
        ("gzip;q=1.000", True),
        ("gzip ; Q=0.001", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("identity, *;q=0.5", False),
        ("notgzip", False),
    ],
)
def test_gzip_is_sent_to_whom_it_is_wanted_by(header: str, accepted: bool) -> None:
    assert negotiation.accepts_gzip(header) is accepted


@pytest.mark.parametrize(
    ("header", "same"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("", False), ("a", False)],
)
def test_a_version_that_the_client_has_is_known(header: str, same: bool) -> None:
    assert negotiation.matches(header, '"a"') is same


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("assets/a-AbCdEf12.js", "text/javascript; charset=utf-8"),
        ("assets/A.CSS", "text/css; charset=utf-8"),
        ("a.woff2", "font/woff2"),
        ("a.wasm", "application/wasm"),
        ("a.svg", "image/svg+xml"),
        ("manifest.webmanifest", "application/manifest+json"),
        ("no.folder/LICENSE", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
    ],
)
def test_a_file_has_the_type_that_browsers_insist_on(path: str, kind: str) -> None:
    assert negotiation.content_type(path) == kind


@pytest.mark.parametrize(
    ("path", "by_content"),
    [
        ("assets/index-D3dNIT69.js", True),
        ("assets/preload-helper-B1P13AFO.js", True),
        ("assets/fonts/roboto-_-aB1c2D.woff2", True),
        ("index-D3dNIT69.js", False),
        ("assets/index.js", False),
        ("img/sidebar-background.svg", False),
        ("fonts/roboto-regular.woff2", False),
    ],
)
def test_only_what_is_named_by_its_content_may_be_kept_for_ever(path: str, by_content: bool) -> None:
    assert negotiation.is_named_by_content(path) is by_content


def test_what_is_small_or_compressed_already_is_not_compressed() -> None:
    assert negotiation.is_compressible("a.js", 2000)
    assert not negotiation.is_compressible("a.js", 20)
    assert not negotiation.is_compressible("a.png", 2000)
    assert not negotiation.is_compressible("a.woff2", 2000)
