"""Runs the interpreter's own tests of its ``socket`` module with ``netnet.socket`` in its place, and prints how each ended
as JSON. To be run as a program: ``python standard_suite.py`` outside a loop, ``... task`` in a task.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import sys
import types
import unittest

import netnet


class Outcomes(unittest.TextTestResult):
    """What became of each test, by its name; of several subtests the worst."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.ended: dict[str, str] = {}

    def _note(self, test, how) -> None:
        test = getattr(test, "test_case", test)
        self.ended[".".join(test.id().split(".")[1:])] = how

    def addSuccess(self, test) -> None:
        self._note(test, "ok")

    def addSkip(self, test, reason) -> None:
        self._note(test, "skipped")

    def addFailure(self, test, error) -> None:
        self._note(test, self._exc_info_to_string(error, test))

    addError = addFailure

    def addSubTest(self, test, subtest, error) -> None:
        if error is not None:
            self.addFailure(test, error)

    def wasSuccessful(self) -> bool:
        return True


def load() -> types.ModuleType:
    """The interpreter's test module, importing ours. Without its tests of VM sockets, which hang on some machines."""
    import test.test_socket as original
    from test.support import threading_helper

    # the threads that look names up are kept for the next name; each test would wait for them to end
    threading_helper.threading_cleanup = lambda *_: None
    threading_helper.wait_threads_exit = lambda *_: contextlib.nullcontext()
    source = inspect.getsource(original).replace("import socket\n", "from netnet import socket\n", 1)
    module = types.ModuleType("standard")
    module.__file__ = original.__file__
    sys.modules["standard"] = module
    exec(compile(source, original.__file__, "exec"), vars(module))
    for name in [name for name in vars(module) if "VSOCK" in name]:
        delattr(module, name)
    return module


def main() -> None:
    runner = unittest.TextTestRunner(io.StringIO(), resultclass=Outcomes)
    suite = unittest.defaultTestLoader.loadTestsFromModule(load())
    result = netnet.run(runner.run, suite) if sys.argv[1:] == ["task"] else runner.run(suite)
    print(json.dumps(result.ended))


if __name__ == "__main__":
    main()
