"""Searches for bytes that the proxy's protocols cannot take, led by which of their lines run (libFuzzer, by ``atheris``).

    python tests/socks/fuzz_handshake.py -runs=200000      # or -max_total_time=300 (seconds), or nothing: for ever

The arguments are libFuzzer's own; ``-help=1`` lists them. Without a directory of inputs it begins with the seeds of
``fuzz_targets``, where what must hold is written down as well. What it finds it writes to a file; the name of such a
file as the only argument tries that one again. ``atheris`` comes with the "dev" extra, where it has a wheel.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: limits made small, so that a search comes to them: module, name, value
SMALL_LIMITS = [
    ("http_head", "FIRST_LINE_BYTES_MAX", 150),
    ("http_head", "HEAD_BYTES_MAX", 400),
    ("http_head", "HEADER_LINES_MAX", 6),
    ("proxy_protocol", "HEADER_BYTES_MAX", 120),
]

#: bytes of an input. The longest message of SOCKS has 522
INPUT_BYTES_MAX = 700


def search(arguments: list[str]) -> None:
    """Does not return: at its end, or at something found, libFuzzer ends the process."""
    import atheris

    import netnet  # what is loaded before is not watched

    assert netnet.__file__
    with atheris.instrument_imports(include=["netnet"]):
        from netnet.socks import http_head, proxy_protocol
        from tests.socks import fuzz_targets
    modules = {"http_head": http_head, "proxy_protocol": proxy_protocol}
    for module, name, value in SMALL_LIMITS:
        assert hasattr(modules[module], name)
        setattr(modules[module], name, value)
    atheris.Setup([__file__, f"-max_len={INPUT_BYTES_MAX}", *arguments], fuzz_targets.check)
    atheris.Fuzz()


def search_from_seeds(arguments: list[str]) -> int:
    """Runs itself with the seeds written to a directory, which libFuzzer adds to. Returns the exit code."""
    from tests.socks.fuzz_targets import SEEDS, WORDS

    with tempfile.TemporaryDirectory() as directory:
        for number, seed in enumerate(SEEDS):
            Path(directory, f"{number:04}").write_bytes(seed)
        with tempfile.NamedTemporaryFile("w") as words:
            words.writelines('"{}"\n'.format("".join(f"\\x{byte:02x}" for byte in word)) for word in WORDS)
            words.flush()
            return subprocess.call([sys.executable, __file__, f"-dict={words.name}", *arguments, directory])


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # it was this directory
    if any(not argument.startswith("-") for argument in sys.argv[1:]):
        search(sys.argv[1:])
    else:
        sys.exit(search_from_seeds(sys.argv[1:]))
