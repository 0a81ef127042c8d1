"""A Moonraker-compatible API for printers without Moonraker (``moonraker: none``).

What Mainsail, Fluidd, KlipperScreen, Home Assistant and Mobileraker need of Moonraker 0.11, answered by the router
itself: `site` speaks HTTP and WebSocket, `rpc` is JSON-RPC 2.0 as Moonraker speaks it, `methods` is the one table of
what is served, `klippy` is the printer as Moonraker sees one. docs/moonraker.md says what is served and what is not.
"""
