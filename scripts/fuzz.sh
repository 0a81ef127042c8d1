#!/usr/bin/env bash
# Coverage-guided fuzzing: throws inputs at everything that reads bytes from a socket or a file, for SECONDS each.
#
#   scripts/fuzz.sh [SECONDS] [TARGET…]     default: 60, all targets (test/fuzz/*.py; each states its invariant)
#   scripts/fuzz.sh --distil [TARGET…]      make test/fuzz/corpus anew: few inputs that reach all that was reached
#
# Runs in an environment of its own (.venv-fuzz) and goes on where it stopped: what it found worth keeping is in
# .fuzz/corpus. A finding ends its target's run, is kept in .fuzz/findings, and makes the exit code 1. Once mended,
# copy it to test/fuzz/corpus/TARGET, where test/fuzz/test_corpus.py replays it for ever.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

stamp="$(cat requirements-dev.txt requirements-fuzz.txt | cksum) $("$python" --version)"
make_environment .venv-fuzz "$stamp" --require-hashes --requirement requirements-dev.txt --requirement requirements-fuzz.txt
export PYTHONPATH=$PWD
fuzz_python=$PWD/.venv-fuzz/bin/python

seconds=60
case "${1:-}" in
    --distil) seconds=distil && shift ;;
    [0-9]*) seconds=$1 && shift ;;
esac
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(test/fuzz/corpus/*)

findings=0
for target in "${targets[@]##*/}"; do
    grown=.fuzz/corpus/$target
    mkdir -p "$grown" .fuzz/findings .fuzz/logs
    if [ "$seconds" = distil ]; then
        "$fuzz_python" -m test.fuzz.distil "$target" "$grown"
        continue
    fi
    log=.fuzz/logs/$target.log
    if nice "$fuzz_python" -m test.fuzz.run "$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1000 \
        -print_final_stats=1 -artifact_prefix=".fuzz/findings/$target-" "$grown" "test/fuzz/corpus/$target" \
        >"$log" 2>&1; then
        found="nothing found"
    else
        found="FOUND $(sed -n 's/.*Test unit written to //p' "$log" | tail -1) (see $log)"
        findings=1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    printf '%-16s %9s executions, %5s edges, %s\n' "$target" "${runs:-no}" "${edges:-no}" "$found"
done
exit $findings
