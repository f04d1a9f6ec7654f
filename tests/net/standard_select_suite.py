"""Runs the interpreter's own tests of its ``select`` and ``selectors`` modules with ours in their place, and prints how
each ended as JSON. To be run as a program: ``python standard_select_suite.py`` outside a loop, ``... task`` in a task.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import pathlib
import sys
import types
import unittest

import netnet

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.net.standard_suite import Outcomes

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
    module = types.ModuleType(name)
    module.__file__ = original.__file__
    sys.modules[name] = module
    exec(compile(changed, original.__file__, "exec"), vars(module))
    return module


def main() -> None:
    runner = unittest.TextTestRunner(io.StringIO(), resultclass=Outcomes)
    loader = unittest.defaultTestLoader
    modules = [load(name, ours) for name, ours in MODULES.items()]
    suite = unittest.TestSuite(loader.loadTestsFromModule(module) for module in modules if module is not None)
    result = netnet.run(runner.run, suite) if sys.argv[1:] == ["task"] else runner.run(suite)
    print(json.dumps(result.ended))


if __name__ == "__main__":
    main()
