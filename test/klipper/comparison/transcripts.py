"""What real Klippers said, in test/transcripts/: a folder for each version, a file for each file of scenarios."""

from __future__ import annotations

import json
from pathlib import Path

from .play import Transcript
from .scenario import VERSIONS, load

FOLDER = Path(__file__).parents[2] / "transcripts"


def read(version: str) -> dict[str, Transcript]:
    """By the scenario's id. What an older version said exactly as the newest is kept only once."""
    transcripts: dict[str, Transcript] = {} if version == VERSIONS[0] else read(VERSIONS[0])
    for path in sorted((FOLDER / version).glob("*.json")):
        transcripts |= {f"{path.stem}/{name}": transcript for name, transcript in json.loads(path.read_text()).items()}
    return transcripts


def save(version: str, played: dict[str, Transcript]) -> None:
    """Add to what is kept, or replace it; what belongs to no scenario any more goes."""
    transcripts = read(version) | played
    newest = {} if version == VERSIONS[0] else read(VERSIONS[0])
    files: dict[str, dict[str, Transcript]] = {}
    for scenario in load():
        transcript = transcripts.get(scenario.id)
        if version in scenario.versions and transcript is not None and transcript != newest.get(scenario.id):
            files.setdefault(scenario.file, {})[scenario.name] = transcript
    folder = FOLDER / version
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        path.unlink()
    for file, by_name in files.items():
        (folder / f"{file}.json").write_text(_text(by_name))


def _text(by_name: dict[str, Transcript]) -> str:
    """One step a line: short, and readable in a diff."""
    scenarios = [
        f" {json.dumps(name)}: [\n"
        + ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in transcript)
        + "\n ]"
        for name, transcript in by_name.items()
    ]
    return "{\n" + ",\n".join(scenarios) + "\n}\n"
