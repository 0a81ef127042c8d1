"""The optional HTTP gateway: every printer's Moonraker, cameras and web UI behind one port of the router's process.

Needs the packages of the extra ``gateway`` and is imported only when ``[gateway]`` is configured; `settings` alone is
read with every configuration.
"""
