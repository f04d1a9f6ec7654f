"""Programs that people use, through the real command: curl, ncat, socat, proxychains and nc against an HTTP server."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import random
import socket
import subprocess
import threading

import pytest

from tests.cli.process import PATIENCE_SECONDS, plain_environment, proxy_process

LARGE_BYTES = 100_000_000
SMALL = b"hello from behind the proxy\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory with a small file and one of 100 MB: mostly holes, with noise at odd places."""
    directory = tmp_path_factory.mktemp("origin")
    (directory / "small").write_bytes(SMALL)
    source = random.Random(7)
    with (directory / "large").open("wb") as file:
        file.truncate(LARGE_BYTES)
        for _ in range(100):
            file.seek(source.randrange(LARGE_BYTES - 100_000))
            file.write(source.randbytes(source.randrange(1, 100_000)))
    return directory


@pytest.fixture
def origin(files):
    """The port of an HTTP server on 127.0.0.1 only."""
    handler = functools.partial(Quiet, directory=str(files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxy():
    with proxy_process() as process:
        yield process


def client(*arguments, data=b""):
    """Runs a program to its end: exit status and output."""
    ended = subprocess.run(
        arguments, input=data, capture_output=True, timeout=PATIENCE_SECONDS, env=plain_environment(), check=False
    )
    return ended.returncode, ended.stdout


def lines_of(proxy):
    """The connection lines of a proxy that is stopped now."""
    code, lines = proxy.stop()
    assert code == 0
    assert lines.pop() == "netnet proxy: stopped by SIGTERM"
    return lines


def digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def get(path="/small"):
    return f"GET {path} HTTP/1.0\r\n\r\n".encode()


@pytest.mark.client("curl")
@pytest.mark.parametrize(("option", "host"), [("--socks4", "127.0.0.1"), ("--socks4a", "localhost")])
def test_curl_fetches_100_mb(proxy, origin, files, tmp_path, option, host):
    to = tmp_path / "fetched"
    code, _ = client("curl", "-sS", option, proxy.address, "-o", str(to), f"http://{host}:{origin}/large")
    assert code == 0
    assert digest(to) == digest(files / "large")
    [line] = lines_of(proxy)
    assert f" -> {host}:{origin} " in line
    assert int(line.split("/")[1].split(" ")[0]) > LARGE_BYTES
    assert line.endswith(" closed")


@pytest.mark.client("curl")
@pytest.mark.parametrize("option", ["--socks4", "--socks4a"])
def test_curl_and_a_refused_target(proxy, option):
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{refusing.getsockname()[1]}/"
        assert client("curl", "-sS", option, proxy.address, url) == (97, b"")
    [line] = lines_of(proxy)
    assert "refused" in line


@pytest.mark.client("curl")
def test_curl_and_an_unknown_name(proxy):
    assert client("curl", "-sS", "--socks4a", proxy.address, "http://no.such.host.invalid/") == (97, b"")
    [line] = lines_of(proxy)
    assert " -> no.such.host.invalid:80 0/0 bytes " in line


@pytest.mark.client("curl")
def test_curl_with_a_user(proxy, origin):
    url = f"http://127.0.0.1:{origin}/small"
    assert client("curl", "-sS", "-x", f"socks4://fred@{proxy.address}", url) == (0, SMALL)


@pytest.mark.client("curl")
@pytest.mark.parametrize("option", ["--socks5", "-x"])
def test_curl_in_another_protocol_fails_at_once(proxy, origin, option):
    code, output = client("curl", "-sS", option, proxy.address, f"http://127.0.0.1:{origin}/small")
    assert code != 0
    assert output in (b"", b"\0\x5b\0\0\0\0\0\0")
    [line] = lines_of(proxy)
    assert "bad request" in line


@pytest.mark.client("curl")
def test_many_curls_at_once(proxy, origin):
    arguments = ["curl", "-sS", "--socks4a", proxy.address, f"http://localhost:{origin}/small"]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(arguments, stdout=subprocess.PIPE, env=plain_environment()))
            for _ in range(10)
        ]
        assert [one.communicate(timeout=PATIENCE_SECONDS)[0] for one in started] == [SMALL] * 10
    assert len(lines_of(proxy)) == 10


@pytest.mark.client("ncat")
def test_ncat(proxy, origin):
    code, output = client(
        "ncat", "--proxy", proxy.address, "--proxy-type", "socks4", "127.0.0.1", str(origin), data=get()
    )
    assert code == 0
    assert output.endswith(b"\r\n\r\n" + SMALL)
    assert len(lines_of(proxy)) == 1


@pytest.mark.client("socat")
@pytest.mark.parametrize(("kind", "host"), [("SOCKS4", "127.0.0.1"), ("SOCKS4A", "localhost")])
def test_socat(proxy, origin, kind, host):
    address = f"{kind}:127.0.0.1:{host}:{origin},socksport={proxy.port},socksuser=fred"
    code, output = client("socat", "-t", str(PATIENCE_SECONDS), "-", address, data=get())
    assert code == 0
    assert output.endswith(b"\r\n\r\n" + SMALL)
    [line] = lines_of(proxy)
    assert f" -> {host}:{origin} " in line


@pytest.mark.client("socat")
def test_socat_and_a_refused_target(proxy):
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        address = f"SOCKS4:127.0.0.1:127.0.0.1:{refusing.getsockname()[1]},socksport={proxy.port}"
        code, output = client("socat", "-", address)
    assert code == 1
    assert output == b""


@pytest.mark.client("proxychains4", "curl")
def test_proxychains(proxy, origin, tmp_path):
    file = tmp_path / "proxychains.conf"
    file.write_text(f"strict_chain\nquiet_mode\n[ProxyList]\nsocks4 127.0.0.1 {proxy.port}\n")
    url = f"http://127.0.0.1:{origin}/small"
    assert client("proxychains4", "-q", "-f", str(file), "curl", "-sS", url) == (0, SMALL)
    assert len(lines_of(proxy)) == 1


@pytest.mark.client("nc")
def test_nc(proxy, origin):
    code, output = client("nc", "-N", "-X", "4", "-x", proxy.address, "127.0.0.1", str(origin), data=get())
    assert code == 0
    assert output.endswith(b"\r\n\r\n" + SMALL)
    assert len(lines_of(proxy)) == 1


@pytest.mark.client("nc")
def test_half_close_through_nc(proxy):
    """The answer comes after the end of the question."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
        with subprocess.Popen(
            ["nc", "-N", "-X", "4", "-x", proxy.address, "127.0.0.1", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            process.stdin.write(b"question")
            process.stdin.close()
            process.stdin = None
            seen, _ = target.accept()
            with seen:
                seen.settimeout(PATIENCE_SECONDS)
                question = b""
                while chunk := seen.recv(100):
                    question += chunk
                seen.sendall(b"answer to " + question)
            assert process.communicate(timeout=PATIENCE_SECONDS)[0] == b"answer to question"
