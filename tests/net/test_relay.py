"""The relay: what one side sends the other receives, however it is cut, copied, spliced, held up, half-closed, reset or
cancelled; and while nothing moves it holds nothing.

Each test has four sockets: ``a`` and ``b`` are the peers, ``near`` and ``far`` the relay's (``a ↔ near ═ far ↔ b``).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import hashlib
import os
import random
import signal
import socket
import struct
import weakref

import pytest

import netnet
from netnet.kernel import transfer
from netnet.kernel.transfer import SPLICE, pipes
from netnet.net import relay_direction as module
from netnet.net.relay import LINGER_SECONDS
from netnet.runtime.loop import running
from netnet.testing import VirtualClock, wait_all_parked

RESET = struct.pack("ii", 1, 0)

spliced_here = pytest.mark.skipif(not SPLICE, reason="splice(2) is Linux'")


def tcp(buffer_bytes=None):
    """Two connected TCP sockets; their buffers are set before they connect, so that the window is small as well."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if buffer_bytes:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        one = socket.socket()
        if buffer_bytes:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        one.connect(listener.getsockname())
        other, _ = listener.accept()
    pair = tuple(netnet.Socket(sock.family, sock.type, sock.proto, sock.detach()) for sock in (one, other))
    for sock in pair:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    return pair


def unix(buffer_bytes=None):
    pair = netnet.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for sock in pair if buffer_bytes else ():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    return pair


@pytest.fixture(params=[tcp, unix])
def pair(request):
    return request.param


class Rig:
    """Two peers with a relay between them."""

    def __init__(self, pair=tcp, buffer_bytes=None, before=None, **options):
        self.a, self.near = pair(buffer_bytes)
        self.far, self.b = pair(buffer_bytes)
        self.ended = netnet.Event()
        self.result = None
        if before is not None:
            before(self)
        self.relay = netnet.start_relay(self.near, self.far, self._done, **options)
        self.up, self.down = self.relay._up, self.relay._down

    def _done(self, result):
        assert self.result is None, "a relay ends once"
        self.result = result
        self.at = netnet.now()
        self.ended.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.a.close()
        self.b.close()
        self.relay.abort()  # which does nothing after a regular end

    def peers(self, side):
        """The peer *side* and the opposite one."""
        return (self.a, self.b) if side == "a" else (self.b, self.a)

    def wait(self):
        self.ended.wait()
        assert self.near.fileno() == self.far.fileno() == -1
        return self.result


def exactly(sock, count):
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(min(65536, count - len(data)))
        assert chunk, f"the stream ended after {len(data)} of {count} bytes"
        data += chunk
    return bytes(data)


def digest(sock):
    """How many bytes come until the end, and their SHA-256."""
    total, summed = 0, hashlib.sha256()
    for chunk in sock:
        total += len(chunk)
        summed.update(chunk)
    return total, summed.hexdigest()


def noise(count, seed=1):
    return random.Random(seed).randbytes(count)


def told(data):
    return len(data), hashlib.sha256(data).hexdigest()


