"""A browser through ``netnet proxy``: Chromium without a window loads a page, runs its script, and gets what it fetches.

The page fetches the large document and tells its digest, so a whole web page's way is gone: several connections, keep-alive,
names looked up by the proxy.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.process import PATIENCE_SECONDS, configured_proxy, end_session, plain_environment
from tests.socks.origin import LARGE, digest, has_ipv6, http_origin, open_configuration

#: a browser that starts for the first time, on a busy machine, takes its time
BROWSER_SECONDS = 2 * PATIENCE_SECONDS

#: no sandbox: it does not run as root, nor in most containers. ``<-loopback>``: loopback goes through the proxy, too
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--proxy-bypass-list=<-loopback>", "--virtual-time-budget=60000", "--dump-dom"),
]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    directory = tmp_path_factory.mktemp("proxy")
    with configured_proxy(directory, open_configuration(directory), listeners=2 + has_ipv6()) as process:
        yield process


def browse(*arguments):
    """Exit status, and the page as it is after its scripts."""
    process = subprocess.Popen(
        ["chromium", *OPTIONS, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it complains about all that a machine without a desktop has not
        env=plain_environment(),
        start_new_session=True,
    )
    with process.stdout:
        try:
            page, _ = process.communicate(timeout=BROWSER_SECONDS)
        finally:
            end_session(process)
    return process.returncode, page


@pytest.mark.timeout(2 * BROWSER_SECONDS)
@pytest.mark.client("chromium")
@pytest.mark.parametrize(("scheme", "protocol"), [("socks5", "socks5"), ("socks4", "socks4"), ("http", "http")])
def test_chromium_loads_a_page(proxy, tmp_path, scheme, protocol):
    with http_origin() as port:
        host = "127.0.0.1" if scheme == "socks4" else "localhost"  # its SOCKS4 has no names
        code, page = browse(
            f"--user-data-dir={tmp_path}", f"--proxy-server={scheme}://{proxy.address}", f"http://{host}:{port}/page"
        )
        assert code == 0
        assert b'<p id="digest">' + digest(LARGE) + b"</p>" in page
        session = proxy.session(f"{host}:{port}")
        assert session["protocol"] == protocol
