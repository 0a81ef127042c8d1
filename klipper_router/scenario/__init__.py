"""Scenarios: a folder of printer configurations and the steps that they must show, run on virtual or real printers.

One engine for `klipper-router test`, `klipper-router demo`, test/run.sh and the pytest plugin. docs/scenarios.md is
the users' side of it. From the bottom: `document` (YAML with line numbers), `schema` (what a step may say), `plan`
(a folder, checked), `printers` (virtual and real ones), `watch` (one printer's console and status), `world` (all
that steps act on), `faults` and `steps` (what each step does), `run` (a whole scenario), `show` (what people see of
it), `command` (the command line).

This module imports nothing: the pytest plugin lives here, and must not slow a run down that has no scenario.
"""