def assert_cut_off(sock):
    """The relay ended before the other side had finished: no clean end that could be taken for a whole stream."""
    if sock.family == socket.AF_UNIX:  # which knows no reset
        assert sock.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def send_and_finish(sock, data):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def send_in_vain(sock, data):
    """Sends to a relay that is going to break."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        sock.sendall(data)


def fill(sock):
    """Sends until the other side takes no more; returns how many bytes went out."""
    total = 0
    sock.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            total += sock.send(b"x" * 65536)
    sock.settimeout(None)
    return total


def fill_for_good(rig, sock):
    """Fills the whole way from *sock* on: buffers, relay and all."""
    total = count = fill(sock)
    while count:
        wait_all_parked()
        count = fill(sock)
        total += count
    return total


# -- both ways, counts, half-close


def test_both_ways_and_counts(backend, run, pair):
    def main():
        with Rig(pair) as rig:
            rig.a.sendall(b"ping")
            assert exactly(rig.b, 4) == b"ping"
            rig.b.sendall(b"answer")
            assert exactly(rig.a, 6) == b"answer"
            rig.a.shutdown(socket.SHUT_WR)
            assert rig.b.recv(1) == b""
            rig.b.close()
            assert rig.a.recv(1) == b""
            assert rig.wait() == netnet.RelayResult(sent=4, received=6, reason="closed")
            assert not running.loop.relays

    run(main)


@pytest.mark.parametrize("first", ["a", "b"])
def test_half_close_is_carried_across_and_the_other_way_goes_on(backend, run, pair, first):
    def main():
        with Rig(pair) as rig:
            one, other = rig.peers(first)
            send_and_finish(one, b"question")
            assert exactly(other, 8) == b"question"
            assert other.recv(1) == b""
            for part in (b"an", b"swer"):
                other.sendall(part)
                assert exactly(one, len(part)) == part
            wait_all_parked()
            assert not rig.ended.is_set()
            other.shutdown(socket.SHUT_WR)
            assert one.recv(1) == b""
            result = rig.wait()
            assert result.reason == "closed"
            assert {result.sent, result.received} == {8, 6}

    run(main)


def test_nothing_sent_at_all(backend, run, pair):
    def main():
        with Rig(pair) as rig:
            rig.a.close()
            rig.b.close()
            assert rig.wait() == netnet.RelayResult(0, 0, "closed")

    run(main)


def test_what_came_before_the_relay_began_is_moved(backend, run, pair):
    def early(rig):
        send_and_finish(rig.a, b"early")
        rig.b.sendall(b"bird")

    def main():
        with Rig(pair, before=early) as rig:
            assert exactly(rig.b, 5) == b"early"
            assert rig.b.recv(1) == b""
            assert exactly(rig.a, 4) == b"bird"

    run(main)


@pytest.mark.parametrize("size", [1, 32767, 32768, 262143, 262144, 262145, 524288])
def test_sizes_around_the_buffers(backend, run, pair, size):
    def main():
        with Rig(pair) as rig:
            data = noise(size)
            netnet.spawn(send_and_finish, rig.a, data)
            assert digest(rig.b) == told(data)
            rig.b.close()
            assert rig.wait() == netnet.RelayResult(size, 0, "closed")

    run(main)


def test_relay_waits_for_the_end(backend, run, pair):
    def main():
        (a, near), (far, b) = pair(), pair()
        with a, b:
            task = netnet.spawn(netnet.relay, near, far)
            send_and_finish(a, b"12345")
            send_and_finish(b, b"123")
            assert task.result() == netnet.RelayResult(5, 3, "closed")
            assert (digest(a)[0], digest(b)[0]) == (3, 5)

    run(main)


def test_relay_that_ends_at_once(run, pair):
    def main():
        (a, near), (far, b) = pair(), pair()
        a.close()
        b.close()
        assert netnet.relay(near, far) == netnet.RelayResult(0, 0, "closed")

    run(main)


def test_a_relay_outlives_the_main_task(run):
    results = []

    def main():
        (a, near), (far, b) = tcp(), tcp()
        netnet.start_relay(near, far, results.append)
        send_and_finish(a, b"left")
        b.shutdown(socket.SHUT_WR)
        kept.extend([a, b])

    kept = []
    run(main)
    assert results == [netnet.RelayResult(4, 0, "closed")]
    for sock in kept:
        sock.close()


def test_outside_a_run_it_says_so():
    with contextlib.ExitStack() as stack:
        near, far = (stack.enter_context(sock) for sock in unix())
        with pytest.raises(netnet.UsageError):
            netnet.relay(near, far)
        with pytest.raises(netnet.UsageError):
            netnet.start_relay(near, far, print)


# -- silence


SILENCE = [
    # linger, idle, half-closed → ends after, reason
    (30.0, None, True, 30.0, "no data after half-close"),
    (30.0, 10.0, True, 10.0, "no data after half-close"),
    (5.0, 10.0, True, 5.0, "no data after half-close"),
    (5.0, 10.0, False, 10.0, "idle"),
    (0.5, 3600.0, False, 3600.0, "idle"),
]


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize(("linger", "idle", "half", "after", "reason"), SILENCE)
def test_silence_ends_it(backend, run, linger, idle, half, after, reason, side):
    def main():
        with Rig(linger_seconds=linger, idle_seconds=idle) as rig:
            one, other = rig.peers(side)
            if half:
                one.shutdown(socket.SHUT_WR)
            assert rig.wait() == netnet.RelayResult(0, 0, reason)
            assert rig.at == after
            assert_cut_off(one)
            if half:
                assert other.recv(1) == b""
            else:
                assert_cut_off(other)

    run(main, clock=VirtualClock())


def test_without_a_limit_silence_is_fine(backend, run):
    def main():
        with Rig(linger_seconds=1, idle_seconds=None) as rig:
            netnet.sleep(10**7)
            rig.a.sendall(b"still there")
            assert exactly(rig.b, 11) == b"still there"

    run(main, clock=VirtualClock())


def test_the_default_linger():
    assert LINGER_SECONDS == 30.0


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize(("half", "limits"), [(False, {"idle_seconds": 10}), (True, {"linger_seconds": 10})])
def test_traffic_postpones_the_end(backend, run, side, half, limits):
    def main():
        with Rig(**limits) as rig:
            one, other = rig.peers(side)
            if half:
                other.shutdown(socket.SHUT_WR)
            for _ in range(5):
                netnet.sleep(9)
                one.sendall(b"alive")
                assert exactly(other, 5) == b"alive"
            assert not rig.ended.is_set()
            rig.wait()
            assert rig.at == 5 * 9 + 10

    run(main, clock=VirtualClock())


def test_linger_counts_from_the_half_close_and_not_from_the_beginning(backend, run):
    def main():
        with Rig(linger_seconds=10) as rig:
            netnet.sleep(1000)
            rig.b.shutdown(socket.SHUT_WR)
            rig.wait()
            assert rig.at == 1010

    run(main, clock=VirtualClock())


def test_no_timer_is_left_behind(run):
    def main():
        with Rig(idle_seconds=3600) as rig:
            rig.a.close()
            rig.b.close()
            rig.wait()
            assert running.loop.timers.next_instant() is None

    run(main, clock=VirtualClock())


def test_a_stalled_sink_is_silence_too(backend, run):
    def main():
        with Rig(buffer_bytes=16384, idle_seconds=60) as rig:
            fill_for_good(rig, rig.a)
            assert rig.up.pending is not None or rig.up.pipe is not None
            assert rig.wait().reason == "idle"
            assert rig.up.pending is rig.up.pipe is None
            assert pipes.taken == 0

    run(main, clock=VirtualClock())


# -- resets


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("half", [None, "the one that resets", "the other"])
def test_a_reset_is_carried_across(backend, run, side, half):
    def main():
        with Rig() as rig:
            one, other = rig.peers(side)
            one.sendall(b"hello")
            assert exactly(other, 5) == b"hello"
            if half == "the other":  # a peer that has sent its end learns of the reset as well
                other.shutdown(socket.SHUT_WR)
                assert one.recv(1) == b""
            elif half:
                one.shutdown(socket.SHUT_WR)
                assert other.recv(1) == b""
                other.sendall(b"x")
                wait_all_parked()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            one.close()
            if half == "the one that resets":
                other.sendall(b"y")  # what shows the relay that nobody takes it any more
                rig.wait()
                with pytest.raises((ConnectionResetError, BrokenPipeError)):
                    other.sendall(b"z")
            else:
                with pytest.raises(ConnectionResetError):
                    other.recv(1)
                assert rig.wait().reason == os.strerror(errno.ECONNRESET)

    run(main)


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("who", ["the sender", "the one that does not read"])
def test_a_reset_in_the_middle_of_bulk(backend, run, side, who):
    def main():
        with Rig(buffer_bytes=32768) as rig:
            one, other = rig.peers(side)
            fill_for_good(rig, one)
            gone, left = (one, other) if who == "the sender" else (other, one)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            gone.close()
            use = digest if left is other else lambda sock: sock.sendall(b"x" * 10_000_000)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                use(left)
            assert rig.wait().reason in {os.strerror(errno.ECONNRESET), os.strerror(errno.EPIPE)}
            assert pipes.taken == 0

    run(main)


def test_a_complete_stream_ends_without_a_reset(backend, run):
    def main():
        with Rig() as rig:
            rig.a.sendall(b"all of it")
            rig.a.close()
            assert digest(rig.b) == told(b"all of it")

    run(main)


def test_closing_one_of_the_sockets_ends_the_relay(backend, run, pair):
    def main():
        with Rig(pair) as rig:
            rig.far.close()
            assert rig.wait().reason == os.strerror(errno.EBADF)

    run(main)


def test_urgent_data_does_not_hold_it_up(backend, run):
    def main():
        with Rig() as rig:
            rig.a.sendall(b"before")
            assert exactly(rig.b, 6) == b"before"
            rig.a.send(b"!", socket.MSG_OOB)
            rig.a.sendall(b"after")
            rig.a.shutdown(socket.SHUT_WR)
            assert digest(rig.b) == told(b"after")

    run(main)


# -- slow and large


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_slow_sink_loses_nothing(backend, run, pair, side):
    data = noise(3_000_000)

    def main():
        with Rig(pair, buffer_bytes=20_000) as rig:
            source, sink = rig.peers(side)
            netnet.spawn(send_and_finish, source, data)
            got, sizes = bytearray(), random.Random(2)
            while chunk := sink.recv(sizes.randrange(1, 50_000)):
                got += chunk
                if sizes.random() < 0.3:
                    netnet.sleep(0)
            assert told(got) == told(data)
            sink.close()
            assert sorted(rig.wait().__getstate__()[:2]) == [0, len(data)]

    run(main)


def test_the_source_is_held_back_while_the_sink_does_not_read(backend, run):
    def main():
        with Rig(buffer_bytes=20_000) as rig:
            sent = fill_for_good(rig, rig.a)
            wait_all_parked()
            assert fill(rig.a) == 0
            assert sent < 4_000_000  # the sockets' buffers, a pipe and the landing buffer at most
            rig.a.shutdown(socket.SHUT_WR)
            assert digest(rig.b)[0] == sent

    run(main)


def test_the_end_waits_for_what_is_held_back(backend, run, pair):
    def main():
        with Rig(pair, buffer_bytes=20_000) as rig:
            sent = fill_for_good(rig, rig.a)
            rig.a.close()
            wait_all_parked()
            assert not rig.up.done
            assert digest(rig.b)[0] == sent

    run(main)


def test_large_both_ways_at_once(backend, run, pair):
    up, down = noise(8_000_000, 3), noise(6_000_000, 4)

    def main():
        with Rig(pair) as rig:
            tasks = [
                netnet.spawn(send_and_finish, rig.a, up),
                netnet.spawn(send_and_finish, rig.b, down),
                netnet.spawn(digest, rig.a),
                netnet.spawn(digest, rig.b),
            ]
            assert [task.result() for task in tasks] == [None, None, told(down), told(up)]
            assert rig.wait() == netnet.RelayResult(len(up), len(down), "closed")

    run(main)


@pytest.mark.parametrize("spliced", [False, pytest.param(True, marks=spliced_here)])
def test_a_source_that_never_dries_gives_way_after_its_turn(run, monkeypatch, spliced):
    monkeypatch.setattr(module, "_recv_into", lambda sock, buffer: len(buffer))
    monkeypatch.setattr(module, "_send", lambda sock, data, flags: len(data))
    monkeypatch.setattr(transfer, "_splice", lambda source, sink, count, *_: count)

    def main():
        with Rig() as rig:
            before = rig.up.moved
            rig.up.may_splice = spliced
            rig.up.streak = module.BULK_STREAK if spliced else 0
            rig.up.switch()
            assert module.TURN_BYTES <= rig.up.moved - before <= module.TURN_BYTES + module.SPLICE_BYTES
            assert bool(rig.up.spliced) == spliced
            assert rig.up in running.loop.ready
            rig.relay.abort()

    run(main)


def test_beside_a_bulk_relay_small_talk_goes_on(backend, run, monkeypatch):
    monkeypatch.setattr(module, "TURN_BYTES", 65536)

    def main():
        with Rig() as bulk, Rig() as chat:
            data = noise(8_000_000)
            netnet.spawn(send_and_finish, bulk.a, data)
            reading = netnet.spawn(digest, bulk.b)
            rounds = 0
            while not reading.done:
                chat.a.sendall(b"?")
                assert exactly(chat.b, 1) == b"?"
                rounds += 1
            assert reading.result() == told(data)
            assert rounds > 3

    run(main)


def test_many_relays_of_all_sizes_at_once(backend, run):
    sizes = random.Random(5)
    plans = [
        (noise(int(10 ** sizes.uniform(0, 5.7)), n), noise(int(10 ** sizes.uniform(0, 5.7)), -n)) for n in range(40)
    ]

    def one(up, down):
        with Rig(random.Random(len(up)).choice([tcp, unix])) as rig:
            sending = [netnet.spawn(send_and_finish, rig.a, up), netnet.spawn(send_and_finish, rig.b, down)]
            backward = netnet.spawn(digest, rig.a)
            assert digest(rig.b) == told(up)
            assert backward.result() == told(down)
            for task in sending:
                task.result()
            assert rig.wait() == netnet.RelayResult(len(up), len(down), "closed")

    def main():
        with netnet.TaskGroup() as group:
            for up, down in plans:
                group.spawn(one, up, down)

    run(main)


# -- splicing


def bulk(rig, data, source, sink):
    netnet.spawn(send_and_finish, source, data)
    assert digest(sink) == told(data)


@spliced_here
@pytest.mark.parametrize("side", ["a", "b"])
def test_splice_runs_after_sustained_bulk(backend, run, pair, side):
    data = noise(20_000_000)

    def main():
        with Rig(pair) as rig:
            bulk(rig, data, *rig.peers(side))
            ran, idle = (rig.up, rig.down) if side == "a" else (rig.down, rig.up)
            size = len(data)
            assert ran.moved == size
            assert size * 0.5 < ran.spliced <= size
            assert idle.spliced == 0

    run(main)


def test_splice_does_not_run_for_chatty_traffic(backend, run, pair, monkeypatch):
    monkeypatch.setattr(transfer, "_splice", lambda *_: pytest.fail("spliced"))

    def main():
        with Rig(pair) as rig:
            for size in [1, 100, 5000] * 60:
                rig.a.sendall(b"q" * size)
                rig.b.sendall(exactly(rig.b, size))
                assert exactly(rig.a, size) == b"q" * size
            assert rig.up.spliced == rig.down.spliced == 0

    run(main)


@spliced_here
def test_after_bulk_small_talk_is_copied_again(backend, run):
    def main():
        with Rig() as rig:
            data = noise(8_000_000)
            netnet.spawn(rig.a.sendall, data)
            assert told(exactly(rig.b, len(data))) == told(data)
            assert rig.up.spliced
            for _ in range(20):
                rig.a.sendall(b"hello")
                assert exactly(rig.b, 5) == b"hello"
            before = rig.up.spliced
            for _ in range(20):
                rig.a.sendall(b"hello")
                assert exactly(rig.b, 5) == b"hello"
            assert rig.up.spliced == before
            netnet.spawn(rig.a.sendall, data)  # and bulk is spliced once more
            assert told(exactly(rig.b, len(data))) == told(data)
            assert rig.up.spliced > before

    run(main)


def failing_splice(number, calls_before=0, *, out_of_the_pipe=False):
    """``os.splice``, but failing with *number* into the pipe (or out of it) after so many calls."""
    count = 0

    def splice(source, sink, *rest):
        nonlocal count
        is_out = sink not in {pipe.write_end for pipe in seen}
        if is_out == out_of_the_pipe:
            count += 1
            if count > calls_before:
                raise OSError(number, os.strerror(number))
        return os.splice(source, sink, *rest)

    seen = []
    take = pipes.take

    def watched():
        pipe = take()
        if pipe is not None:
            seen.append(pipe)
        return pipe

    return splice, watched


@spliced_here
@pytest.mark.parametrize("calls_before", [0, 3])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_where_splice_is_refused_it_copies(backend, run, monkeypatch, number, calls_before):
    splice, take = failing_splice(number, calls_before)
    monkeypatch.setattr(transfer, "_splice", splice)
    monkeypatch.setattr(pipes, "take", take)
    data = noise(8_000_000)

    def main():
        with Rig() as rig:
            bulk(rig, data, rig.a, rig.b)
            assert not rig.up.may_splice
            assert bool(rig.up.spliced) == bool(calls_before)
            assert pipes.taken == 0
            rig.b.close()
            assert rig.wait() == netnet.RelayResult(len(data), 0, "closed")

    run(main)


@spliced_here
@pytest.mark.parametrize("calls_before", [0, 3])
def test_where_the_sink_refuses_splice_nothing_is_lost(run, monkeypatch, calls_before):
    splice, take = failing_splice(errno.EINVAL, calls_before, out_of_the_pipe=True)
    monkeypatch.setattr(transfer, "_splice", splice)
    monkeypatch.setattr(pipes, "take", take)
    data = noise(8_000_000)

    def main():
        with Rig() as rig:
            netnet.spawn(send_in_vain, rig.a, data)
            rig.b.settimeout(5)
            assert told(exactly(rig.b, len(data))) == told(data)
            assert pipes.taken == 0

    run(main)


@spliced_here
def test_another_error_of_splice_breaks_the_connection(run, monkeypatch):
    splice, take = failing_splice(errno.EIO)
    monkeypatch.setattr(transfer, "_splice", splice)
    monkeypatch.setattr(pipes, "take", take)

    def main():
        with Rig() as rig:
            netnet.spawn(send_in_vain, rig.a, noise(8_000_000))
            with pytest.raises(ConnectionResetError):
                digest(rig.b)
            assert rig.wait().reason == os.strerror(errno.EIO)
            assert pipes.taken == 0

    run(main)


def no_pipe(monkeypatch):
    monkeypatch.setattr(pipes, "take", lambda: None)


def no_splice(monkeypatch):
    monkeypatch.setattr(module, "SPLICE", False)


@pytest.mark.parametrize("without", [no_pipe, no_splice])
def test_without_a_pipe_or_splice_it_copies(backend, run, pair, monkeypatch, without):
    without(monkeypatch)
    monkeypatch.setattr(transfer, "_splice", lambda *_: pytest.fail("spliced"))
    data = noise(8_000_000)

    def main():
        with Rig(pair) as rig:
            bulk(rig, data, rig.a, rig.b)
            assert (rig.up.moved, rig.up.spliced) == (len(data), 0)

    run(main)


@spliced_here
def test_pipes_are_pooled(run):
    def main():
        seen = set()
        for _ in range(4):
            with Rig() as rig:
                bulk(rig, b"x" * 4_000_000, rig.a, rig.b)
                assert rig.up.spliced
                seen |= {pipe.read_end for pipe in pipes._free}
        assert len(seen) == 1

    run(main)


def full_pipe(rig):
    """Has the relay stand with bytes in a pipe, since ``b`` does not read."""
    fill_for_good(rig, rig.a)
    exactly(rig.b, 4_000_000)
    fill_for_good(rig, rig.a)
    while rig.up.pipe is None:
        exactly(rig.b, 65536)
        fill_for_good(rig, rig.a)
    assert rig.up.pipe.held
    assert pipes.taken == 1


ABORTS = {
    "abort": lambda rig: rig.relay.abort(),
    "the source resets": lambda rig: (rig.a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET), rig.a.close()),
    "the sink resets": lambda rig: (rig.b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET), rig.b.close()),
    "the sink closes": lambda rig: rig.b.close(),
    "the relay's sink is closed": lambda rig: rig.far.close(),
    "silence": lambda rig: None,
}


@spliced_here
@pytest.mark.parametrize("how", ABORTS)
def test_the_pipe_is_given_back_also_half_way(backend, run, how):
    def main():
        with Rig(idle_seconds=100) as rig:
            full_pipe(rig)
            ABORTS[how](rig)
            rig.wait()
            assert pipes.taken == 0
            assert rig.up.pipe is None

    run(main, clock=VirtualClock())


@spliced_here
def test_cancelling_gives_the_pipe_back(backend, run):
    def main():
        with Rig() as rig:
            full_pipe(rig)
            running.loop.shut_down()
            with pytest.raises(netnet.Cancelled):
                netnet.sleep(0)
            assert pipes.taken == 0

    run(main)


# -- idle costs nothing


def test_an_idle_relay_holds_no_task_no_buffer_and_no_pipe(backend, run, pair):
    def main():
        alive, parked = running.loop.alive, running.loop.parked
        with Rig(pair) as rig:
            data = noise(6_000_000)
            for source, sink in ((rig.a, rig.b), (rig.b, rig.a)):
                task = netnet.spawn(source.sendall, data)
                assert told(exactly(sink, len(data))) == told(data)
                task.join()
            wait_all_parked()
            loop = running.loop
            assert (loop.alive, loop.parked, len(loop.relays), pipes.taken) == (alive, parked, 1, 0)
            assert not loop.ready
            for direction in (rig.up, rig.down):
                assert direction.pipe is direction.pending is None

    run(main)


def test_starting_a_relay_makes_no_descriptor(backend, run, pair):
    def main():
        with Rig(pair) as first:  # the loop's own are there from here on
            wait_all_parked()
            before = len(os.listdir("/proc/self/fd"))
            with Rig(pair) as rig:
                rig.a.sendall(b"x")
                assert exactly(rig.b, 1) == b"x"
                assert len(os.listdir("/proc/self/fd")) == before + 4
            assert not first.ended.is_set()

    run(main)


def test_nothing_is_left_of_a_relay_that_has_ended(run):
    left = []

    def one():
        with Rig() as rig:
            left.extend(map(weakref.ref, (rig.near, rig.far)))
            rig.a.close()
            rig.b.close()
            rig.wait()

    def main():
        netnet.spawn(one).join()
        gc.collect()
        assert [reference() for reference in left] == [None, None]

    run(main)


def test_nothing_is_left_of_a_run_with_a_relay(run):
    left = []

    def main():
        with Rig() as rig:
            left.extend(map(weakref.ref, (rig.near, rig.far, running.loop)))

    run(main)
    gc.collect()
    assert [reference() for reference in left] == [None, None, None]


def test_wait_all_parked_lets_relays_come_to_rest(backend, run):
    """Relays work from one event to the next, without a runnable task in between."""

    def main():
        with contextlib.ExitStack() as stack:
            first, source = tcp()
            last = source
            for _ in range(6):
                sink, onward = tcp()
                stack.enter_context(contextlib.closing(sink))
                netnet.start_relay(last, sink, lambda result: None)
                last = onward
            stack.enter_context(first)
            stack.enter_context(last)
            first.sendall(b"x")
            wait_all_parked()
            last.settimeout(0)
            assert last.recv(1) == b"x"

    run(main)


# -- cancelled, busy, broken


def test_cancelling_closes_both(backend, run, pair):
    def main():
        (a, near), (far, b) = pair(), pair()
        with a, b:
            task = netnet.spawn(netnet.relay, near, far)
            wait_all_parked()
            task.cancel("enough")
            with pytest.raises(netnet.TaskCancelledError, match="enough"):
                task.result()
            assert near.fileno() == far.fileno() == -1
            assert_cut_off(a)
            assert_cut_off(b)
            assert not running.loop.relays

    run(main)


def test_a_time_out_closes_both(backend, run):
    def main():
        (a, near), (far, b) = tcp(), tcp()
        with a, b:
            with pytest.raises(TimeoutError), netnet.timeout(5):
                netnet.relay(near, far)
            assert netnet.now() == 5
            assert near.fileno() == far.fileno() == -1
            assert not running.loop.relays

    run(main, clock=VirtualClock())


def test_cancelled_before_it_began(backend, run):
    def main():
        (a, near), (far, b) = tcp(), tcp()
        with a, b:
            with netnet.CancelScope() as scope:
                scope.cancel()
                netnet.relay(near, far)
            assert near.fileno() == far.fileno() == -1
            assert not running.loop.relays

    run(main)


def test_cancelled_in_the_moment_it_ends(run):
    """The relay is through and its task woken, but not there yet, when it is cancelled: the result stands."""

    def main():
        (a, near), (far, b) = tcp(), tcp()
        with a, b:
            task = netnet.spawn(netnet.relay, near, far)
            wait_all_parked()
            ended = running.loop.descriptors[near.fileno()].reader.relay
            ended.abort("over")
            task.cancel()
            assert task.result() == netnet.RelayResult(0, 0, "over")

    run(main)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", ["reads", "writes"])
def test_a_socket_that_a_task_waits_for_is_busy(backend, run, which, how):
    def main():
        (a, near), (far, b) = tcp(16384), tcp(16384)
        with a, b, near, far:
            sock, peer = ((near, a), (far, b))[which]
            work = (sock.recv, 10) if how == "reads" else (sock.sendall, b"x" * 3_000_000)
            task = netnet.spawn(*work)
            wait_all_parked()
            with pytest.raises(netnet.BusyError):
                netnet.start_relay(near, far, print)
            assert not running.loop.relays
            assert near.fileno() >= 0  # both are still the caller's
            assert far.fileno() >= 0
            if how == "reads":
                peer.sendall(b"fine")
                assert task.result() == b"fine"
            else:
                exactly(peer, 3_000_000)
                task.result()

    run(main)


def test_a_task_cannot_read_what_is_being_relayed(backend, run):
    def main():
        with Rig() as rig:
            wait_all_parked()
            with pytest.raises(netnet.BusyError):
                rig.near.recv(1)
            rig.a.sendall(b"x")
            assert exactly(rig.b, 1) == b"x"

    run(main)


@pytest.mark.parametrize("which", [0, 1])
def test_a_closed_socket_is_refused_and_not_counted(backend, run, which):
    """A relay that never began must not keep the run from ending."""

    def main():
        near, far = unix()
        with near, far:
            (near, far)[which].close()
            with contextlib.suppress(OSError, ValueError):
                netnet.start_relay(near, far, results.append)
            under_way = list(running.loop.relays)
            running.loop.relays.clear()  # so that the run ends in any case
            assert under_way == []

    results = []
    run(main)


def test_an_error_in_the_callback_is_logged_and_hurts_nobody(backend, run, caplog):
    def fail(result):
        raise RuntimeError("in the callback")

    def main():
        (a, near), (far, b) = tcp(), tcp()
        netnet.start_relay(near, far, fail)
        with Rig() as other:
            a.close()
            b.close()
            wait_all_parked()
            other.a.sendall(b"x")
            assert exactly(other.b, 1) == b"x"
            assert len(running.loop.relays) == 1

    run(main)
    assert "in the callback" in caplog.text


def test_a_bug_in_a_direction_ends_its_relay_only(run, monkeypatch, caplog):
    def main():
        with Rig() as broken, Rig() as sound:
            monkeypatch.setattr(module.Direction, "_copy_all", lambda self: 1 / 0)
            broken.a.sendall(b"x")
            assert broken.wait().reason == "internal error"
            monkeypatch.undo()
            sound.a.sendall(b"x")
            assert exactly(sound.b, 1) == b"x"

    run(main)
    assert "ZeroDivisionError" in caplog.text


def test_abort_is_idempotent(run):
    def main():
        with Rig() as rig:
            rig.relay.abort("first")
            rig.relay.abort("second")
            assert rig.wait().reason == "first"

    run(main)


# -- the end of the run


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["INT", "TERM"]
)
@pytest.mark.parametrize("main_is_over", [False, True])
def test_a_signal_ends_relays(backend, run, number, error, main_is_over):
    results, kept = [], []

    def main():
        (a, near), (far, b) = tcp(), tcp()
        kept.extend([a, b])
        netnet.start_relay(near, far, results.append)
        wait_all_parked()
        running.loop.call_soon(functools.partial(os.kill, os.getpid(), number))
        if not main_is_over:
            netnet.sleep(1000)

    with pytest.raises(error):
        run(main)
    assert [result.reason for result in results] == ["the run was stopped"]
    for sock in kept:
        assert_cut_off(sock)
        sock.close()


@pytest.mark.parametrize("both", [False, True])
def test_the_end_of_the_run_ends_relays_that_stand_in_the_queue(backend, run, monkeypatch, both):
    """A direction that has had its turn waits in the loop's queue, not for its source: it has to be found there, too."""
    buffer = bytearray(1000)
    monkeypatch.setattr(module, "TURN_BYTES", 1)
    monkeypatch.setattr(module, "landing_buffer", lambda: buffer)

    def main():
        with Rig() as rig:
            wait_all_parked()
            rig.a.sendall(b"x" * 100_000)
            if both:
                rig.b.sendall(b"x" * 100_000)
            netnet.sleep(0)
            wanted = [rig.up, rig.down] if both else [rig.up]
            for _ in range(50):
                if all(direction in running.loop.ready for direction in wanted):
                    break
                running.loop.cut_turn()  # so that the loop looks for events before this goes on
                netnet.sleep(0)
            else:
                pytest.fail("the directions never stood in the queue together")
            running.loop.shut_down()
            with pytest.raises(netnet.Cancelled):
                netnet.sleep(0)
            result = rig.result
            rig.relay.abort()  # so that the run ends in any case
            assert result is not None

    run(main)


def test_a_relay_that_begins_after_the_end_was_asked_for_does_not_stay(backend, run):
    """The task was woken, not cancelled in time, and starts its relay when the run has been stopped already."""
    results, started = [], []

    def late(event, near, far):
        event.wait()
        started.append(netnet.start_relay(near, far, results.append))

    def main():
        (a, near), (far, b) = tcp(), tcp()
        with a, b, near, far:
            event = netnet.Event()
            netnet.spawn(late, event, near, far)
            wait_all_parked()
            event.set()
            running.loop.shut_down()
            with contextlib.suppress(netnet.Cancelled):
                netnet.sleep(0)
            running.loop.step_aside(netnet.current_task().worker)
            ended = len(results)
            for relay in started:
                relay.abort()  # so that the run ends in any case
            assert ended == len(started)

    run(main)
