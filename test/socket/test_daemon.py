"""The contract of the running daemon, with virtual printers as processes."""

from test.daemon_contract import *  # noqa: F403 - the tests, with this folder's backend
