"""`python -m klipper_router.virtual PRINTER.cfg -a SOCKET`"""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
