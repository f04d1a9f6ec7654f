"""Runs the interpreter's own tests of its ``select`` and ``selectors`` modules with ours in their place, and prints how
each ended as JSON. To be run as a program: ``python standard_select_suite.py WHERE PART PARTS``. *WHERE* is ``task`` or
``outside`` (a loop); of every *PARTS* tests it runs the one numbered *PART*, so that several programs share the waiting.
"""

from __future__ import annotations

import importlib
import inspect
import io
import itertools
import json
import pathlib
import sys
import types
import unittest
from collections.abc import Iterator

import netnet

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.net.standard_suite import Outcomes

#: a program that the tests talk to says something each second, ten times: a tenth of that is as good
SLOW, QUICK = "do echo testing...; sleep 1; done", "do echo testing...; sleep 0.1; done"

#: the interpreter's test modules, and what each imports of ours
MODULES = {"test_select": "select", "test_poll": "select", "test_epoll": "select", "test_selectors": "selectors"}


def load(name: str, ours: str) -> types.ModuleType | None:
    """One of the interpreter's test modules, importing ours; ``None`` where it has nothing to test here."""
    try:
        original = importlib.import_module(f"test.{name}")
    except unittest.SkipTest:
        return None
    source = inspect.getsource(original)
    changed = source.replace(f"import {ours}\n", f"from netnet import {ours}\n", 1)
    assert changed != source, f"{name} does not import {ours} where it is looked for"
    changed = changed.replace(SLOW, QUICK)
    module = types.ModuleType(name)
    module.__file__ = original.__file__
    sys.modules[name] = module
    exec(compile(changed, original.__file__, "exec"), vars(module))
    return module


def each(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The tests of a suite, one by one."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


def main(where: str, part: str, parts: str) -> None:
    runner = unittest.TextTestRunner(io.StringIO(), resultclass=Outcomes)
    loader = unittest.defaultTestLoader
    modules = [load(name, ours) for name, ours in MODULES.items()]
    whole = unittest.TestSuite(loader.loadTestsFromModule(module) for module in modules if module is not None)
    suite = unittest.TestSuite(itertools.islice(each(whole), int(part), None, int(parts)))
    result = netnet.run(runner.run, suite) if where == "task" else runner.run(suite)
    print(json.dumps(result.ended))


if __name__ == "__main__":
    main(*sys.argv[1:])
