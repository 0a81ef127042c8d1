#!/usr/bin/env python3
"""Chaos for a router, with an account of everything: `scripts/soak.py --minutes 30 --printers 12` (see `--help`)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.soak.run import main

if __name__ == "__main__":
    sys.exit(main())
