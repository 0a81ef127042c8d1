"""The corpus of attacks (attacks.yaml) as data, and the table that docs/gateway.md shows of it.

``python -m test.gateway.attacks`` writes that table anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CORPUS = Path(__file__).with_name("attacks.yaml")
PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
BEGIN, END = "<!-- attacks: begin -->\n", "<!-- attacks: end -->\n"


class Attack(NamedTuple):
    """A request, or a response of an upstream."""

    name: str
    sent: bytes
    answers: tuple[int, ...]
    kept: bool = False
    reaches_upstream: bool = True
    has: tuple[bytes, ...] = ()
    lacks: tuple[bytes, ...] = ()

    def bytes_for(self, host: str) -> bytes:
        return self.sent.replace(b"{host}", host.encode())

    @property
    def answer(self) -> str:
        return " or ".join(map(str, self.answers))


def _bytes(text: str) -> bytes:
    """``{70000 x a}`` is that many of it."""
    whole = re.sub(r"\{(\d+) x ([^}]*)\}", lambda match: match[2] * int(match[1]), text, flags=re.DOTALL)
    return whole.encode("latin-1")


def _parts(text: str) -> tuple[bytes, ...]:
    return tuple(part.encode("latin-1") for part in text.split("|") if part)


def _answers(answer: int | list[int]) -> tuple[int, ...]:
    return tuple(answer) if isinstance(answer, list) else (answer,)


def _request(entry: dict[str, Any]) -> Attack:
    upstream = entry["upstream"]
    expected = {} if upstream == "nothing" else upstream
    return Attack(
        name=entry["name"],
        sent=_bytes(entry["send"]),
        answers=_answers(entry["answer"]),
        reaches_upstream=upstream != "nothing",
        has=_parts(expected.get("has", "")),
        lacks=_parts(expected.get("lacks", "")),
    )


def _response(entry: dict[str, Any]) -> Attack:
    return Attack(
        name=entry["name"],
        sent=_bytes(entry["upstream"]),
        answers=_answers(entry["answer"]),
        kept=entry.get("kept", False),
        lacks=_parts(entry["lacks"]),
    )


_corpus = yaml.safe_load(CORPUS.read_text())
REQUESTS = [_request(entry) for entry in _corpus["requests"]]
RESPONSES = [_response(entry) for entry in _corpus["responses"]]


def table() -> str:
    """What the documentation shows."""
    lines = ["| A client sends | it gets | the upstream gets |", "| --- | --- | --- |"]
    for attack in REQUESTS:
        reached = "nothing"
        if attack.reaches_upstream:
            has = [f"`{_shown(part)}`" for part in attack.has]
            lacks = [f"no `{_shown(part)}`" for part in attack.lacks]
            reached = ", ".join(has + lacks)
        lines.append(f"| {attack.name} | {attack.answer} | {reached} |")
    lines += ["", "| An upstream sends | the client gets |", "| --- | --- |"]
    lines += [f"| {attack.name} | {attack.answer}, without it |" for attack in RESPONSES]
    return "\n".join(lines) + "\n"


def _shown(part: bytes) -> str:
    return repr(part.decode("latin-1").strip())[1:-1]


def page_with_table(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
