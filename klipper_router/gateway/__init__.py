"""The optional HTTP gateway: every printer's Moonraker, cameras and web UI behind one port of the router's process.

Needs the extra ``klipper-router[gateway]`` and is imported only when ``[gateway]`` is configured; `settings` alone is
read with every configuration.
"""
