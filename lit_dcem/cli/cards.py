"""``lit-dcem cards``: a card for each checkpoint of a folder, from what it records and what ``cards.yaml`` adds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lit_dcem.cli.reproduction.document import written_by
from lit_dcem.errors import UsageError, require
from lit_dcem.files.hub import sha256_of
from lit_dcem.training.checkpoint import Checkpoint

NOTES = "cards.yaml"
"""what checkpoints do not record themselves: an introduction, and sections of notes by file name"""
TITLE = "# Trained weights"
FIELDS = (
    "trained", "settings", "seed", "command", "commit", "hardware", "time", "weights", "result", "curves", "remark",
    "file",
)  # fmt: skip
"""lines of a card, in order"""
UNKNOWN = "not recorded"
ALWAYS = ("seed", "commit", "hardware", "time")


def cards(folder: str | Path) -> str:
    """The cards of a folder's checkpoints, as Markdown.

    Args:
        folder: with ``*.ckpt`` files; JSON files of ``lit-dcem evaluate`` in it give the returns, and ``cards.yaml``
            what the checkpoints do not record.

    Raises:
        UsageError: no checkpoint there, one that cannot be read, or notes of another form or of files that are not
            there.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.ckpt"))
    require(bool(paths), "Cards are made for a folder with *.ckpt files", folder)
    notes = _notes(folder / NOTES)
    sections = notes.get("sections", [])
    noted = [name for section in sections for name in section.get("cards", {})]
    gone = sorted(set(noted) - {path.name for path in paths})
    require(not gone, f"{NOTES} must be about files that are there", ", ".join(gone))
    others = [path.name for path in paths if path.name not in noted]
    if others:
        sections = [*sections, {"title": "Others", "cards": {name: {} for name in others}}]
    returns = dict(_returns(folder))
    parts = [TITLE, written_by("lit-dcem cards checkpoints", f"checkpoints/{NOTES}"), notes.get("introduction", "")]
    parts += [text for section in sections for text in _section(section, folder, returns)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _notes(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{NOTES} must be a YAML file, got {path} ({type(error).__name__}).") from error
    sections = content.get("sections", []) if isinstance(content, dict) else None
    fits = isinstance(sections, list) and all(map(_is_section, sections))
    require(fits, f"{NOTES} must have an introduction and sections, each with title, text, common and cards", path)
    return content


def _is_section(section: object) -> bool:
    if not isinstance(section, dict) or not isinstance(section.get("title"), str):
        return False
    parts = [section.get("common", {}), section.get("cards", {})]
    return all(isinstance(part, dict) for part in [*parts, *parts[-1].values()])


def _section(section: Mapping[str, Any], folder: Path, returns: Mapping[str, str]) -> Iterator[str]:
    yield f"## {section['title']}"
    yield section.get("text", "")
    for name, own in section.get("cards", {}).items():
        yield f"### {name}"
        yield card(folder / name, {**section.get("common", {}), **own}, returns.get(name))


def card(path: Path, notes: Mapping[str, Any], result: str | None = None) -> str:
    """The lines of one card: what is noted, otherwise what the checkpoint records.

    Args:
        path: of the checkpoint.
        notes: by the names of `FIELDS`.
        result: of an evaluation, in words.

    Raises:
        UsageError: not a whole checkpoint, or unknown notes.
    """
    unknown = sorted(set(notes) - set(FIELDS))
    require(not unknown, f"A note must be one of {', '.join(FIELDS)}", f"{', '.join(unknown)} for {path.name}")
    noted = {name: f"`{value}`" if name in ("command", "curves") else value for name, value in notes.items()}
    known = {**_recorded(Checkpoint.read(path)), **({"result": result} if result else {}), **noted}
    known = {**dict.fromkeys(ALWAYS, UNKNOWN), **{name: value for name, value in known.items() if value is not None}}
    known["file"] = f"{path.stat().st_size:,} bytes, sha256 `{sha256_of(path)}`"
    return "\n".join(f"- {name}: {known[name]}" for name in FIELDS if name in known)


def _recorded(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    last: Mapping[str, float] = checkpoint.history[-1] if checkpoint.history else {}
    origin, steps = checkpoint.origin, last.get("val/simulator_steps")
    what = str(checkpoint.config.model.get("_class_path", UNKNOWN)).rpartition(".")[2]
    task = checkpoint.config.data.get("env")
    trained = f"{what}{f' of {task}' if task else ''}, {checkpoint.step:,} updates"
    return {
        "trained": trained + (f", {steps:,.0f} simulator steps" if steps else ""),
        "seed": origin.get("seed"),
        "commit": ", ".join(map(str, origin.get("commits", []))) or None,
        "hardware": ", then ".join(map(str, origin.get("hardware", []))) or None,
        "time": f"{last['seconds']:,.0f} s to the last validation" if "seconds" in last else None,
    }


def _returns(folder: Path) -> Iterator[tuple[str, str]]:
    """The returns in JSON files of ``lit-dcem evaluate``, in words, by the name of the checkpoint."""
    for path in sorted(folder.glob("*_returns.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            for report in content["results"].values():
                found = report["mean_interval"]
                spread = "" if found is None else f" (95% interval {found[0]:.0f} to {found[1]:.0f})"
                mean = f"return {report['mean']:.0f}{spread}"
                words = f"{mean}, median {report['median']:.0f}, of {len(report['returns'])} episodes (`{path.name}`)"
                if not content.get("changed"):  # by options of the evaluation: not the checkpoint as it is
                    yield Path(content.get("checkpoint_file") or content["options"]["checkpoint"]).name, words
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            rule = "*_returns.json must be files of lit-dcem evaluate --out"
            raise UsageError(f"{rule}, got {path} ({type(error).__name__}).") from error
