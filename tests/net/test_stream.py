"""``connect``, ``listen`` and ``serve``: addresses in every form, every address of a name, errors that say where, a
connection limit that stops accepting, handlers that fail alone, and a server that outlives running out of descriptors."""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
import sys
import textwrap

import pytest

import netnet
from netnet.net import stream
from netnet.net.resolve import Resolved
from netnet.testing import VirtualClock, wait_all_parked

LOOPBACKS = ["127.0.0.1:0", "[::1]:0"]


def echo(conn):
    for chunk in conn:
        conn.sendall(chunk)


def refused_port():
    """A port of loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def asked(conn, data=b"x"):
    conn.sendall(data)
    return conn.recv(100)


# -- connect and listen


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("address", [*LOOPBACKS, ("127.0.0.1", 0), ("::1", 0, 0, 0), "localhost:0", ":0"])
def test_listen_and_connect(run, address, loop):
    def main():
        with netnet.listen(address) as listener:
            port = listener.getsockname()[1]
            target = f"localhost:{port}" if address in (":0", "localhost:0") else listener.getsockname()
            with netnet.connect(target) as ours, listener.accept()[0] as theirs:
                theirs.sendall(b"hello")
                assert ours.recv(5) == b"hello"
                assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main) if loop else main()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_interface_takes_both_families(run, host):
    def main():
        with netnet.listen(":0") as listener, netnet.connect((host, listener.getsockname()[1])):
            listener.accept()[0].close()

    run(main)


def test_unix_paths(backend, run, tmp_path):
    where = f"unix:{tmp_path}/socket"

    def main():
        with netnet.listen(where) as listener:
            with netnet.connect(where) as ours, listener.accept()[0] as theirs:
                ours.send(b"x")
                assert theirs.recv(9) == b"x"
            with pytest.raises(OSError, match="in use") as caught:
                netnet.listen(where)
            assert where in str(caught.value)
        with pytest.raises(ConnectionRefusedError, match=where):
            netnet.connect(where)
        netnet.listen(where).close()  # nobody listens on the file any more: it is replaced
        (tmp_path / "file").write_text("kept")
        with pytest.raises(OSError, match="in use"):
            netnet.listen(f"unix:{tmp_path}/file")
        assert (tmp_path / "file").read_text() == "kept"

    run(main)


def test_abstract_names(run):
    where = f"unix:@netnet-test-{os.getpid()}"

    def main():
        with netnet.listen(where) as listener, netnet.connect(where), listener.accept()[0] as theirs:
            assert theirs.getsockname() == b"\0" + where[6:].encode()

    run(main)


@pytest.mark.parametrize("bad", ["nohost", "127.0.0.1:99999", "::1:80", "[::1:80", "unix:", 5, ("h",), ("h", "80")])
@pytest.mark.parametrize("call", [netnet.connect, netnet.listen])
def test_bad_addresses(bad, call):
    with pytest.raises(netnet.AddressError, match=str(bad)[:4].replace("[", ".").replace("(", ".")):
        call(bad)


def test_refused_says_where(backend, run):
    port = refused_port()

    def main():
        with pytest.raises(ConnectionRefusedError, match=f"connect to 127.0.0.1:{port}: Connection refused") as caught:
            netnet.connect(("127.0.0.1", port))
        assert caught.value.errno == errno.ECONNREFUSED

    run(main)


def test_an_unknown_name_is_told(run):
    with pytest.raises(socket.gaierror, match="connect to no-such-host.invalid:80: "):
        run(netnet.connect, "no-such-host.invalid:80")


def several(monkeypatch, *candidates):
    monkeypatch.setattr(stream, "resolve", lambda host, port: list(candidates))


def test_every_address_is_tried_in_turn(backend, run, monkeypatch):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            bad = Resolved(socket.AF_INET, ("127.0.0.1", refused_port()))
            good = Resolved(socket.AF_INET, listener.getsockname())
            several(monkeypatch, bad, Resolved(socket.AF_INET6, ("::1", refused_port(), 0, 0)), good, bad)
            with netnet.connect("some.name:80") as conn:
                assert conn.getpeername() == listener.getsockname()

    run(main)


def test_when_all_fail_all_are_told(run, monkeypatch):
    ports = [refused_port(), refused_port()]
    several(monkeypatch, *(Resolved(socket.AF_INET, ("127.0.0.1", port)) for port in ports))
    with pytest.raises(ConnectionRefusedError) as caught:
        run(netnet.connect, "some.name:80")
    for told in ("some.name:80", *(f"127.0.0.1:{port}: Connection refused" for port in ports)):
        assert told in str(caught.value)


def test_the_source_address(run):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            with netnet.connect(listener.getsockname(), source="127.0.0.9"), listener.accept()[0] as theirs:
                assert theirs.getpeername()[0] == "127.0.0.9"

    run(main)


def test_a_port_in_use_says_which(run):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            where = f"127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(OSError, match=f"listen on {where}: Address already in use"):
                netnet.listen(where)

    run(main)


def test_a_connection_to_itself_is_refused(run, monkeypatch):
    """A client that connects to the very port that it was given meets itself; nobody listens there."""
    connect = netnet.Socket.connect

    def bind_first(sock, address):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        connect(sock, address)

    monkeypatch.setattr(netnet.Socket, "connect", bind_first)
    with pytest.raises(ConnectionRefusedError, match="met itself"):
        run(netnet.connect, ("127.0.0.1", refused_port()))


# -- serve


class Serving:
    """A server in a task, on a port of its own."""

    def __init__(self, handler, **options):
        self.handler = handler
        self.options = options

    def __enter__(self):
        self.listener = netnet.listen("127.0.0.1:0")
        self.task = netnet.spawn(lambda: netnet.serve(self.listener, self.handler, **self.options))
        return self

    def connect(self):
        return netnet.connect(self.listener.getsockname())

    def __exit__(self, *_):
        self.task.cancel()
        self.task.join()
        self.listener.close()


def test_serve(backend, run):
    def main():
        with Serving(echo) as server:
            conns = [server.connect() for _ in range(20)]
            for number, conn in enumerate(conns):
                assert asked(conn, b"%d" % number) == b"%d" % number
            for conn in conns:
                conn.close()

    run(main)


def test_at_the_limit_it_stops_accepting_and_goes_on_later(backend, run):
    active, most = 0, 0

    def handler(conn):
        nonlocal active, most
        active += 1
        most = max(most, active)
        echo(conn)
        active -= 1

    def main():
        with Serving(handler, max_connections=3) as server:
            conns = [server.connect() for _ in range(8)]  # the kernel takes them all
            for conn in conns:
                conn.sendall(b"x")
            wait_all_parked()
            assert active == 3
            while conns:
                with conns.pop(0) as conn:
                    assert conn.recv(9) == b"x"
            assert most == 3

    run(main)


def test_a_failing_handler_concerns_its_own_connection(run, caplog):
    def handler(conn):
        if conn.recv(9) == b"bad":
            raise ValueError("this one")
        conn.send(b"fine")

    def main():
        with Serving(handler, max_connections=1) as server:
            for data, answer in ((b"bad", b""), (b"good", b"fine")):
                with server.connect() as conn:
                    assert asked(conn, data) == answer

    with caplog.at_level(logging.ERROR, "netnet"):
        run(main)
    assert [str(record.exc_info[1]) for record in caplog.records] == ["this one"]


def test_errors_can_be_handed_on(run):
    errors = []

    def main():
        with Serving(lambda conn: 1 / 0, on_error=errors.append) as server, server.connect() as conn:
            assert conn.recv(9) == b""

    run(main)
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_its_end_ends_the_handlers(backend, run):
    ended = []

    def handler(conn):
        try:
            conn.recv(9)
        except netnet.Cancelled:
            ended.append(conn)
            raise

    def main():
        with Serving(handler) as server:
            conns = [server.connect() for _ in range(3)]
            wait_all_parked()
        assert len(ended) == 3
        assert all(conn.recv(9) == b"" for conn in conns)
        for conn in conns:
            conn.close()

    run(main)


def test_a_closed_listener_ends_it(backend, run):
    def main():
        server = Serving(echo)
        with server:
            wait_all_parked()
            server.listener.close()
            with pytest.raises(netnet.ClosedError):
                server.task.result()

    run(main)


def test_a_storm_starves_nobody(backend, run):
    """While connections keep coming in, one that stands is served, and the other way round."""

    def main():
        with Serving(echo) as server, server.connect() as steady:
            for _ in range(30):
                storm = [server.connect() for _ in range(10)]
                assert asked(steady, b"here") == b"here"
                for conn in storm:
                    conn.close()

    run(main)


def test_a_full_backlog_loses_no_connection(backend, run):
    def main():
        with netnet.listen("127.0.0.1:0", backlog=16) as listener:
            first = netnet.spawn(listener.accept)
            wait_all_parked()
            conns = [netnet.connect(listener.getsockname()) for _ in range(16)]
            accepted = [first.result()[0]] + [listener.accept()[0] for _ in range(15)]
            assert {sock.getpeername() for sock in accepted} == {conn.getsockname() for conn in conns}
            for sock in conns + accepted:
                sock.close()

    run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on descriptors")
def test_out_of_descriptors_it_waits_and_recovers():
    """In a process of its own with few descriptors: more clients than it can accept, all served in the end."""
    code = """
        import logging, resource, socket, netnet
        logging.disable(logging.CRITICAL)

        def echo(conn):
            conn.sendall(conn.recv(9))

        def main():
            listener = netnet.listen("127.0.0.1:0")
            clients = [socket.socket() for _ in range(20)]
            for client in clients:
                client.connect(listener.getsockname())
            used = max(client.fileno() for client in clients)
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 4, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            server = netnet.spawn(netnet.serve, listener, echo)
            for client in clients:
                client.send(b"x")
            for client in clients:
                netnet.wait_readable(client)
                assert client.recv(9) == b"x"
                client.close()
            server.cancel()
            server.join()
            print("all served")

        netnet.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "all served\n", done.stderr


