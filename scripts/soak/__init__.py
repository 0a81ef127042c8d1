"""Chaos for a running router, with an account of all that it was given to do (the command is `scripts/soak.py`).

`books` (with `breaks`, `jobs`, `statuses`, `exchanges`) holds the account and the rules that judge it, without I/O;
`machines` and `router_process` run the processes; `troubles` makes things go wrong; `clients` gives the router work;
`report` tells. `web` is all that of the gateway: `upstream` stands behind it, `web_clients` use it, `web_misdeeds`
abuse it and change its configuration; `wire` is their HTTP. Only `web` and what it imports need the gateway's extra.
"""
