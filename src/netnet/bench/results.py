"""The results of a run as a file, ``results.json``: the machine, the versions, and every sample."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from netnet.bench.figures import Quantity, Table
from netnet.errors import UsageError

NAME = "results.json"

#: the form of the file; a number of its own for each that cannot be read as the one before
FORMAT = 1


@dataclass(frozen=True)
class Flame:
    """A flame graph that was made with a run: what it shows, and its file's name in the folder."""

    title: str
    file: str


@dataclass
class Results:
    """One run: when it was made (UTC), what and where, and what it found."""

    made: str
    netnet: str
    size: str
    seed: int
    #: the command that measures the same again
    command: str
    environment: str
    machine: dict[str, str]
    #: of the peers
    versions: dict[str, str]
    tables: list[Table]
    flames: list[Flame] = field(default_factory=list)


def write(results: Results, folder: Path) -> Path:
    """Writes the file, whole or not at all, and returns its path. Raises ``UsageError``."""
    path = folder / NAME
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(
            json.dumps({"format": FORMAT, **asdict(results)}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}; choose another --out") from None
    return path


def read(folder: Path) -> Results:
    """The results in a folder (or of a file). Raises ``UsageError`` where they are not."""
    path = folder / NAME if folder.is_dir() else folder
    try:
        content = json.loads(path.read_bytes())
        if content.pop("format") != FORMAT:
            raise ValueError("another format than this version's")
        return _results(content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: no results of this bench: {error}") from None


def _results(content: Mapping[str, Any]) -> Results:
    return Results(
        **{
            **content,
            "tables": [_table(table) for table in content["tables"]],
            "flames": [Flame(**flame) for flame in content["flames"]],
        }
    )


def _table(content: Mapping[str, Any]) -> Table:
    return Table(
        **{
            **content,
            "quantities": tuple(Quantity(**quantity) for quantity in content["quantities"]),
            "judged": tuple(content["judged"]),
        }
    )


__all__ = ["FORMAT", "NAME", "Flame", "Results", "read", "write"]
