"""Chaos for a running router, with an account of all that it was given to do (the command is `scripts/soak.py`).

`books` (with `breaks`, `jobs`, `statuses`) holds the account and the rules that judge it, without I/O; `machines` and
`router_process` run the processes; `troubles` makes things go wrong; `clients` gives the router work; `report` tells.
"""
