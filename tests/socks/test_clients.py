"""Programs that people use, through the real command: whatever goes through is checked, both ways, small and 20 MB.

One proxy for all tests of this file, one that asks for passwords, and targets that nobody but the proxy is meant to reach:
its log tells that it was asked, by which protocol and what for. What programs make of a refusal is here as their exit
status.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
from urllib.parse import quote

import pytest

from netnet.proxy.passwords import hash_password
from tests.cli.process import PATIENCE_SECONDS, configured_proxy, plain_environment
from tests.socks.origin import (
    COMMON,
    LARGE,
    LISTENER,
    PASSWORD,
    SMALL,
    USER,
    client,
    digest,
    digest_target,
    has_ipv6,
    http_origin,
    needs_ipv6,
    open_configuration,
    password_configuration,
    refusing_port,
    tcp_target,
)

LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"
WRONG = f"{USER}:wrong@"

#: scheme and options of curl → the protocol and the host in the proxy's log
CURL = [
    ("socks4", [], "127.0.0.1", "socks4"),
    ("socks4a", [], "localhost", "socks4a"),
    ("socks5", [], "127.0.0.1", "socks5"),
    ("socks5h", [], "localhost", "socks5"),
    ("http", [], "localhost", "http"),
    ("http", ["-p"], "localhost", "http"),
]
CURL_IDS = ["socks4", "socks4a", "socks5", "socks5h", "http", "http -p"]

#: and curl's exit status when the proxy says no (with ``-f``, since what an HTTP proxy says is a page like any other)
CURL_REFUSED = [
    ("socks4", [], 97),
    ("socks4a", [], 97),
    ("socks5", [], 97),
    ("socks5h", [], 97),
    ("http", ["-f"], 22),
    ("http", ["-p"], 56),
]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    directory = tmp_path_factory.mktemp("open")
    with configured_proxy(directory, open_configuration(directory), listeners=2 + has_ipv6()) as process:
        yield process


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The proxy that asks for passwords: ``addresses`` are the listener where one has to log in, and where one may."""
    text = password_configuration(hash_password(PASSWORD))
    with configured_proxy(tmp_path_factory.mktemp("guarded"), text, listeners=2) as process:
        yield process


@pytest.fixture
def origin():
    with http_origin() as port:
        yield port


@pytest.fixture
def target():
    with digest_target() as port:
        yield port


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    file = tmp_path_factory.mktemp("large") / "large"
    file.write_bytes(LARGE)
    return str(file)


def curl(*arguments):
    return client("curl", "-sS", *arguments)


def get(path="/small"):
    return f"GET {path} HTTP/1.0\r\n\r\n".encode()


def went_through(proxy, target, protocol, user=None):
    """The connection to *target*, which is the last one that there was, is in the log as it should be."""
    session = proxy.session(target)
    assert (session["protocol"], session["user"]) == (protocol, user)
    assert session["ending"] == "closed"
    assert session["sent"] > 0 < session["received"]
    return session


# -- curl


@pytest.mark.client("curl")
@pytest.mark.parametrize(("scheme", "options", "host", "protocol"), CURL, ids=CURL_IDS)
def test_curl(proxy, origin, large, scheme, options, host, protocol):
    through = [*options, "-x", f"{scheme}://{proxy.address}"]
    url = f"http://{host}:{origin}"
    assert curl(*through, f"{url}/small") == (0, SMALL)
    went_through(proxy, f"{host}:{origin}", protocol)
    assert curl(*through, f"{url}/large") == (0, LARGE)
    assert went_through(proxy, f"{host}:{origin}", protocol)["received"] > len(LARGE)
    assert curl(*through, "-T", large, f"{url}/") == (0, digest(LARGE))
    assert went_through(proxy, f"{host}:{origin}", protocol)["sent"] > len(LARGE)


