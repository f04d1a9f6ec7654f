"""Every stream and datagram socket of ours passes the suites, and broken ones are caught by the rule that they break."""

from __future__ import annotations

import socket

import pytest

import netnet
from netnet.testing import (
    VirtualClock,
    check_datagrams,
    check_half_closeable_stream,
    check_one_way_stream,
    check_stream,
    lockstep_stream_pair,
    memory_datagram_pair,
    memory_stream_pair,
)


def over_tcp(address):
    def make():
        with netnet.listen(address) as listener:
            one = netnet.connect(listener.getsockname()[:2])
            return one, listener.accept()[0]

    return make


def over_unix_path(tmp_path):
    def make():
        path = f"unix:{tmp_path}/s"
        with netnet.listen(path) as listener:
            one = netnet.connect(path)
            (tmp_path / "s").unlink()
            return one, listener.accept()[0]

    return make


def udp_pair():
    one, other = netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM), netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM)
    for sock in (one, other):
        sock.bind(("127.0.0.1", 0))
    one.connect(other.getsockname())
    other.connect(one.getsockname())
    return one, other


MEMORY = [
    {},
    {"max_chunk": 1},
    {"max_chunk": 1000},
    {"capacity_bytes": 7, "max_chunk": 3},
    {"capacity_bytes": 1_000_000},
]


@pytest.mark.parametrize("options", MEMORY, ids=str)
def test_memory_streams_pass(run, options):
    run(check_half_closeable_stream, lambda: memory_stream_pair(**options), clock=VirtualClock())


@pytest.mark.parametrize("options", [{}, {"max_chunk": 1}, {"max_chunk": 1000}], ids=str)
def test_lockstep_streams_pass(run, options):
    run(check_half_closeable_stream, lambda: lockstep_stream_pair(**options), clock=VirtualClock())


@pytest.mark.parametrize("clock", [VirtualClock, None])
@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_tcp_passes(run, address, clock):
    run(check_half_closeable_stream, over_tcp(address), clock=clock and clock())


@pytest.mark.parametrize("clock", [VirtualClock, None])
def test_unix_socket_pairs_pass(run, clock):
    run(check_half_closeable_stream, netnet.socketpair, clock=clock and clock())


def test_unix_sockets_with_a_path_pass(run, tmp_path):
    run(check_half_closeable_stream, over_unix_path(tmp_path), clock=VirtualClock())


def test_streams_pass_on_every_poller(run, backend):
    run(check_half_closeable_stream, netnet.socketpair, clock=VirtualClock())


DATAGRAM_PAIRS = {
    "memory": memory_datagram_pair,
    "memory-dropping": lambda: memory_datagram_pair(drop=True),
    "memory-short-queue": lambda: memory_datagram_pair(queue_max=5),
    "unix": lambda: netnet.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
    "udp": udp_pair,
}


@pytest.mark.parametrize("make_pair", DATAGRAM_PAIRS.values(), ids=DATAGRAM_PAIRS)
def test_datagrams_pass(run, make_pair):
    run(check_datagrams, make_pair, clock=VirtualClock())


# -- what is broken is caught


