"""The command line: ``klipper-router -c router.cfg`` runs, the subcommands check, look, call and simulate.

Each subcommand imports what it needs itself, so that a plain run loads neither the tables' nor the virtual printers'
packages. Exit codes: 0 done, 1 it did not work, 2 wrong configuration or usage, 70 the router crashed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from klipper_router import __version__
from klipper_router.errors import CallError, ConfigError, ProtocolError

_EPILOG = """\
examples:
  klipper-router check -c ~/printer_data/config/router.cfg
  klipper-router -c ~/printer_data/config/router.cfg
  klipper-router status -c ~/printer_data/config/router.cfg
  klipper-router call router/gcode/script '{"target": "led", "script": "STATUS_READY"}'
  klipper-router demo                                   three virtual printers, no hardware needed

A configuration is as short as
  [klippy main]
  sock: ~/printer_data/comms/klippy.sock
  [klippy led]
  sock: ~/printer_data/comms/klippy_led.sock
"""


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit code, or raises SystemExit for ``--help`` and wrong usage."""
    try:
        try:
            return _main(sys.argv[1:] if argv is None else argv)
        finally:
            if sys.stdout is not None:  # as with `>&-`
                sys.stdout.flush()
    except BrokenPipeError:
        # `… | head`: the reader has enough. Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(arguments: list[str]) -> int:
    if arguments[:1] == ["virtual"]:
        # Its own flags, those of klippy.py.
        from klipper_router.virtual import command

        return command.main(arguments[1:])
    options = _parser(arguments).parse_args(arguments)
    try:
        return _COMMANDS[options.command or "run"](options)
    except ConfigError as error:
        print(f"klipper-router: {error}", file=sys.stderr)
        return 2
    except (CallError, ProtocolError) as error:
        print(f"klipper-router: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="klipper-router",
        description="Makes many Klippers act as one: run with -c FILE it connects to every Klippy of the configuration "
        "and serves the router/* remote methods to their macros.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"klipper-router {__version__}")
    _add_common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, text in (
        ("run", "run in the foreground, log to stderr (the default); SIGTERM or Ctrl-C stops it"),
        ("check", "validate the configuration; says file, line, key and the mend"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        _add_common(sub, sub=True)
        sub.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the configuration, the same as -c FILE")
    status = commands.add_parser("status", help="table of the printers of a running router")
    watch = commands.add_parser("watch", help="the same table, live")
    call = commands.add_parser(
        "call",
        help="one call to a running router, its answer as JSON on stdout",
        description="One call of a method of the router's socket. `call list_endpoints` names them all.",
    )
    for sub in (status, watch, call):
        _add_common(sub, sub=True)
        sub.add_argument("--sock", metavar="PATH", help="the router's socket (default: that of the configuration)")
    watch.add_argument("--interval", metavar="S", type=_seconds, default=1.0, help="seconds between looks (default: 1)")
    call.add_argument("method", metavar="METHOD", help="for example router/printers/list")
    call.add_argument("params", metavar="JSON", nargs="?", default="{}", help='for example \'{"target": "main"}\'')
    call.add_argument("--raw", action="store_true", help="print a result that is a text as it is, not as JSON")
    call.add_argument("--timeout", metavar="S", type=_seconds, help="give up after S seconds (default: never)")
    demo = commands.add_parser("demo", help="three virtual printers and a router: a print, told as a timeline")
    demo.add_argument("-v", "--verbose", action="store_true", help="show each route as well")
    test = commands.add_parser("test", help="run scenarios: folders of printer configurations and a scenario.yaml")
    if "test" in arguments:
        from klipper_router.scenario import command

        command.add_options(test)
    commands.add_parser("virtual", help="one virtual printer: virtual PRINTER.cfg -a SOCKET (see virtual --help)")
    return parser


def _add_common(parser: argparse.ArgumentParser, *, sub: bool = False) -> None:
    """Options that may stand before or after the subcommand; the one after wins."""
    default = argparse.SUPPRESS if sub else None
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=default, help="the configuration: Klipper style, or .yaml"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=argparse.SUPPRESS if sub else False, help="log each route"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _config_file(options: argparse.Namespace) -> Path:
    file: Path | None = getattr(options, "file", None) or options.config
    if file is None:
        raise ConfigError("no configuration given: klipper-router -c router.cfg (see --help)")
    return file


def _run(options: argparse.Namespace) -> int:
    import faulthandler

    from klipper_router import lean

    lean.without_openssl()
    import trio

    from klipper_router import app, log

    source = app.source(_config_file(options))
    recent = log.to_stderr(verbose=options.verbose)
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # says where it stood when systemd's watchdog ends it by SIGABRT
    try:
        trio.run(app.serve_until_signal, source)
    except ConfigError:
        raise
    except Exception as error:
        # Whatever none of our own errors tells is a bug: crash loudly, and help whoever reports it.
        from klipper_router import crash_report

        return crash_report.write(error, source.config, recent)
    return 0


def _check(options: argparse.Namespace) -> int:
    from klipper_router import app

    file = _config_file(options)
    source = app.source(file)  # with what was changed on the dashboard, as it would be run
    loaded, notes = source.config, app.check(source)
    print(f"{file}: fine. Printers: {', '.join(loaded.klippy)}; the router's socket: {loaded.router.sock}")
    for note in notes:
        print(f"note: {note}")
    return 0


def _sock(options: argparse.Namespace) -> str:
    from klipper_router import config

    if options.sock:
        try:
            return str(Path(options.sock).expanduser())
        except RuntimeError:
            raise ConfigError(f"--sock {options.sock}: there is no such home directory") from None
    if options.config is not None:
        return config.load(options.config).router.sock
    return config.RouterSection().sock


def _status(options: argparse.Namespace) -> int:
    from klipper_router import status

    status.show(_sock(options))
    return 0


def _watch(options: argparse.Namespace) -> int:
    from klipper_router import status

    status.watch(_sock(options), options.interval)
    return 0


def _call(options: argparse.Namespace) -> int:
    from klipper_router import client

    try:
        params = json.loads(options.params)
    except (ValueError, RecursionError) as error:
        print(f"klipper-router: the parameters are no JSON ({error}): {options.params[:1000]}", file=sys.stderr)
        return 2
    result = client.call(_sock(options), options.method, params, options.timeout)
    if options.raw and isinstance(result, str):
        print(result, end="" if result.endswith("\n") else "\n")
        return 0
    print(json.dumps(result, indent=2, ensure_ascii=False))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from klipper_router import demo

    return demo.main(verbose=options.verbose)


def _test(options: argparse.Namespace) -> int:
    from klipper_router.scenario import command

    return command.main(options)


_COMMANDS = {
    "run": _run,
    "check": _check,
    "status": _status,
    "watch": _watch,
    "call": _call,
    "demo": _demo,
    "test": _test,
}
