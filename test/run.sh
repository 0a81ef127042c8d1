#!/usr/bin/env bash
# test/run.sh FOLDER [--klipper KLIPPER_DIR] [--python P] [--mcu ELF] [more of `klipper-router test`]
# Runs a scenario and shows the consoles of all its printers, each line with the printer's name, and the router's log.
# Its exit code is the scenario's. Virtual printers, unless --klipper is given. Try: test/run.sh test/print_stats
set -euo pipefail
source "$(dirname "$0")/scenario_command.sh"
exec "${command[@]}" test --consoles "${arguments[@]}"
