"""``python -m klipper_router``: the command line."""

import sys

from klipper_router.cli import main

sys.exit(main())
