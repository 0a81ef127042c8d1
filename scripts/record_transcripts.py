"""Record what real Klippers say: test/transcripts/, with which every run of the tests compares the virtual Klippy.

    KLIPPER_DIR=/path/to/klipper:/path/to/an/older/one scripts/record_transcripts.py [PATTERN]

Only scenarios whose name holds PATTERN (a regular expression) are recorded anew. See test/klipper/comparison.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

from test.klipper.comparison import klippers, scenario, transcripts


def main(pattern: str = "") -> int:
    """Exit code 1 when a scenario failed; what was recorded for it stays."""
    failed = False
    for klipper_dir in os.environ["KLIPPER_DIR"].split(":"):
        version = klippers.version_of(Path(klipper_dir))
        wanted = [each for each in scenario.load() if version in each.versions and re.search(pattern, each.id)]
        start = klippers.real(Path(klipper_dir))
        played = trio.run(functools.partial(klippers.play_all, wanted, start, at_once=klippers.REAL_AT_ONCE))
        for name, transcript in list(played.items()):
            if reason := klippers.failure(transcript):
                print(f"{version} {name}: {reason}", file=sys.stderr)
                del played[name]
                failed = True
        transcripts.save(version, played)
        print(f"{version} ({klipper_dir}): {len(played)} scenarios")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