@pytest.mark.client("curl")
@pytest.mark.parametrize(("scheme", "options", "host", "protocol"), CURL[2:], ids=CURL_IDS[2:])
def test_curl_logs_in(guarded, origin, scheme, options, host, protocol):
    url = f"http://{host}:{origin}/large"
    for address in guarded.addresses:
        assert curl(*options, "-x", f"{scheme}://{LOGIN}{address}", url) == (0, LARGE)
        went_through(guarded, f"{host}:{origin}", protocol, USER)


@pytest.mark.client("curl")
@pytest.mark.parametrize(("scheme", "options", "host", "protocol"), CURL, ids=CURL_IDS)
def test_curl_without_a_login_where_one_may_log_in(guarded, origin, scheme, options, host, protocol):
    through = f"{scheme}://{guarded.addresses[1]}"
    assert curl(*options, "-x", through, f"http://{host}:{origin}/small") == (0, SMALL)
    went_through(guarded, f"{host}:{origin}", protocol)


@pytest.mark.client("curl")
@pytest.mark.parametrize(("scheme", "options", "status"), CURL_REFUSED, ids=CURL_IDS)
@pytest.mark.parametrize(("login", "listeners"), [("", [0]), (WRONG, [0, 1]), ("nobody:x@", [0, 1])])
def test_curl_is_not_let_in(guarded, origin, scheme, options, status, login, listeners):
    for number in listeners:
        if scheme.startswith("socks4") and number == 1:
            continue  # the name alone is no login
        through = f"{scheme}://{login}{guarded.addresses[number]}"
        assert curl(*options, "-x", through, f"http://127.0.0.1:{origin}/small") == (status, b"")
        assert guarded.session("-")["ending"] == "login failed"


@pytest.mark.client("curl")
def test_curl_is_told_that_a_login_is_wanted(guarded, origin):
    url = f"http://127.0.0.1:{origin}/small"
    code, head = curl("-o", os.devnull, "-D", "-", "-x", f"http://{guarded.addresses[0]}", url)
    assert (code, head.split(b"\r\n")[0]) == (0, b"HTTP/1.1 407 Proxy Authentication Required")
    assert b"\r\nproxy-authenticate: basic" in head.lower()


@needs_ipv6
@pytest.mark.client("curl")
@pytest.mark.parametrize(("scheme", "options", "host", "protocol"), CURL, ids=CURL_IDS)
def test_curl_and_ipv6(proxy, origin, scheme, options, host, protocol):
    """The proxy at ::1, and a target there."""
    near, far = f"{scheme}://{proxy.addresses[2]}", f"{scheme}://{proxy.address}"
    assert curl(*options, "-x", near, f"http://{host}:{origin}/large") == (0, LARGE)
    assert went_through(proxy, f"{host}:{origin}", protocol)["listener"] == "[::1]:0"
    with http_origin("::1") as port:
        url = f"http://[::1]:{port}/large"
        if protocol == "socks4":  # it has four bytes for an address
            assert curl("-x", far, url) == (97, b"")
            return
        assert curl(*options, "-x", far, url) == (0, LARGE)
        went_through(proxy, f"[::1]:{port}", protocol)


@pytest.mark.client("curl")
@pytest.mark.parametrize("scheme", ["socks4a", "socks5h"])
def test_curl_by_a_unix_socket(proxy, origin, scheme):
    path = proxy.addresses[1].removeprefix("unix:")
    through = ["-x", f"{scheme}://localhost{path}"]
    assert curl(*through, f"http://localhost:{origin}/large") == (0, LARGE)
    assert proxy.session(f"localhost:{origin}")["client"] == "unix"


@pytest.mark.client("curl")
@pytest.mark.parametrize(("scheme", "options", "status"), CURL_REFUSED, ids=CURL_IDS)
def test_curl_and_targets_that_cannot_be_reached(proxy, scheme, options, status):
    through = [*options, "-x", f"{scheme}://{proxy.address}"]
    with refusing_port() as port:
        assert curl(*through, f"http://127.0.0.1:{port}/") == (status, b"")
        assert proxy.session(f"127.0.0.1:{port}")["ending"] == "refused"
    if scheme not in ("socks4", "socks5"):  # with these, curl looks names up itself
        assert curl(*through, "http://no.such.host.invalid/") == (status, b"")
        assert proxy.session("no.such.host.invalid:80")["ending"] == "unresolved"


