"""Starting a command so that every Python process in it is sampled by task, without a word in the program.

Python runs a module ``sitecustomize`` at its start, if it finds one. A private folder with such a module is put in front
of ``PYTHONPATH``: it starts the sampler, and then runs the ``sitecustomize`` that would have been found without it. A
program that ignores the environment (``python -I``, ``-E``, ``-S``), or a Python without netnet, is not sampled.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final, Self

from netnet.flame import private
from netnet.flame.inside import RATE, Recorder, begin
from netnet.flame.results import Results
from netnet.flame.stacks import Stacks

FOLDER: Final = "NETNET_FLAME_FOLDER"
FREQUENCY: Final = "NETNET_FLAME_RATE"

_TOKEN: Final = "run"

_SITECUSTOMIZE: Final = '''\
"""Starts netnet's sampler, and hands over to the next module of this name."""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_here = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [path for path in sys.path if os.path.realpath(path) != _here]
try:
    from netnet.flame.starting import begin_here
except ImportError:
    pass
else:
    begin_here()
_next = PathFinder.find_spec("sitecustomize", sys.path)
if _next is not None and _next.loader is not None:
    sys.modules["sitecustomize"] = module_from_spec(_next)
    _next.loader.exec_module(sys.modules["sitecustomize"])
'''


class Started:
    """The private folder for a command that is sampled by task, and what its processes write there."""

    def __init__(self, rate: float = RATE) -> None:
        self._rate = rate
        self._path = tempfile.mkdtemp(prefix="netnet-flame-")
        os.mkdir(os.path.join(self._path, "results"), 0o700)
        Path(self._path, "sitecustomize.py").write_text(_SITECUSTOMIZE, encoding="utf-8")
        self._folder = private.open_folder(os.path.join(self._path, "results"), os.geteuid())

    def environment(self) -> dict[str, str]:
        """The environment for the command: that of this process, and what makes Python start the sampler."""
        before = os.environ.get("PYTHONPATH")
        return {
            **os.environ,
            "PYTHONPATH": f"{self._path}{os.pathsep}{before}" if before else self._path,
            FOLDER: os.path.join(self._path, "results"),
            FREQUENCY: repr(self._rate),
        }

    def recorder(self) -> Recorder:
        """What samples this very process, and those that it forks, into the same folder."""
        return Recorder(os.path.join(self._path, "results"), _TOKEN, self._rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the folder."""
        os.close(self._folder)
        shutil.rmtree(self._path, ignore_errors=True)

    def finish(self) -> Stacks:
        """What the processes have counted so far."""
        return Results(self._folder, _TOKEN, os.geteuid()).stacks()


def begin_here() -> None:
    """Starts the sampler as the environment says; called at the start of each Python process of the command."""
    folder = os.environ.get(FOLDER)
    if folder is not None and os.path.isdir(folder):
        begin(Recorder(folder, _TOKEN, float(os.environ.get(FREQUENCY, RATE))))