class Wrapped:
    """A stream that hands everything on to another one; the broken ones below change one thing."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __iter__(self):
        while chunk := self.recv(65536):
            yield chunk


class LosesAByte(Wrapped):
    lost = 0

    def recv(self, size):
        data = self.inner.recv(size)
        self.lost += len(data)
        return data[:-1] if self.lost > 3000 and len(data) > 1 else data


class SwapsBytes(Wrapped):
    def recv(self, size):
        return self.inner.recv(size)[::-1]


class NeverEnds(Wrapped):
    def recv(self, size):
        return self.inner.recv(size) or netnet.sleep(1e6) or b""


class EndsOnce(Wrapped):
    ended = False

    def recv(self, size):
        if self.ended:
            raise EOFError
        data = self.inner.recv(size)
        self.ended = size > 0 and not data
        return data


class GivesTooMuch(Wrapped):
    def recv(self, size):
        return self.inner.recv(max(size, 64))


class WaitsForNothing(Wrapped):
    def recv(self, size):
        return self.inner.recv(max(size, 1))[:size]


class SwallowsCancellation(Wrapped):
    def recv(self, size):
        try:
            return self.inner.recv(size)
        except netnet.Cancelled:
            return b""


class WaitsOnWhenCancelled(Wrapped):
    def recv(self, size):
        with netnet.shield():
            return self.inner.recv(size)


class LosesDataWhenCancelled(Wrapped):
    def recv(self, size):
        data = self.inner.recv(size)
        if data:
            netnet.sleep(0)
        return data


class IgnoresCancellationWhenReady(Wrapped):
    def recv(self, size):
        if self.inner._incoming.data:
            with netnet.shield():
                return self.inner.recv(size)
        return self.inner.recv(size)


class IgnoresClose(Wrapped):
    def close(self):
        pass


class ClosesOnlyOnce(Wrapped):
    closed = False

    def close(self):
        if self.closed:
            raise OSError("closed already")
        self.closed = True
        self.inner.close()


class TellsNothingOfTheClosed(Wrapped):
    closed = False

    def close(self):
        self.closed = True
        self.inner.close()

    def recv(self, size):
        return b"" if self.closed else self.inner.recv(size)


class WakesNobodyOnClose(Wrapped):
    """As a stream would that forgets who waits for it: the close comes through only when nobody does."""

    waiting = 0
    closed = False

    def recv(self, size):
        if self.closed:
            raise netnet.ClosedError
        self.waiting += 1
        try:
            return self.inner.recv(size)
        finally:
            self.waiting -= 1

    def close(self):
        self.closed = True
        if not self.waiting:
            self.inner.close()


class LeavesOpenAfterWith(Wrapped):
    def __exit__(self, *_):
        pass


class SendsAPart(Wrapped):
    def sendall(self, data):
        self.inner.send(data)


class TellsNoBytesSent(Wrapped):
    def sendall(self, data):
        try:
            self.inner.sendall(data)
        except netnet.Cancelled as error:
            raise netnet.Cancelled(str(error)) from None


class CountsWrongly(Wrapped):
    def send(self, data):
        return self.inner.send(data) + 1


class LetsWritersMix(Wrapped):
    def sendall(self, data):
        for octet in bytes(memoryview(data)):
            while True:
                try:
                    self.inner.sendall(bytes([octet]))
                except netnet.BusyError:
                    netnet.sleep(1)
                else:
                    break


class FillsReadOnly(Wrapped):
    def recv_into(self, buffer, nbytes=0):
        data = self.inner.recv(nbytes or len(buffer))
        try:
            memoryview(buffer).cast("B")[: len(data)] = data
        except TypeError:
            pass
        return len(data)


class OverrunsSlices(Wrapped):
    def recv_into(self, buffer, nbytes=0):
        with memoryview(buffer) as view:
            return self.inner.recv_into(view.obj if isinstance(buffer, memoryview) else buffer, nbytes)


BROKEN = {
    LosesAByte: "data_arrives_whole",
    SwapsBytes: "data_arrives_whole",
    NeverEnds: "data_arrives_whole",
    EndsOnce: "end_comes_again_and_again",
    GivesTooMuch: "recv_keeps_its_limit",
    WaitsForNothing: "recv_of_nothing_returns_at_once",
    SwallowsCancellation: "cancelled_recv_loses_nothing",
    WaitsOnWhenCancelled: "cancelled_recv_loses_nothing",
    LosesDataWhenCancelled: "recv_cancelled_when_data_comes_loses_nothing",
    IgnoresCancellationWhenReady: "cancelled_task_is_refused",
    IgnoresClose: "data_arrives_whole",
    ClosesOnlyOnce: "data_arrives_whole",
    TellsNothingOfTheClosed: "calls_after_close_are_refused",
    WakesNobodyOnClose: "close_wakes_the_receiver",
    LeavesOpenAfterWith: "with_statement_closes",
    SendsAPart: "data_arrives_whole",
    TellsNoBytesSent: "cancelled_sendall_tells_how_much",
    CountsWrongly: "send_tells_how_much",
    LetsWritersMix: "second_writer_is_refused",
    FillsReadOnly: "recv_into_refuses_wrong_buffers",
    OverrunsSlices: "recv_into_fills_buffers",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_broken_streams_are_caught(run, broken):
    opened = []

    def make_pair():
        pair = memory_stream_pair(capacity_bytes=1000)
        opened.extend(pair)
        return broken(pair[0]), broken(pair[1])

    def main():
        try:
            with pytest.raises(AssertionError) as caught:
                check_one_way_stream(make_pair)
        finally:
            for end in opened:
                end.close()
        return caught.value

    error = run(main, clock=VirtualClock())
    assert str(error).startswith(BROKEN[broken]), error
    assert "\n  but " in str(error)


@pytest.mark.parametrize(
    ("make_pair", "said"),
    [
        (
            lambda: memory_stream_pair(capacity_bytes=1 << 40),
            "sender_waits_for_a_slow_receiver.*there is no back-pressure",
        ),
        (lambda: (memory_stream_pair()[0], memory_stream_pair()[1]), "data_arrives_whole.*not through after 3 s"),
    ],
    ids=["no limit", "not connected"],
)
def test_pairs_that_are_no_streams_are_caught(run, make_pair, said):
    def main():
        with pytest.raises(AssertionError, match=f"(?s)^{said}"):
            check_one_way_stream(make_pair, limit_seconds=3)

    run(main, clock=VirtualClock())


def test_a_receiver_that_ignores_close_is_caught(run):
    def make_pair():
        sender, receiver = memory_stream_pair()
        return sender, IgnoresClose(receiver)

    def main():
        with pytest.raises(AssertionError, match="^gone_receiver_is_an_error"):
            check_one_way_stream(make_pair)

    run(main, clock=VirtualClock())


class DropsTheOtherWay(Wrapped):
    """Good one way at a time."""

    def sendall(self, data):
        if self.inner._incoming.data:
            return
        self.inner.sendall(data)


class ClosesBothWays(Wrapped):
    def shutdown(self, how):
        self.inner.shutdown(socket.SHUT_RDWR)


class ShutsNothing(Wrapped):
    def shutdown(self, how):
        pass


@pytest.mark.parametrize(
    ("suite", "broken", "rule"),
    [
        (check_stream, DropsTheOtherWay, "both_ways_at_once"),
        (check_half_closeable_stream, ClosesBothWays, "half_close_leaves_the_other_way"),
        (check_half_closeable_stream, ShutsNothing, "half_close_leaves_the_other_way"),
    ],
)
def test_streams_that_are_broken_both_ways_are_caught(run, suite, broken, rule):
    def main():
        with pytest.raises(AssertionError, match=f"^{rule}"):
            suite(lambda: tuple(map(broken, memory_stream_pair(capacity_bytes=1000))))

    run(main, clock=VirtualClock())


class Glues(Wrapped):
    def recv(self, size):
        data = self.inner.recv(size)
        while len(data) < size:
            with netnet.timeout(0.001) as limit:
                try:
                    data += self.inner.recv(size - len(data))
                except netnet.Cancelled:
                    if not limit.expired():
                        raise
                    return data
        return data


class SkipsEmpty(Wrapped):
    def send(self, data):
        return self.inner.send(data) if data else 0


class LosesTheCancelled(Wrapped):
    def recv(self, size):
        data = self.inner.recv(size)
        netnet.sleep(0)
        return data


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Glues, "boundaries_are_kept"),
        (SkipsEmpty, "empty_datagrams_are_datagrams"),
        (LosesTheCancelled, "recv_cancelled_when_data_comes_loses_nothing"),
        (SwallowsCancellation, "cancelled_recv_loses_nothing"),
        (IgnoresClose, "close_wakes_receivers"),
        (LeavesOpenAfterWith, "calls_after_close_are_refused"),
    ],
)
def test_broken_datagrams_are_caught(run, broken, rule):
    opened = []

    def make_pair():
        pair = memory_datagram_pair()
        opened.extend(pair)
        return broken(pair[0]), broken(pair[1])

    def main():
        try:
            with pytest.raises(AssertionError, match=f"^{rule}"):
                check_datagrams(make_pair)
        finally:
            for end in opened:
                end.close()

    run(main, clock=VirtualClock())


def test_the_message_says_which_rule_and_how(run):
    def main():
        with pytest.raises(AssertionError) as caught:
            check_stream(lambda: tuple(map(SwapsBytes, memory_stream_pair())))
        return str(caught.value)

    assert run(main, clock=VirtualClock()) == (
        "data_arrives_whole (from the first end to the second): Data arrives whole and in order, in pieces of any size, "
        "and the end comes after it.\n  but 1000 bytes arrived where 1000 were sent, and byte 0 is not the one that was sent"
    )


def test_rules_can_be_left_out_by_name(run):
    def main():
        class NoInto(Wrapped):
            recv_into = None

        def make_pair():
            return tuple(map(NoInto, memory_stream_pair()))

        with pytest.raises(AssertionError, match="recv_into"):
            check_one_way_stream(make_pair)
        with pytest.raises(ValueError, match="no such rules: nonsense"):
            check_one_way_stream(make_pair, without=["nonsense"])

    run(main, clock=VirtualClock())


def test_an_outer_cancellation_is_no_broken_rule(run):
    def main():
        with pytest.raises(TimeoutError), netnet.timeout(3):
            check_one_way_stream(lambda: tuple(map(NeverEnds, memory_stream_pair())))

    run(main, clock=VirtualClock())


def test_suites_run_in_tasks_only():
    with pytest.raises(netnet.UsageError):
        check_datagrams(memory_datagram_pair)