@pytest.mark.client("curl")
def test_many_curls_at_once(proxy, origin):
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    ["curl", "-sS", *options, "-x", f"{scheme}://{proxy.address}", f"http://{host}:{origin}/large"],
                    stdout=subprocess.PIPE,
                    env=plain_environment(),
                )
            )
            for scheme, options, host, _ in CURL
        ]
        for one in started:
            assert one.communicate(timeout=PATIENCE_SECONDS)[0] == LARGE
    for _ in CURL:
        assert '"ending": "closed"' in proxy.line(f':{origin}", ')


# -- ncat, socat, nc


def check_raw(proxy, origin, target, protocol, host, *command, user=None):
    """*command*, with HOST and PORT, moves a small document, a large one, and 20 MB to a target that answers at their end."""

    def run_to(port, data):
        return client(*(one.replace("HOST", host).replace("PORT", str(port)) for one in command), data=data)

    for path, document in (("/small", SMALL), ("/large", LARGE)):
        code, output = run_to(origin, get(path))
        assert code == 0
        assert output.partition(b"\r\n\r\n")[2] == document
        went_through(proxy, f"{host}:{origin}", protocol, user)
    assert run_to(target, LARGE) == (0, digest(LARGE))
    session = went_through(proxy, f"{host}:{target}", protocol, user)
    assert (session["sent"], session["received"]) == (len(LARGE), 64)


@pytest.mark.client("ncat")
@pytest.mark.parametrize(
    ("kind", "options", "protocol", "host"),
    [
        ("socks4", [], "socks4", "127.0.0.1"),
        ("socks4", ["--proxy-dns", "remote"], "socks4a", "localhost"),
        ("socks5", [], "socks5", "127.0.0.1"),
        ("socks5", ["--proxy-dns", "remote"], "socks5", "localhost"),
        ("http", [], "http", "localhost"),
    ],
)
def test_ncat(proxy, origin, target, kind, options, protocol, host):
    options = ["--proxy", proxy.address, "--proxy-type", kind, *options]
    check_raw(proxy, origin, target, protocol, host, "ncat", *options, "HOST", "PORT")


@pytest.mark.client("ncat")
@pytest.mark.parametrize(("kind", "protocol"), [("socks5", "socks5"), ("http", "http")])
def test_ncat_logs_in(guarded, origin, target, kind, protocol):
    options = ["--proxy", guarded.addresses[0], "--proxy-type", kind, "--proxy-auth"]
    check_raw(
        guarded, origin, target, protocol, "127.0.0.1",
        "ncat", *options, f"{USER}:{PASSWORD}", "HOST", "PORT", user=USER,
    )  # fmt: skip
    code, output = client("ncat", *options, f"{USER}:wrong", "127.0.0.1", str(origin), data=get())
    assert (code, output) == (1, b"")


@pytest.mark.client("ncat")
@pytest.mark.parametrize("kind", ["socks4", "socks5", "http"])
def test_ncat_and_a_refused_target(proxy, kind):
    with refusing_port() as port:
        assert client("ncat", "--proxy", proxy.address, "--proxy-type", kind, "127.0.0.1", str(port)) == (1, b"")
        assert proxy.session(f"127.0.0.1:{port}")["ending"] == "refused"


@pytest.mark.client("socat")
@pytest.mark.parametrize(
    ("kind", "host", "port_option", "protocol"),
    [
        ("SOCKS4", "127.0.0.1", "socksport", "socks4"),
        ("SOCKS4A", "localhost", "socksport", "socks4a"),
        ("PROXY", "localhost", "proxyport", "http"),
    ],
)
def test_socat(proxy, origin, target, kind, host, port_option, protocol):
    address = f"{kind}:127.0.0.1:HOST:PORT,{port_option}={proxy.port}"
    check_raw(proxy, origin, target, protocol, host, "socat", "-t", str(PATIENCE_SECONDS), "-", address)
    with refusing_port() as port:
        code, output = client("socat", "-", address.replace("HOST", host).replace("PORT", str(port)))
        assert (code, output) == (1, b"")


