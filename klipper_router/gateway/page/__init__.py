"""The router's own page and API: a dashboard of every printer, JSON over HTTP and one WebSocket, OpenAPI, metrics.

| module | knows |
| --- | --- |
| `inventory` | what is configured: the files, and over them what was changed at run time, kept in one file |
| `masking` | which parts of an option are secret |
| `activity` | the last routes and events, the last errors of each printer |
| `rpc` | JSON-RPC 2.0 for the router's methods, over HTTP and the WebSocket |
| `live` | what open dashboards are shown, and how changes reach them |
| `extras` | where a printer's web interfaces and cameras are |
| `routes`, `api` | the table of routes, and what each does |
| `configured`, `models`, `bodies` | printers and cameras over the API, and the JSON of it |
| `openapi` | the document about all that, made from what serves |
| `static` | the page's files |
| `site` | `Page`, which the gateway asks |
"""
