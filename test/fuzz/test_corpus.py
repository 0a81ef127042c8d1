"""Every input of the corpus keeps its target's invariant, without atheris; among them each that once did not."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from test.fuzz.rig import NoHiddenErrors

CORPUS = Path(__file__).parent / "corpus"
TARGETS = sorted(folder.name for folder in CORPUS.iterdir())


@pytest.fixture
def no_hidden_errors() -> Iterator[None]:
    logger, handler = logging.getLogger("klipper_router"), NoHiddenErrors()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("no_hidden_errors")
@pytest.mark.parametrize("target", TARGETS)
async def test_the_corpus_keeps_the_invariant(target: str) -> None:
    one_input = importlib.import_module(f"test.fuzz.{target}").one_input
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for file in inputs:
        try:
            outcome = one_input(file.read_bytes())
            if inspect.iscoroutine(outcome):
                await outcome
        except Exception as error:
            error.add_note(f"with {file}")
            raise