@pytest.mark.client("socat")
def test_socat_logs_in(guarded, origin):
    for password, expected in ((PASSWORD, (0, SMALL)), ("wrong", (1, b""))):
        login = f"{USER}:{password}".replace(":", r"\:")
        address = f"PROXY:127.0.0.1:localhost:{origin},proxyport={guarded.port},proxyauth={login}"
        code, output = client("socat", "-t", str(PATIENCE_SECONDS), "-", address, data=get())
        assert (code, output.partition(b"\r\n\r\n")[2]) == expected


@pytest.mark.client("nc")
@pytest.mark.parametrize(
    ("kind", "protocol", "host"),
    [("4", "socks4", "127.0.0.1"), ("5", "socks5", "localhost"), ("connect", "http", "localhost")],
)
def test_nc(proxy, origin, target, kind, protocol, host):
    check_raw(proxy, origin, target, protocol, host, "nc", "-N", "-X", kind, "-x", proxy.address, "HOST", "PORT")
    with refusing_port() as port:
        assert client("nc", "-N", "-X", kind, "-x", proxy.address, "127.0.0.1", str(port)) == (1, b"")


# -- what wraps a program, or is wrapped


@pytest.mark.client("proxychains4", "curl")
def test_proxychains(proxy, guarded, origin, tmp_path):
    """One connection through all protocols, one after the other: the proxy connects to itself and to its sibling."""
    file = tmp_path / "proxychains.conf"
    file.write_text(
        f"""
        strict_chain
        proxy_dns
        [ProxyList]
        socks4 127.0.0.1 {proxy.port}
        socks5 127.0.0.1 {guarded.port} {USER} {PASSWORD}
        http 127.0.0.1 {guarded.port} {USER} {PASSWORD}
        socks5 127.0.0.1 {proxy.port}
        """
    )
    wrapped = ["proxychains4", "-q", "-f", str(file)]
    assert client(*wrapped, "curl", "-sS", f"http://127.0.0.1:{origin}/large") == (0, LARGE)
    ours = {ended_at(proxy, origin, guarded.port) for _ in range(2)}
    assert ours == {(guarded.port, "socks4", None), (origin, "socks5", None)}
    theirs = {ended_at(guarded, proxy.port, guarded.port) for _ in range(2)}
    assert theirs == {(guarded.port, "socks5", USER), (proxy.port, "http", USER)}


def ended_at(proxy, *ports):
    """The next connection to one of *ports* that has ended: its port, protocol and user."""
    session = json.loads(proxy.line(rf'"target": "127.0.0.1:({"|".join(map(str, ports))})"'))
    return int(session["target"].rpartition(":")[2]), session["protocol"], session["user"]


ONION = f"{'a' * 56}.onion"


@pytest.mark.client("torsocks", "ncat")
def test_torsocks(tmp_path):
    """Names of onion services go to the upstream that knows them. It stands in for Tor here, and is the target as well:
    torsocks connects to nothing on loopback but by such a name."""
    heads = []

    def tor(conn):
        with conn.makefile("rb") as file:
            heads.append(file.readline())
            while file.readline().strip():
                pass
            conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            conn.sendall(digest(file.read()))

    with tcp_target(tor) as upstream:
        text = (
            COMMON
            + LISTENER.format(address="127.0.0.1:0", authentication="none")
            + f'[upstreams]\ntor = ["http://127.0.0.1:{upstream}"]\n'
            + '[[rule]]\naction = "allow"\ndestinations = ["*.onion"]\nupstream = "tor"\n'
            + '[[rule]]\nname = "rest"\naction = "deny"\n'
        )
        with configured_proxy(tmp_path, text) as proxy:
            file = tmp_path / "torsocks.conf"
            file.write_text(f"TorAddress 127.0.0.1\nTorPort {proxy.port}\nOnionAddrRange 127.42.42.0/24\n")
            variables = {"TORSOCKS_CONF_FILE": str(file)}
            wrapped = ["torsocks", "ncat", "-4"]
            assert client(*wrapped, ONION, "80", data=LARGE, **variables) == (0, digest(LARGE))
            session = went_through(proxy, f"{ONION}:80", "socks5")
            assert (session["route"], session["sent"]) == ("tor", len(LARGE))
            code, _ = client(*wrapped, "192.0.2.1", "80", **variables)
            assert code != 0
            assert proxy.session("192.0.2.1:80")["ending"] == "denied"
    assert heads == [f"CONNECT {ONION}:80 HTTP/1.1\r\n".encode()]


