"""Klipper Router: one process that lets many Klippers act as one."""

__version__ = "0.1.0"
