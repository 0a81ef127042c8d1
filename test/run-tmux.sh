#!/usr/bin/env bash
# test/run-tmux.sh FOLDER [--klipper KLIPPER_DIR] [--python P] [--mcu ELF] [more of `klipper-router test`]
# Runs a scenario in a tmux session: one pane for each printer's console, one for the router's log, one for the steps.
# In real time, so that it can be followed (--speed 10 is faster).
# Attaches when it has a terminal; otherwise leaves the session and says how to attach. Ends with `tmux kill-session`.
set -euo pipefail
source "$(dirname "$0")/scenario_command.sh"
command -v tmux >/dev/null || { echo "run-tmux.sh needs tmux; test/run.sh does without" >&2; exit 2; }

listed=$("${command[@]}" test --list "${arguments[@]}")
printers=$(sed 's/.*: //' <<<"$listed" | tr ' ' '\n' | awk '!seen[$0]++')
session=${SESSION:-klipper-router-$$}
consoles=$(mktemp -d -t kr-consoles-XXXXXX)

# The first pane runs the scenario, and takes everything away when it ends: a killed session sends it SIGHUP.
# `-F` waits for the file that the runner will make.
tail_pane() {
    printf 'tail -n +1 -F %q 2>/dev/null' "$1"
}
steps=$(printf '%q ' "${command[@]}" test --speed 1 --console-dir "$consoles" "${arguments[@]}")
quoted=$(printf %q "$consoles")
tmux new-session -d -s "$session" -x "${COLUMNS:-200}" -y "${LINES:-50}" bash -c "
    $steps & runner=\$!
    trap 'rm -rf $quoted' EXIT
    trap 'kill \$runner; wait \$runner; exit' HUP TERM
    trap 'kill \$runner' INT
    until wait \$runner; code=\$?; ! kill -0 \$runner 2>/dev/null; do :; done
    trap exit HUP TERM
    trap 'tmux kill-session -t $session' INT
    echo \"exit code \$code (Ctrl-C ends this session)\"
    while sleep 1; do :; done"
tmux set-option -t "$session" pane-border-status top >/dev/null
tmux set-option -t "$session" pane-border-format ' #{pane_title} ' >/dev/null
tmux select-pane -t "$session" -T steps
for printer in $printers; do
    tmux split-window -t "$session" "$(tail_pane "$consoles/$printer.console")"
    tmux select-pane -t "$session" -T "$printer"
    tmux select-layout -t "$session" tiled >/dev/null
done
tmux split-window -t "$session" "$(tail_pane "$consoles/router.log")"
tmux select-pane -t "$session" -T router
tmux select-layout -t "$session" tiled >/dev/null
tmux select-pane -t "$session.0"

if [ -t 0 ] && [ -t 1 ]; then
    exec tmux attach-session -t "$session"
fi
echo "the scenario runs in the tmux session $session (its consoles are written to $consoles):"
echo "  tmux attach-session -t $session       look at it"
echo "  tmux kill-session -t $session         end it"