# -- cases beside the usual ones


def test_running_out_of_time_says_where():
    """With a default time-out the error has no number, and it is a ``TimeoutError`` all the same."""
    from tests.net.test_sockets_connect import deaf_address

    def main():
        with deaf_address() as address:
            socket.setdefaulttimeout(30)
            try:
                with pytest.raises(TimeoutError, match=f"connect to 127.0.0.1:{address[1]}: timed out"):
                    netnet.connect(address)
            finally:
                socket.setdefaulttimeout(None)
            assert netnet.now() == 30

    netnet.run(main, clock=VirtualClock())


@pytest.mark.parametrize("where", ["[::1]", "[0:0:0:0:0:0:0:1]", "127.0.0.1"])
def test_a_connection_to_itself_is_refused_however_the_address_is_written(run, monkeypatch, where):
    connect, host = netnet.Socket.connect, "127.0.0.1" if "." in where else "::1"
    with socket.socket(socket.AF_INET if "." in where else socket.AF_INET6) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]

    def bind_first(sock, address):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        connect(sock, address)

    monkeypatch.setattr(netnet.Socket, "connect", bind_first)
    with pytest.raises(ConnectionRefusedError, match="met itself"):
        run(netnet.connect, f"{where}:{port}")


def test_a_cancelled_attempt_leaves_no_descriptor(backend, run):
    from tests.net.test_sockets_connect import deaf_address

    def main():
        with deaf_address() as address:
            task = netnet.spawn(netnet.connect, address)
            wait_all_parked()
            task.cancel()
            with pytest.raises(netnet.TaskCancelledError):
                task.result()

    run(main)


