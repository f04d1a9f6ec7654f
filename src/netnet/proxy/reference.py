"""The operator's reference of the configuration file, made from the tables in ``keys``, so that it says what is true.

``python -m netnet.proxy.reference docs/proxy.md packaging/netnet.toml`` writes the reference, and the example, into the
page, between the marks that stand there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from netnet.proxy.keys import SEVERAL, TABLES, Key

#: what each table is about
_ABOUT: Final = {
    "proxy": "The service as a whole.",
    "listener": "Where clients come in. There has to be one.",
    "users": "Who may log in: a table for each, named as the user. SOCKS5 and HTTP carry names and passwords of 255 bytes.",
    "upstreams": "Chains of proxies, by name, nearest first: lists of URLs, as"
    ' `office = ["socks5h://10.0.0.1:1080", "http://user:password@10.0.0.2:3128"]`. With `socks5h`, `socks4a` and `http`'
    " names are looked up by the proxy that is asked, with `socks5` and `socks4` here. User and password are"
    " percent-encoded. The first one may be a UNIX socket: `socks5h://unix:/path`.",
    "rule": "The first rule that matches decides; a rule matches if all of its conditions do, and a condition if one of its"
    " items does. If none matches, `default_rule` says what holds.",
    "limits": "What keeps one client from taking all. Times and bandwidths are texts with their unit: `ms`, `s`, `min`, `h`,"
    " `d`; `kB/s`, `MB/s`, `GB/s`, `KiB/s`, `MiB/s`, `GiB/s`, `kbit/s`, `Mbit/s`, `Gbit/s`.",
}

#: what stands around a part of the page that is made
_MARKS: Final = ("<!-- {name}: made by netnet.proxy.reference -->\n", "<!-- end of {name} -->\n")


def reference() -> str:
    """Every key with its form, its default and its reason, as Markdown."""
    return "\n".join(_table(name, keys) for name, keys in TABLES.items())


def page(text: str, example: str) -> str:
    """The page *text* with the reference and the example in their places. Raises ``ValueError`` where a mark is missing."""
    text = _put(text, "reference", reference())
    return _put(text, "example", f"```toml\n{example.rstrip()}\n```\n")


def _table(name: str, keys: tuple[Key, ...]) -> str:
    heading = f"[[{name}]]" if name in SEVERAL else "[users.NAME]" if name == "users" else f"[{name}]"
    rows = "".join(f"| `{key.name}` | {key.form.text} | {key.default_text} | {key.doc} |\n" for key in keys)
    head = "| Key | Value | Default | What it is for |\n|---|---|---|---|\n" if keys else ""
    return f"### `{heading}`\n\n{_ABOUT[name]}\n{chr(10) if keys else ''}{head}{rows}"


def _put(text: str, name: str, part: str) -> str:
    begin, end = (mark.format(name=name) for mark in _MARKS)
    before, found, rest = text.partition(begin)
    _, also, after = rest.partition(end)
    if not (found and also):
        raise ValueError(f"the page has no marks for the {name}: {begin.strip()} and {end.strip()}")
    return f"{before}{begin}\n{part}\n{end}{after}"


def main() -> None:
    """Writes the page anew: its path and that of the example are the arguments."""
    path, example = map(Path, sys.argv[1:3])
    path.write_text(page(path.read_text(), example.read_text()))


if __name__ == "__main__":
    main()

__all__ = ["page", "reference"]
