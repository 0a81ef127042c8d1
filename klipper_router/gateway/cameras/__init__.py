"""Cameras of the printers: one upstream connection per camera, any number of viewers.

From the wire up: `mjpeg` cuts a stream into frames, `upstream` speaks HTTP to a camera, `feed` shares one connection
between viewers, `camera` adds single pictures, `registry` knows which cameras a printer has, `site` answers requests.
Beside them: `webcams` and `frames` rewrite Moonraker's webcam addresses, `discovery` looks for cameras.
"""