@pytest.mark.parametrize("kind", ["full", "datagram"])
def test_a_unix_socket_that_is_in_use_is_not_replaced(run, tmp_path, kind):
    """Also not one that takes no connection now, or none ever."""
    from tests.net.test_sockets_connect import full_unix_listener

    path = tmp_path / "socket"
    taken = []
    if kind == "full":
        holder, taken = full_unix_listener(path)
    else:
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        holder.bind(str(path))
    inode = path.stat().st_ino
    with pytest.raises(OSError, match="in use"):
        netnet.listen(f"unix:{path}")
    assert path.stat().st_ino == inode
    for sock in (holder, *taken):
        sock.close()


def test_an_abstract_name_in_use_is_refused():
    where = f"unix:@netnet-test-{os.getpid()}-busy"
    with netnet.listen(where), pytest.raises(OSError, match="in use") as caught:
        netnet.listen(where)
    assert where in str(caught.value)


@pytest.mark.parametrize("reuse", [True, False])
def test_reuse_port_is_for_listeners_that_all_ask_for_it(reuse):
    with netnet.listen("127.0.0.1:0", reuse_port=True) as listener:
        where = ("127.0.0.1", listener.getsockname()[1])
        if reuse:
            netnet.listen(where, reuse_port=True).close()
        else:
            with pytest.raises(OSError, match="in use"):
                netnet.listen(where)


def failing_accepts(monkeypatch, *numbers):
    """The next accepts fail with these errors; returns what is left of them."""
    accept, left = netnet.Socket.accept, list(numbers)

    def failing(sock):
        if left:
            number = left.pop(0)
            raise OSError(number, os.strerror(number))
        return accept(sock)

    monkeypatch.setattr(netnet.Socket, "accept", failing)
    return left


@pytest.mark.parametrize("limit", [None, 1])
def test_errors_of_accept_that_pass_are_waited_out(run, monkeypatch, limit):
    numbers = [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPROTO]
    left = failing_accepts(monkeypatch, *numbers)

    def main():
        with Serving(echo, max_connections=limit) as server, server.connect() as conn:
            assert asked(conn) == b"x"
        assert left == []
        assert netnet.now() == pytest.approx(4 * 0.05)

    netnet.run(main, clock=VirtualClock())


@pytest.mark.parametrize("limit", [None, 1])
def test_errors_of_accept_that_do_not_pass_end_it_and_its_handlers(backend, run, monkeypatch, limit):
    def main():
        with Serving(echo, max_connections=limit) as server:
            failing_accepts(monkeypatch, errno.EINVAL)
            with pytest.raises(OSError, match="Invalid argument"):
                server.task.result()

    run(main)


def test_a_handler_cancelled_by_the_end_may_say_goodbye(backend, run):
    def handler(conn):
        try:
            conn.recv(9)
        finally:
            with netnet.shield(), netnet.timeout(1):
                conn.sendall(b"goodbye")

    def main():
        with Serving(handler) as server:
            conn = server.connect()
            wait_all_parked()
        with conn:
            assert conn.recv(99) == b"goodbye"
            assert conn.recv(99) == b""

    run(main)


@pytest.mark.skipif(not os.path.exists("/proc/net/unix"), reason="this system does not tell which paths are bound")
def test_the_path_of_a_server_that_does_not_listen_yet_is_left_to_it(tmp_path):
    path = f"{tmp_path}/with space"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        with pytest.raises(OSError, match="listen on") as caught:
            netnet.listen(f"unix:{path}")
        assert caught.value.errno == errno.EADDRINUSE
        other.listen()
        netnet.connect(f"unix:{path}").close()
    netnet.listen(f"unix:{path}").close()
