"""From the results of a run to its report: ``report.md``, ``report.html``, and the charts that both show.

``content`` says what a report has to say, in the blocks of ``document``; ``markdown`` and ``page`` write them, ``terminal``
prints tables while a run goes on. ``plan`` lays charts out, ``charts`` draws them, and is what needs matplotlib;
``standing`` compares, ``growth`` fits.
"""

from __future__ import annotations

from pathlib import Path

from netnet.bench.results import Results
from netnet.errors import UsageError


def write(results: Results, folder: Path) -> None:
    """Writes ``report.md``, ``report.html`` and ``charts/`` into *folder*, where the files of the flame graphs are.

    Raises ``UsageError`` where that cannot be written to.
    """
    from netnet.bench.report import charts, markdown, page

    try:
        charts.draw(results, folder)
        (folder / "report.md").write_text(markdown.render(results), encoding="utf-8")
        whole = page.render(results, folder / charts.FOLDER, _flames(results, folder))
        (folder / "report.html").write_text(whole, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder}: cannot be written: {error.strerror}; choose another --out"
        ) from None


def _flames(results: Results, folder: Path) -> dict[str, str]:
    """The flame graphs that are there, by title."""
    paths = {flame.title: folder / flame.file for flame in results.flames}
    return {title: path.read_text(encoding="utf-8") for title, path in paths.items() if path.is_file()}


__all__ = ["write"]
