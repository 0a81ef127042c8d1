"""Which path is whose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router.gateway.routes import Kind, Route, route


@pytest.mark.parametrize(
    ("path", "kind", "printer", "prefix", "rest", "ui"),
    [
        ("/", Kind.PAGE, None, "", "/", None),
        ("/router/api/v1/printers", Kind.PAGE, None, "", "/router/api/v1/printers", None),
        ("/printers", Kind.PAGE, None, "", "/printers", None),
        ("/printers/", Kind.PAGE, None, "", "/printers/", None),
        ("/printers/main", Kind.HOME, "main", "/printers/main", "/", None),
        ("/printers/main/", Kind.HOME, "main", "/printers/main", "/", None),
        ("/printers/main/server/info", Kind.MOONRAKER, "main", "/printers/main", "/server/info", None),
        ("/printers/main/websocket", Kind.MOONRAKER, "main", "/printers/main", "/websocket", None),
        ("/printers/main/klippysocket", Kind.MOONRAKER, "main", "/printers/main", "/klippysocket", None),
        ("/printers/main/server", Kind.MOONRAKER, "main", "/printers/main", "/server", None),
        ("/printers/main/servers", Kind.PAGE, "main", "", "/printers/main/servers", None),
        ("/printers/main/mainsail", Kind.UI, "main", "/printers/main/mainsail", "/", "mainsail"),
        ("/printers/main/mainsail/", Kind.UI, "main", "/printers/main/mainsail", "/", "mainsail"),
        ("/printers/main/fluidd/assets/a.js", Kind.UI, "main", "/printers/main/fluidd", "/assets/a.js", "fluidd"),
        (
            "/printers/main/fluidd/api/version",
            Kind.MOONRAKER,
            "main",
            "/printers/main/fluidd",
            "/api/version",
            "fluidd",
        ),
        ("/printers/main/cameras/bed/stream", Kind.CAMERAS, "main", "/printers/main", "/cameras/bed/stream", None),
        ("/printers/main/webcam2/", Kind.CAMERAS, "main", "/printers/main", "/webcam2/", None),
        ("/printers/main/mainsail/webcam/", Kind.CAMERAS, "main", "/printers/main", "/webcam/", "mainsail"),
        ("/printers/k%C3%BCche/server/info", Kind.MOONRAKER, "küche", "/printers/k%C3%BCche", "/server/info", None),
        ("/printers/a%2Fb/server/info", Kind.MOONRAKER, "a/b", "/printers/a%2Fb", "/server/info", None),
        ("//printers/main/server/info", Kind.PAGE, None, "", "//printers/main/server/info", None),
    ],
)
def test_the_main_origin(path: str, kind: Kind, printer: str | None, prefix: str, rest: str, ui: str | None) -> None:
    assert route(path.encode(), None) == Route(kind, printer, prefix.encode(), rest.encode(), ui)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", Kind.UI),
        ("/console", Kind.UI),
        ("/printers/led/server/info", Kind.UI),
        ("/server/info", Kind.MOONRAKER),
        ("/websocket", Kind.MOONRAKER),
        ("/cameras/bed/stream", Kind.CAMERAS),
        ("/webcam/", Kind.CAMERAS),
    ],
)
def test_the_own_origin_of_a_printer(path: str, kind: Kind) -> None:
    assert route(path.encode(), "main") == Route(kind, "main", b"", path.encode())


@given(st.text("/abmprinterscmasv.%2F", max_size=40), st.sampled_from([None, "main"]))
def test_prefix_and_rest_are_the_path(text: str, printer: str | None) -> None:
    path = f"/{text}".encode()
    found = route(path, printer)
    assert found.rest.startswith(b"/")
    if found.kind is not Kind.HOME and not (found.kind is Kind.UI and found.rest == b"/"):
        assert found.prefix + found.rest == path or found.kind is Kind.CAMERAS
