"""What a run has measured so far, line by line in a file, so that one that was stopped can go on where it was.

The first line says what the run is; a run that is not the same does not go on. A last line that was not finished is
dropped, a measurement that failed is made again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netnet.bench.figures import Sample
from netnet.errors import UsageError

NAME = "samples.jsonl"

#: of one measurement: the table's title, the peer, the number of the round
Key = tuple[str, str, int]

#: a sample, and the notes that were made with it
Entry = tuple[dict[str, float], list[str]]


class Journal:
    """The file of one run in *folder*; *header* says what the run is. Opens it, and reads what is there.

    Raises ``UsageError`` where there is an unfinished run of another kind, or the folder cannot be used.
    """

    def __init__(self, folder: Path, header: Mapping[str, object], *, fresh: bool = False) -> None:
        self.path = folder / NAME
        self._header = json.loads(json.dumps(header))
        self._entries: dict[Key, Entry] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = None if fresh or not self.path.exists() else self._read()
            self._file = self.path.open("w" if kept is None else "r+", encoding="utf-8")
            if kept is None:
                self._write(self._header)
            else:
                self._file.truncate(kept)
                self._file.seek(kept)
        except OSError as error:
            raise UsageError(
                f"{folder}: cannot be used for the results: {error.strerror}; choose another --out"
            ) from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        """What is there of this measurement."""
        return self._entries.get(key)

    def put(self, key: Key, sample: Sample, notes: list[str]) -> None:
        """Writes a measurement; it is in the file when this returns."""
        self._entries[key] = dict(sample), notes
        title, peer, number = key
        self._write({"title": title, "peer": peer, "round": number, "sample": dict(sample), "notes": notes})

    def finished(self) -> None:
        """The run is complete and its results are written: the file has done its duty."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def _write(self, line: Any) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def _read(self) -> int | None:
        """Takes the entries in; returns where the last whole line ends. ``None``: nothing that is worth keeping."""
        content = self.path.read_bytes()
        kept = content.rfind(b"\n") + 1
        try:
            first, *others = [json.loads(line) for line in content[:kept].decode().splitlines()] or [None]
            entries = {(line["title"], line["peer"], line["round"]): (line["sample"], line["notes"]) for line in others}
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.path}: not the journal of a run ({error}); --fresh discards it") from None
        if first is None:
            return None
        if first != self._header:
            differs = sorted(
                name
                for name in {*first, *self._header}
                if not isinstance(first, dict) or first.get(name) != self._header.get(name)
            )
            raise UsageError(
                f"{self.path.parent}: has an unfinished run with another {', '.join(differs)}; "
                "--fresh discards it, --out chooses another folder"
            )
        self._entries = entries
        return kept


__all__ = ["NAME", "Entry", "Journal", "Key"]
