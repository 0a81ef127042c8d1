"""What can be wrong with a camera."""

from __future__ import annotations

from klipper_router.errors import RouterError


class CameraError(RouterError):
    """A camera gives no pictures now; ``str()`` says why, for whoever wants to see it."""
