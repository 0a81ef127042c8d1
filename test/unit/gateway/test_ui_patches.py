"""What is inserted into a release, and how a release that has changed is told."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klipper_router.gateway.ui import patches
from klipper_router.gateway.ui.patches import FLUIDD, MAINSAIL, Program
from test.gateway import releases

V = "window.klipperRouterPrefix+"


def patched(program: Program, path: str, content: str) -> str:
    return patches.apply(program, path, content.encode()).decode()


def hits(program: Program, files: dict[str, str]) -> Counter[str]:
    return sum((patches.count(program, path, content.encode()) for path, content in files.items()), Counter())


@pytest.mark.parametrize(
    ("program", "files"),
    [(MAINSAIL, releases.MAINSAIL), (MAINSAIL, releases.MAINSAIL_IN_QUOTES), (FLUIDD, releases.FLUIDD)],
    ids=["backticks", "quotes", "fluidd"],
)
def test_a_release_of_a_known_shape_has_no_problem(program: Program, files: dict[str, str]) -> None:
    assert list(patches.problems(program, hits(program, files))) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("new R({base:`/`,mode:`history`,routes:a})", f"new R({{base: {V}`/`,mode:`history`,routes:a}})"),
        ('new R({mode:"history",base:"/",routes:a})', f'new R({{mode:"history",base: {V}"/",routes:a}})'),
        ("await fetch(`${a}config.json`)", f"await fetch( {V}`${{a}}config.json`)"),
        ('await fetch("".concat("/","config.json"))', f'await fetch( {V}"".concat("/","config.json"))'),
        ('fetch("/config.json")', f'fetch( {V}"/config.json")'),
        ("function(e){return`/`+e}", f"function(e){{return {V}`/`+e}}"),
        ('return"/"+e}', f'return {V}"/"+e}}'),
        (
            "path:``,protocol:document.location.protocol===`https:`",
            f"path: {V}``,protocol:document.location.protocol===`https:`",
        ),
        ("path:r,protocol:document.location.protocol,", f"path: {V}r,protocol:document.location.protocol,"),
        ("a?`/img/b.svg`:`/img/c.svg`", f"a? {V}`/img/b.svg`: {V}`/img/c.svg`"),
        ('l="/css/themes/".concat(n)', f'l= {V}"/css/themes/".concat(n)'),
        ("new Worker(`/assets/w.js`)", f"new Worker( {V}`/assets/w.js`)"),
    ],
)
def test_a_script_that_means_the_root_means_the_prefix(before: str, after: str) -> None:
    assert patched(MAINSAIL, "assets/a.js", before) == after


@pytest.mark.parametrize(
    "script",
    [
        "{path:`/`,name:``}",
        "u.split(`/`)",
        "{path:``,webPort:80}",
        "console.debug(`Loaded config.json`)",
        "`img/relative.svg`",
        "`/server/files/img/x`",
        "style=`background:url('/img/x')`",
        "a.mode=`history`",
        "return`/`+`/`+e",
    ],
)
def test_a_script_that_means_something_else_is_left_alone(script: str) -> None:
    assert patched(MAINSAIL, "assets/a.js", script) == script


def test_a_style_sheet_finds_the_root_from_where_it_is() -> None:
    before = 'a{src:url(/fonts/a.woff2),url("/fonts/b")}b{src:url(//example.org/x)}c{src:url(./d)}'
    for path, up in (("assets/a.css", ".."), ("css/themes/a.css", "../.."), ("a.css", ".")):
        after = f'a{{src:url({up}/fonts/a.woff2),url("{up}/fonts/b")}}b{{src:url(//example.org/x)}}c{{src:url(./d)}}'
        assert patched(MAINSAIL, path, before) == after


def test_fluidds_list_of_printers_gets_a_name_of_its_own_for_each_prefix() -> None:
    before = "var G={KEY:`appInstances`,OTHER:'appInstancesOfOthers'}"
    assert patched(FLUIDD, "assets/a.js", before) == f"var G={{KEY: {V}`appInstances`,OTHER:'appInstancesOfOthers'}}"


def test_each_missing_or_doubled_place_is_told_by_what_would_not_work() -> None:
    missing = {**releases.MAINSAIL, "assets/helper-QwErTy56.js": ""}
    doubled = {**releases.MAINSAIL, "assets/more.js": "new R({base:`/`,mode:`history`})"}
    assert list(patches.problems(MAINSAIL, hits(MAINSAIL, missing))) == [
        "the modules it loads later: 0 places found where 1 were expected"
    ]
    assert list(patches.problems(MAINSAIL, hits(MAINSAIL, doubled))) == [
        "the paths of its pages: 2 places found where 1 were expected"
    ]
    assert list(patches.problems(FLUIDD, {})) == [
        "the browser's list of printers: 0 places found where 1 to 8 were expected"
    ]


FRAGMENTS = st.sampled_from(
    [
        releases.BACKTICKS,
        releases.QUOTES,
        releases.STYLES,
        "`/img/",
        "fetch(",
        "config.json",
        "history",
        "`",
        '"',
        ";",
        "é",
    ]
)


@given(st.lists(FRAGMENTS, max_size=12).map("".join), st.sampled_from(["assets/a.js", "assets/a.css"]))
def test_patching_only_ever_inserts(content: str, path: str) -> None:
    inserted = f" {V}" if path.endswith(".js") else ".."
    for program in (MAINSAIL, FLUIDD):
        assert patched(program, path, content).replace(inserted, "") == content
        found = sum(patches.count(program, path, content.encode()).values())
        assert len(patched(program, path, content)) - len(content) <= found * len(inserted)


@given(st.binary(max_size=300))
def test_a_place_is_found_wherever_it_is_in_a_file(padding: bytes) -> None:
    place = b"(`/img/a.svg`)"
    before, after = padding.replace(b"/", b"") + b";", b";" + padding.replace(b"/", b"")
    expected = before + b"(" + f" {V}".encode() + b"`/img/a.svg`)" + after
    assert patches.apply(MAINSAIL, "assets/a.js", before + place + after) == expected


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: it checks that scripts stay scripts")
@pytest.mark.parametrize("script", [releases.BACKTICKS, releases.QUOTES, releases.BACKTICK_HELPER])
def test_a_patched_script_is_a_script(script: str) -> None:
    text = patches.apply(MAINSAIL, "assets/a.js", script.encode())
    checked = subprocess.run(["node", "--input-type=module", "--check"], input=text, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr.decode()
