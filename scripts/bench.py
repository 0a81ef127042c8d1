#!/usr/bin/env python3
"""Measure what the router costs, against its aims and against what one would use instead.

    scripts/bench.py [--quick] [--case NAME …] [--json FILE] [--runs 3 --write-docs]

All of it is in the folder bench/ beside this file; docs/performance.md says how to read the figures.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.bench.command import main

if __name__ == "__main__":
    sys.exit(main())
