"""The configuration: what is read, what is refused, and that every refusal says where and how to mend it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klipper_router.config import Config, KlippySection, RouterSection, load
from klipper_router.errors import ConfigError
from klipper_router.gcode import parameter_name

MAIN = "[klippy main]\nsock: /tmp/main.sock\n"


class Files:
    """Writes configuration files into one directory and loads the first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self, first: str, more: dict[str, str] | None = None, name: str = "router.cfg") -> Config:
        for each, text in {**(more or {}), name: first}.items():
            path = self.directory / each
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        return load(self.directory / name)

    def error(self, first: str, more: dict[str, str] | None = None, name: str = "router.cfg") -> str:
        """The error's text, without the directory's name."""
        with pytest.raises(ConfigError) as caught:
            self.load(first, more, name)
        return str(caught.value).replace(f"{self.directory}/", "")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


WHOLE = """
# the shop
[router]
sock = ~/comms/router.sock   ; a comment
default_instance: main       # another

[klippy main]
sock: /tmp/main.sock
on_connect:
    M118 one
      M118 two; three#four

    M118 five   # cut

[klippy led]
sock: led.sock
on_connect: M118 led
"""

WHOLE_YAML = """
router:
  sock: ~/comms/router.sock
  default_instance: main
klippy:
  main:
    sock: /tmp/main.sock
    on_connect: |
      M118 one
        M118 two; three#four

      M118 five
  led: {sock: led.sock, on_connect: M118 led}
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("router.cfg", WHOLE), ("router.cfg", WHOLE.replace("\n", "\r\n")), ("r.yaml", WHOLE_YAML), ("r.YML", WHOLE_YAML)],
)
def test_both_writings_give_the_same(files: Files, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/pi")
    expected = Config(
        router=RouterSection(sock="/home/pi/comms/router.sock", default_instance="main"),
        klippy={
            "main": KlippySection(sock="/tmp/main.sock", on_connect="M118 one\n  M118 two; three#four\n\nM118 five"),
            "led": KlippySection(sock=f"{files.directory}/led.sock", on_connect="M118 led"),
        },
    )
    config = files.load(text, name=name)
    assert config == expected
    assert list(config.klippy) == ["main", "led"]


def test_router_section_may_be_left_out(files: Files) -> None:
    assert files.load(MAIN).router == RouterSection(sock="/tmp/klipper_router.sock", default_instance=None)
    assert files.load("klippy: {main: {sock: /tmp/m}}\nrouter:\n", name="r.yaml").router == RouterSection()


def test_keys_take_any_case_and_indented_keys_are_keys_as_in_klipper(files: Files) -> None:
    config = files.load("[ klippy   main ]\n  Sock: /tmp/a\n  on_connect = M118 a=b:c\n")
    assert config.klippy["main"] == KlippySection(sock="/tmp/a", on_connect="M118 a=b:c")


def test_a_byte_order_mark_is_no_text(files: Files) -> None:
    assert "main" in files.load("\ufeff" + MAIN).klippy


def test_yaml_words_and_numbers_stay_text(files: Files) -> None:
    config = files.load(
        "klippy: {on: {sock: 0123}, 7: {sock: 2024-01-01}}\nrouter: {default_instance: on}", name="r.yaml"
    )
    assert list(config.klippy) == ["on", "7"]
    assert config.klippy["on"].sock.endswith("/0123")


def test_tilde_alone_is_home_in_yaml_too(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/pi")
    assert files.load("klippy: {main: {sock: ~}}", name="r.yaml").klippy["main"].sock == "/home/pi"


def test_a_list_within_a_list_is_no_value_in_yaml(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"r\.yaml:3: a text is wanted here, not a list or a mapping"):
        files.load("klippy:\n  main:\n    gcode_from: [led, [mmu]]\n    sock: /tmp/m", name="r.yaml")


def test_a_name_of_two_words_is_one_key_in_yaml(files: Files) -> None:
    text = "gateway: {}\nklippy: {main: {sock: /tmp/m}}\ncamera: {NAME: {url: 'http://x'}}"
    assert list(files.load(text.replace("NAME", "'main nozzle'"), name="r.yaml").camera) == ["main nozzle"]
    with pytest.raises(ConfigError, match=r"r\.yaml:5: a text is wanted here.* is one key: 'main nozzle': \{…\}"):
        files.load("klippy: {main: {sock: /tmp/m}}\n\ncamera:\n  main:\n    nozzle: {url: 'http://x'}", name="r.yaml")


# Any configuration

LINE_CHARACTERS = st.sampled_from("abM118 =:;#[]{}'\"\\,*-~|&!%@`?<>é😀\xa0\t")
# A line of a value that means the same in Klipper's writing: no comment in it, no space around it.
LINES = st.text(LINE_CHARACTERS, min_size=1, max_size=12).filter(
    lambda line: line.strip() == line and not re.search(r"(^|\s)[#;]", line)
)
BLOCKS = st.lists(LINES | st.just(""), max_size=4).map("\n".join).map(str.strip)
NAMES = st.lists(
    st.from_regex(r"[a-z][a-zA-Z0-9_-]{0,5}", fullmatch=True), min_size=1, max_size=4, unique_by=parameter_name
)
SOCKS = st.text(st.sampled_from("abc/ =:;#[]'\"\\é"), max_size=8).filter(
    lambda text: text.strip() == text and not re.search(r"(^|\s)[#;]", text)
)


PATTERNS = st.lists(st.sampled_from(["M117", "SET_*", "G[01]", "a/b", "*"]), max_size=3)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    names = draw(NAMES)
    someone = st.none() | st.lists(st.sampled_from([*names, "clients", "gateway"]), max_size=3)
    klippy = {
        name: KlippySection(
            sock=f"/{number}/{draw(SOCKS)}".rstrip("/ "),
            on_connect=draw(BLOCKS),
            gcode_from=draw(someone),
            allow_gcode=draw(st.none() | PATTERNS),
            deny_gcode=draw(PATTERNS),
            endpoints_from=draw(someone),
            allow_endpoints=draw(st.none() | PATTERNS),
            events_from=draw(someone),
        )
        for number, name in enumerate(names)
    }
    router = RouterSection(
        sock="/router",
        default_instance=draw(st.none() | st.sampled_from(names)),
        sock_mode=draw(st.sampled_from(["660", "0600", "777"])),
        sock_owner=draw(st.none() | st.sampled_from(["pi", "pi:klipper", ":klipper"])),
        crash_dir="/crash",
    )
    return Config(router=router, klippy=klippy)


def options(section: msgspec.Struct) -> dict[str, str | list[str]]:
    """What is worth writing down: all that differs from its default."""
    defaults = {each.name: each.default for each in msgspec.structs.fields(section)}
    return {key: value for key, value in msgspec.structs.asdict(section).items() if value != defaults[key]}


def in_klippers_writing(config: Config, sign: str) -> list[str]:
    """A text for each section."""
    sections = {"router": config.router} | {f"klippy {name}": section for name, section in config.klippy.items()}
    return [
        f"[{title}]\n"
        + "".join(f"{key}{sign}{as_value(value)}\n" for key, value in options(section).items())
        + "# the end\n\n"
        for title, section in sections.items()
    ]


def as_value(value: str | list[str]) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return "\n  " + value.replace("\n", "\n  ") if "\n" in value else value


def in_yaml(config: Config) -> str:
    klippy = {name: options(section) for name, section in config.klippy.items()}
    text: str = yaml.safe_dump({"router": options(config.router), "klippy": klippy}, sort_keys=False)
    return text


def normal(config: Config) -> Config:
    """Paths as they are after loading."""
    klippy = {
        name: msgspec.structs.replace(section, sock=os.path.normpath(section.sock))
        for name, section in config.klippy.items()
    }
    return Config(router=config.router, klippy=klippy)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(config=configs(), sign=st.sampled_from([": ", " = ", ":", "="]), cut=st.integers(0, 5))
def test_what_was_written_is_what_is_read_in_either_writing_and_in_any_files(
    tmp_path: Path, config: Config, sign: str, cut: int
) -> None:
    files, sections = Files(tmp_path), in_klippers_writing(config, sign)
    expected = normal(config)
    assert files.load("".join(sections)) == expected
    assert files.load(in_yaml(config), name="r.yaml") == expected
    here, elsewhere = "".join(sections[:cut]), "".join(sections[cut:])
    assert files.load(f"{here}[include more.cfg]\n", {"more.cfg": elsewhere}) == expected


# Includes


def test_include_takes_patterns_and_either_writing(files: Files) -> None:
    config = files.load(
        MAIN + "[include printers/*]\n[include absent/*.cfg]\n",
        {
            "printers/b.cfg": "[klippy b]\nsock: b.sock\n[include ../more.yaml]",
            "printers/a.cfg": "[klippy a]\nsock: /a\n",
            "more.yaml": "include: [c.cfg, d.cfg]\nklippy: {e: {sock: /e}}\n",
            "c.cfg": "[klippy c]\nsock: /c\n",
            "d.cfg": "[klippy d]\nsock: /d\n",
        },
    )
    assert list(config.klippy) == ["main", "a", "b", "c", "d", "e"]
    assert config.klippy["b"].sock == f"{files.directory}/printers/b.sock"


def test_of_two_files_the_later_wins(files: Files) -> None:
    late = {"late.cfg": "[klippy main]\nsock: /late\n"}
    assert files.load(MAIN + "[include late.cfg]", late).klippy["main"].sock == "/late"
    assert files.load("[include late.cfg]\n" + MAIN, late).klippy["main"].sock == "/tmp/main.sock"
    assert files.load("klippy: {main: {sock: /x}}\ninclude: late.cfg", late, "r.yaml").klippy["main"].sock == "/late"


def test_the_same_file_may_be_included_twice(files: Files) -> None:
    assert files.load("[include a.cfg]\n[include a.cfg]\n", {"a.cfg": MAIN}).klippy


@pytest.mark.parametrize(
    ("first", "more", "expected"),
    [
        ("[include gone.cfg]", {}, "router.cfg:1: cannot read 'gone.cfg': No such file or directory"),
        ("\n[include]", {}, "router.cfg:2: this include names no file, write for example [include printers/*.cfg]"),
        ("[include a]", {"a/b": ""}, "router.cfg:1: cannot read 'a': Is a directory"),
        (
            "[include a.cfg]",
            {"a.cfg": "\n[include b.cfg]", "b.cfg": "[include ./a.cfg]"},
            "b.cfg:1: this include goes round in a loop: a.cfg -> b.cfg -> a.cfg. Remove one of these includes",
        ),
        ("[include router.c*]", {}, "router.cfg:1: this include goes round in a loop: router.cfg -> router.cfg. "),
        (
            "[include ~nobody_of_that_name/a.cfg]",
            {},
            "router.cfg:1: there is no home directory for '~nobody_of_that_name",
        ),
        ("[include a\0.cfg]", {}, "router.cfg:1: cannot read"),
        ("[include a\0/*.cfg]", {}, "router.cfg:1: cannot look for 'a\0/*.cfg': "),
        ("[include a.cfg]\nsock: /x", {"a.cfg": MAIN}, "router.cfg:2: 'sock: /x' is in no section"),
    ],
)
def test_a_wrong_include_names_its_line(files: Files, first: str, more: dict[str, str], expected: str) -> None:
    assert files.error(first, more).startswith(expected)


# What cannot be read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sock: /x\n" + MAIN, "router.cfg:1: 'sock: /x' is in no section, write one above it, for example [router]"),
        (MAIN + "on_connect\n", "router.cfg:3: cannot read 'on_connect', write 'key: value'"),
        (MAIN + ": x\n", "router.cfg:3: cannot read ': x', write 'key: value'"),
        ("[klippy main\n", "router.cfg:1: '[klippy main' has no closing ']'"),
        ("[klippy main] sock: /x\n", "router.cfg:1: 'sock: /x' follows the section's ']'"),
        ("[]\n", "router.cfg:1: this section has no name"),
        (
            MAIN + "[router]\n\n[klippy main]\nsock: /y",
            "router.cfg:6: [klippy main] has 'sock' twice, here and in line 2. ",
        ),
    ],
)
def test_unreadable_text_names_its_line(files: Files, text: str, expected: str) -> None:
    assert files.error(text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "router:\n\tsock: /x",
            "r.yaml:2: this is not YAML: found character '\\t' that cannot start any token. "
            "YAML is indented by spaces, never by tabs",
        ),
        ("router: [", "r.yaml:1: this is not YAML: expected the node content"),
        ("a: 1\n---\nb: 2", "r.yaml:2: this is not YAML: but found another document"),
        ("router:\n  sock: '\x00'", "r.yaml:2: this is not YAML: the character "),
        ('router: "\\UFFFFFFFF"', "r.yaml:1: this is not YAML: "),
        ("[" * 5000, "r.yaml:1: this is not YAML: "),
        ("- router", "r.yaml:1: the file is no mapping, write 'key: value' lines"),
        ("router: /x", "r.yaml:1: 'router' is no mapping, write 'key: value' lines"),
        ("klippy:\n  ? [a]\n  : b", "r.yaml:2: this key is no text"),
        ("klippy:\n  main: {sock: {}}", "r.yaml:2: a text is wanted here, not a list or a mapping"),
        (
            "klippy:\n  main:\n    sock: /a\n    sock: /b",
            "r.yaml:4: 'main' has 'sock' twice, here and in line 3. Remove one",
        ),
        ("klippy: {}\nrouter: {}\nklippy: {}", "r.yaml:3: the file has 'klippy' twice, here and in line 1. Remove one"),
        ("klippy: {main: {sock: a, SOCK: b}}", "r.yaml:1: [klippy main] has 'sock' twice"),
        ('klippy: {main: {sock: "\\uD800"}}', "r.yaml:1: '\\ud800' holds half a character"),
        ("klippy: &a {main: *a}", "r.yaml:1: "),
        ("include: gone.yaml", "r.yaml:1: cannot read 'gone.yaml': No such file or directory"),
    ],
)
def test_unreadable_yaml_names_its_line(files: Files, text: str, expected: str) -> None:
    assert files.error(text, name="r.yaml").startswith(expected)


@pytest.mark.parametrize("name", ["router.cfg", "router.yaml"])
def test_text_that_is_not_utf8_names_its_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"# one\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r":2: this line is not UTF-8: save the file as UTF-8"):
        load(tmp_path / name)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read '.*/none.cfg': No such file or directory$"):
        load(tmp_path / "none.cfg")


# What is read but wrong


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[klippy main]\nsocket: /x", "router.cfg:2: [klippy main] has no option 'socket'. Did you mean 'sock'?"),
        (MAIN + "zzz: 1", "router.cfg:3: [klippy main] has no option 'zzz'. Known: 'sock', 'on_connect'"),
        (MAIN + "[klipy led]\nsock: /x", "router.cfg:3: there is no section [klipy led]. Did you mean [klippy led]?"),
        (MAIN + "[Router]", "router.cfg:3: there is no section [Router]. Did you mean [router]?"),
        (MAIN + "[klippy]\nsock: /x", "router.cfg:3: [klippy] needs a name, for example [klippy main]"),
        (MAIN + "[router x]", "router.cfg:3: [router x] takes no name, write [router]"),
        ("", "router.cfg: no printer is configured: add a section such as [klippy main]"),
        ("[klippy main]", "router.cfg:1: [klippy main] lacks 'sock': add a line such as 'sock: ~/printer_data/"),
        ("[klippy main]\nsock:", "router.cfg:2: [klippy main] has an empty 'sock'"),
        (
            MAIN + "[router]\ndefault_instance: mian",
            "router.cfg:4: [router] names 'mian', but no printer has that name. Did you mean 'main'?",
        ),
        (
            MAIN + "[klippy b]\nsock: /tmp/./x/../main.sock",
            "router.cfg:4: [klippy b] has '/tmp/./x/../main.sock', "
            "which is the sock of [klippy main]: give each its own",
        ),
        (
            MAIN + "[router]\nsock: /tmp/main.sock",
            "router.cfg:2: [klippy main] has '/tmp/main.sock', which is the router's own socket: give each its own",
        ),
        (
            "[klippy main]\nsock: /tmp/klipper_router.sock",
            "router.cfg:2: [klippy main] has '/tmp/klipper_router.sock', which is the router's own",
        ),
        (MAIN + "[klippy a b]\nsock: /x", "router.cfg:3: [klippy a b]: a name may not hold ' '. "),
        (
            MAIN + "[klippy a\x07b]\nsock: /x",
            "router.cfg:3: [klippy 'a\\x07b']: a name may hold no unprintable character",
        ),
        (MAIN + "[klippy a,b]\nsock: /x", "router.cfg:3: [klippy a,b]: a name may not hold ','. "),
        (
            MAIN + "[klippy MAIN]\nsock: /x",
            "router.cfg:3: [klippy MAIN] and [klippy main] are both MAIN as G-code parameters: rename one",
        ),
        ("[klippy a-b]\nsock: /x\n[klippy a.b]\nsock: /y", "router.cfg:3: [klippy a.b] and [klippy a-b] are both A_B"),
        (
            "[klippy main]\nsock: /a\x07b",
            "router.cfg:2: [klippy main] has sock '/a\x07b': a path may hold no unprintable",
        ),
        (
            "[klippy main]\nsock: ~nobody-here/x",
            "router.cfg:2: [klippy main] has sock '~nobody-here/x': there is no such ",
        ),
        (
            "[router]\nsock_mode: rw\n" + MAIN,
            "router.cfg:2: [router] has sock_mode 'rw': write three octal digits, such as 660",
        ),
        (
            MAIN + "gcode_from: main, lde\n[klippy led]\nsock: l\n",
            "router.cfg:3: [klippy main] has 'lde' in gcode_from, which is no printer and no group. Did you mean 'le",
        ),
        (
            "[klippy clients]\nsock: x\n",
            "router.cfg:1: [klippy clients]: 'clients' stands for a group in gcode_from and its like, rename it",
        ),
    ],
)
def test_a_wrong_value_names_file_line_and_mend(files: Files, text: str, expected: str) -> None:
    assert files.error(text).startswith(expected)


def test_a_list_where_text_is_wanted_is_refused(files: Files) -> None:
    expected = "r.yaml:1: [klippy main] has sock '['a']': Expected `str`, got `array`"
    assert files.error("klippy: {main: {sock: [a]}}", name="r.yaml") == expected


def test_lists_are_split_at_commas_and_lines_in_either_writing(files: Files) -> None:
    expected = KlippySection(
        sock="/tmp/main.sock", allow_gcode=["M117", "SET_*"], deny_gcode=["M112"], gcode_from=["led", "clients"]
    )
    led = "[klippy led]\nsock: /tmp/led.sock\n"
    text = f"{MAIN}allow_gcode: M117,  SET_*\ndeny_gcode:\n  M112\ngcode_from:\n  led\n  clients\n{led}"
    assert files.load(text).klippy["main"] == expected
    main = "{sock: /tmp/main.sock, allow_gcode: [M117, SET_*], deny_gcode: M112, gcode_from: 'led, clients'}"
    text = f"klippy:\n  main: {main}\n  led: {{sock: /tmp/led.sock}}\n"
    assert files.load(text, name="router.yaml").klippy["main"] == expected


def test_an_empty_list_is_nobody_and_nothing(files: Files) -> None:
    assert files.load(f"{MAIN}gcode_from:\nallow_gcode:\n").klippy["main"].gcode_from == []


def test_other_paths_than_sockets_may_be_long(files: Files) -> None:
    assert files.load(f"[router]\ncrash_dir: {'x' * 200}\n{MAIN}").router.crash_dir == str(
        files.directory / ("x" * 200)
    )


def test_one_klippy_by_two_names_is_refused_though_one_is_a_link(files: Files) -> None:
    """It would register twice there, and each call be done twice."""
    folder = files.directory
    (folder / "linked").symlink_to(folder, target_is_directory=True)
    (folder / "b.sock").symlink_to("a.sock")
    for link in ("linked/a.sock", "b.sock"):
        error = files.error(f"[klippy main]\nsock: a.sock\n[klippy led]\nsock: {link}\n")
        assert error.endswith(f"[klippy led] has '{link}', which is the sock of [klippy main]: give each its own")


def test_a_sock_path_of_107_bytes_is_the_longest(files: Files) -> None:
    longest = "/" + "é" * 53
    assert files.load(f"[klippy main]\nsock: {longest}").klippy["main"].sock == longest
    assert "at most 107 bytes long" in files.error(f"[klippy main]\nsock: {longest}x")


def test_all_problems_are_told_at_once_and_the_first_is_primary(files: Files) -> None:
    with pytest.raises(ConfigError) as caught:
        files.load("[router]\ncolor: red\n[klippy main]\nsocket: /x\n")
    assert (caught.value.line, caught.value.key) == (2, "color")
    lines = str(caught.value).replace(f"{files.directory}/", "").split("\n")
    assert [line[: line.index(": ")] for line in lines] == ["router.cfg:2", "router.cfg:4", "router.cfg:3"]


FRAGMENTS = st.sampled_from(
    """[router]|[klippy a]|[klippy b]|sock: /x|sock=~/y|on_connect:|  M118|\t|#| ;|[include r.cfg]
[include *]|[include ~/x[]
router:|klippy:| main:|  sock: /x|&a|*a|include: [a, '*']|<<: *a|{|[|- |!!int x|'|"\\x|\x00|é|: |=|\r|~|---
{}|"\\U0011ffff"
""".replace("\n", "|").split("|")
)
TEXTS: st.SearchStrategy[Any] = st.one_of(
    st.text(), st.lists(FRAGMENTS, max_size=12).map("\n".join), st.lists(FRAGMENTS, max_size=8).map("".join)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(text=TEXTS, name=st.sampled_from(["r.cfg", "r.yaml"]))
def test_any_text_is_a_config_or_a_config_error(tmp_path: Path, text: str, name: str) -> None:
    for each in ("r.cfg", "r.yaml"):
        (tmp_path / each).unlink(missing_ok=True)
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config = load(tmp_path / name)
    except ConfigError:
        return
    assert config.klippy