@contextlib.contextmanager
def ssh_server(directory):
    """An sshd for this user, with keys of its own, that is started for each connection; gives its port."""
    if os.geteuid() == 0 and not os.path.isdir("/run/sshd"):
        pytest.skip("as root, sshd needs the empty directory /run/sshd, which the system makes when it starts its own")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    (directory / "authorized").write_bytes((directory / "user.pub").read_bytes())
    (directory / "config").write_text(
        f"""
        HostKey {directory}/host
        AuthorizedKeysFile {directory}/authorized
        StrictModes no
        UsePAM no
        PidFile none
        """
    )
    program = shutil.which("sshd")  # it wants its whole path

    def serve(conn):
        subprocess.run([program, "-i", "-f", str(directory / "config")], stdin=conn, stdout=conn, check=False)

    with tcp_target(serve) as port:
        yield port


@pytest.mark.client("ssh", "sshd", "nc")
@pytest.mark.parametrize(("kind", "protocol"), [("5", "socks5"), ("connect", "http")])
def test_ssh(proxy, tmp_path, kind, protocol):
    with ssh_server(tmp_path) as port:
        options = {
            "ProxyCommand": f"nc -X {kind} -x {proxy.address} %h %p",
            "IdentityFile": tmp_path / "user",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": tmp_path / "known",
            "StrictHostKeyChecking": "accept-new",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
        }
        ssh = ["ssh", "-F", "none", "-p", str(port), *(f"-o{name}={value}" for name, value in options.items())]
        ssh.append(f"{getpass.getuser()}@localhost")
        assert client(*ssh, "cat; exit 7", data=LARGE) == (7, LARGE)
        assert went_through(proxy, f"localhost:{port}", protocol)["received"] > len(LARGE)


@pytest.mark.client("wget")
def test_wget(proxy, guarded, origin, tmp_path):
    url = f"http://localhost:{origin}"
    for address, login in ((proxy.address, ""), (guarded.address, LOGIN)):
        variables = {"http_proxy": f"http://{login}{address}", "HOME": str(tmp_path)}
        assert client("wget", "-q", "-O", "-", f"{url}/small", f"{url}/large", **variables) == (0, SMALL + LARGE)
    went_through(proxy, f"localhost:{origin}", "http")
    went_through(guarded, f"localhost:{origin}", "http", USER)
    variables["http_proxy"] = f"http://{WRONG}{guarded.address}"
    assert client("wget", "-q", "-O", "-", f"{url}/small", **variables) == (8, b"")  # "Server issued an error response"


@pytest.mark.client("nc")
@pytest.mark.parametrize("kind", ["4", "5", "connect"])
def test_half_close_through_nc(proxy, kind):
    """The answer comes after the end of the question."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with subprocess.Popen(
            ["nc", "-N", "-X", kind, "-x", proxy.address, "127.0.0.1", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            process.stdin.write(b"question")
            process.stdin.close()
            process.stdin = None
            seen, _ = listener.accept()
            with seen:
                seen.settimeout(PATIENCE_SECONDS)
                question = b""
                while chunk := seen.recv(100):
                    question += chunk
                seen.sendall(b"answer to " + question)
            assert process.communicate(timeout=PATIENCE_SECONDS)[0] == b"answer to question"
