"""The proof that values do no harm: the model of Klipper reads them as it reads the same script made with figures.

Shared by the property tests and the fuzz targets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from klipper_router.gcode import Script
from klipper_router.template import Template

from .klipper_model import TEXT_COMMANDS, Klipper, Ran, Version, is_traditional

# Figures fit wherever a value may stand, and need no quotes.
HARMLESS = {"a": "7000001", "b": "7000002"}


def run_as_the_router_does(version: Version, script: Script) -> tuple[list[Ran], str | None, bool]:
    """What ran, the error, and whether the plain spelling was needed: the exact one first, the rest after a refusal."""
    klipper = Klipper(version)
    first = klipper.run(script.exact)
    rest = script.after_malformed(first.error) if first.error is not None else None
    if rest is None:
        return first.ran, first.error, False
    again = klipper.run(rest)
    return first.ran + again.ran, again.error, True


def expected_text(text: str, values: Mapping[str, str]) -> str:
    """What the harmless reading becomes with the real values."""
    return re.sub("700000[12]", lambda match: values["a" if match[0] == HARMLESS["a"] else "b"], text)


def in_one_line(values: Mapping[str, str]) -> dict[str, str]:
    return {key: value.replace("\n", " ") for key, value in values.items()}


def in_plain(values: Mapping[str, str]) -> dict[str, str]:
    return {key: re.sub("[#*;]", "_", value) for key, value in values.items()}


def is_text(ran: Ran) -> bool:
    return ran.command in TEXT_COMMANDS


def without_text(all_ran: list[Ran]) -> list[Ran]:
    return [ran for ran in all_ran if not is_text(ran)]


def prove_harmless(version: Version, template: Template, values: Mapping[str, str]) -> None:
    """That ``values`` do in Klipper what harmless values do, and nothing else."""
    harmless, harmless_error, _ = run_as_the_router_does(version, template.fill(HARMLESS))
    ran, error, replaced = run_as_the_router_does(version, template.fill(values))
    # A value is no cause of an error
    assert (error is None) == (harmless_error is None)
    # Text commands: there may be fewer of them (Klipper does not find `M117<tab>12`), and they only show text
    lines = [line for line in template.text.split("\n") if re.match(r"\s*(M117|M118|M23)(?!\S)", line, re.IGNORECASE)]
    assert sum(map(is_text, ran)) <= max(len(lines), sum(map(is_text, harmless)))
    # The others: the same in order, keys and values
    exact = in_one_line(values)
    plain = in_plain(exact)
    seen = without_text(ran)
    wanted = without_text(harmless)
    assert [each.command for each in seen] == [each.command for each in wanted]
    for each, like in zip(seen, wanted, strict=True):
        assert each.parameters.keys() == like.parameters.keys()
        for key, text in like.parameters.items():
            fits = {expected_text(text, exact)}
            if replaced and not is_traditional(each.command):
                fits.add(expected_text(text, plain))
            assert each.parameters[key] in fits
    if replaced and error is None:
        assert version == "v0.12"


def prove_appended(version: Version, template: Template, context: Mapping[str, str]) -> list[Ran]:
    """That a context appended to ``template``, a handler of one line, adds its keys and values, and nothing else.

    Returns what ran: one command, or none if the handler alone would not run.
    """
    bare, bare_error, _ = run_as_the_router_does(version, template.fill({}))
    harmless, _, _ = run_as_the_router_does(version, template.fill(dict.fromkeys(context, "0")))
    ran, error, _ = run_as_the_router_does(version, template.fill(context))
    assert (error is None) == (bare_error is None)
    assert [each.command for each in ran] == [each.command for each in bare] == [each.command for each in harmless]
    for each, like, alone in zip(ran, harmless, bare, strict=True):
        assert each.parameters.keys() == like.parameters.keys()
        assert alone.parameters.keys() <= each.parameters.keys()
        given = in_one_line(context)
        known = {*alone.parameters.values(), *given.values(), *in_plain(given).values()}
        assert {*each.parameters.values()} <= known
    assert len(ran) <= 1
    return ran
