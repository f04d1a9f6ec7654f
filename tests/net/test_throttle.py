"""Throttles: the rate in the long run, the burst, shares for everybody who draws from the same bucket; and relays that go
by them without losing a byte, a half-close or an end, whatever happens while they wait for a grant.

The peers and the relay's sockets are named as in ``test_relay``.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import math
import os
import signal
import socket
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

import netnet
from netnet.kernel import transfer
from netnet.kernel.transfer import pipes
from netnet.net import relay_direction, throttle
from netnet.net.throttle import Allowance, TokenBucket
from netnet.runtime.loop import running
from netnet.testing import VirtualClock, wait_all_parked
from tests.net.test_relay import (
    RESET,
    Rig,
    assert_cut_off,
    digest,
    exactly,
    fill_for_good,
    noise,
    send_and_finish,
    send_in_vain,
    spliced_here,
    tcp,
    told,
    unix,
)

MEGABYTE = 1_000_000


@pytest.fixture(params=[tcp, unix])
def pair(request):
    return request.param


# -- the bucket


def drain(bucket, now, wanted=1 << 20):
    """All that a bucket grants at one instant, and how many grants that were."""
    total = count = 0
    while granted := bucket.grant(wanted, now):
        total += granted
        count += 1
    return total, count


RATES = [1, 1.5, 10, 1000, 29_200, 100_000, MEGABYTE, 10**9, 10**12, throttle.BYTES_MAX]


@pytest.mark.parametrize("rate", RATES)
def test_what_a_full_bucket_gives_at_once_is_its_burst(rate):
    bucket = TokenBucket(rate)
    total, _ = drain(bucket, 5.0, wanted=throttle.BYTES_MAX)
    assert bucket.burst_bytes - bucket.share_bytes <= total <= bucket.burst_bytes
    assert bucket.burst_bytes == max(16384, int(rate * 0.1))


@pytest.mark.parametrize("rate", RATES[:7])
@pytest.mark.parametrize("burst", [None, 1, 2, 1000, 10**7])
def test_the_rate_in_the_long_run(rate, burst):
    """Whoever comes when told gets the rate, to the byte."""
    bucket = TokenBucket(rate, burst)
    now, total = 0.0, drain(bucket, 0.0)[0]
    for _ in range(1000):
        now = bucket.ready_at(now)
        got = drain(bucket, now)[0]
        assert got, "the instant that the bucket told was too early"
        total += got
    assert total <= bucket.burst_bytes + now * rate + 1
    assert total >= now * rate * 0.999


@pytest.mark.parametrize(
    ("rate", "burst", "share"),
    [
        (MEGABYTE, None, 50_000),
        (MEGABYTE, 10_000, 5000),
        (100_000, None, 5000),
        (10_000, None, 1460),
        (1460, None, 1460),
        (10, None, 10),
        (10, 1, 1),
        (1, None, 1),
    ],
)
def test_shares(rate, burst, share):
    assert TokenBucket(rate, burst).share_bytes == share


def test_a_deep_bucket_is_not_emptied_by_one_alone():
    bucket = TokenBucket(1000, 10**6)
    assert 400_000 < bucket.grant(10**6, 0.0) < 500_000
    total, count = drain(bucket, 0.0)
    assert total > 400_000
    assert count < 20 + 1000 / 50


def test_it_grants_no_more_than_is_wanted():
    bucket = TokenBucket(MEGABYTE)
    assert [bucket.grant(wanted, 0.0) for wanted in (1, 7, 1460)] == [1, 7, 1460]


def test_what_is_given_back_is_there_again():
    bucket = TokenBucket(MEGABYTE)
    for _ in range(10_000):
        granted = bucket.grant(10**6, 1.0)
        bucket.give_back(granted)
    assert drain(bucket, 1.0)[0] >= bucket.burst_bytes - bucket.share_bytes


def test_silence_fills_it_to_the_burst_and_no_further():
    bucket = TokenBucket(MEGABYTE)
    drain(bucket, 0.0)
    assert drain(bucket, 1e6)[0] <= bucket.burst_bytes


def test_those_who_wait_divide_a_share():
    bucket = TokenBucket(MEGABYTE)
    drain(bucket, 0.0)
    told_them = {bucket.ready_at(0.0) for _ in range(5)}
    assert len(told_them) == 1
    assert [bucket.grant(10**6, max(told_them)) for _ in range(6)] == [10_000] * 5 + [0]
    assert bucket.grant(10**6, bucket.ready_at(1.0)) == 50_000  # one alone has all of it


def test_a_portion_is_worth_a_wake():
    bucket = TokenBucket(MEGABYTE)
    drain(bucket, 0.0)
    told_them = max(bucket.ready_at(0.0) for _ in range(10_000))
    assert bucket.grant(10**6, told_them) == throttle.SEGMENT_BYTES


WRONG = [
    ((0,), ValueError, "bytes a second"),
    ((-1,), ValueError, "bytes a second"),
    ((0.5,), ValueError, "bytes a second"),
    ((math.nan,), ValueError, "bytes a second"),
    ((math.inf,), ValueError, "no throttle"),
    ((1e300,), ValueError, "bytes a second"),
    (("1M",), TypeError, "bytes a second"),
    ((b"1",), TypeError, "bytes a second"),
    ((True,), TypeError, "bytes a second"),
    ((None,), TypeError, "bytes a second"),
    ((1000, 0), ValueError, "burst"),
    ((1000, -5), ValueError, "burst"),
    ((1000, 1 << 70), ValueError, "burst"),
    ((1000, 1.5), TypeError, "burst"),
    ((1000, True), TypeError, "burst"),
    ((1000, "1k"), TypeError, "burst"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), WRONG)
def test_numbers_that_make_no_sense(arguments, error, words):
    with pytest.raises(error, match=words):
        TokenBucket(*arguments)


def test_it_says_what_it_is():
    assert repr(TokenBucket(MEGABYTE, 5)) == "TokenBucket(1e+06, 5)"


class Model:
    """A bucket as one would write it down: a level that time raises, and a grant lowers."""

    def __init__(self, rate, burst):
        self.rate, self.burst, self.level, self.at = rate, burst, float(burst), 0.0

    def move(self, count, now):
        self.level = min(self.burst, self.level + (now - self.at) * self.rate) - count
        self.at = now


@given(
    rate=st.integers(1, 10**8),
    burst=st.none() | st.integers(1, 10**8),
    steps=st.lists(
        st.tuples(
            st.floats(0, 2),
            st.integers(1, 10**7),
            st.floats(0, 1),
            st.integers(0, 3),
        ),
        max_size=60,
    ),
)
def test_it_never_gives_more_than_there_is(rate, burst, steps):
    """Against the model: whatever is asked, given back and asked about, at whatever instants."""
    bucket = TokenBucket(rate, burst)
    model = Model(rate, bucket.burst_bytes)
    now = 0.0
    for seconds, wanted, kept, asked in steps:
        now += seconds
        granted = bucket.grant(wanted, now)
        assert 0 <= granted <= wanted
        moved = int(granted * kept)
        bucket.give_back(granted - moved)
        model.move(moved, now)
        assert model.level >= -1
        if not granted:
            assert model.level < bucket.share_bytes + 1
            for _ in range(asked):
                assert now - 1e-6 <= bucket.ready_at(now) <= now + bucket.share_bytes / rate + 1e-6


# -- several throttles together


class Fixed:
    """A throttle that grants up to so many bytes each time, and writes down what it is asked."""

    def __init__(self, most, ready=math.inf):
        self.most, self.ready, self.out, self.asked = most, ready, 0, []

    def grant(self, wanted, now):
        self.asked.append(wanted)
        granted = min(wanted, self.most)
        self.out += granted
        return granted

    def give_back(self, unused):
        assert 0 < unused <= self.out
        self.out -= unused

    def ready_at(self, now):
        return now + self.ready


TOGETHER = [
    # what each grants, ready after → granted, until
    ([(100, 1)], 100, None),
    ([(5000, 1)], 1000, None),
    ([(100, 1), (50, 1)], 50, None),
    ([(50, 1), (100, 1)], 50, None),
    ([(50, 1), (100, 1), (10, 1)], 10, None),
    ([(0, 3)], 0, 3),
    ([(0, 3), (50, 9)], 0, 3),
    ([(50, 9), (0, 3)], 0, 3),
    ([(0, 3), (0, 5), (0, 4)], 0, 5),
    ([(0, -7)], 0, throttle.WAIT_SECONDS_MIN),
]


@pytest.mark.parametrize(("throttles", "granted", "until"), TOGETHER)
def test_an_allowance_is_the_least_of_its_throttles(run, throttles, granted, until):
    def main():
        each = [Fixed(*one) for one in throttles]
        allowance = Allowance(running.loop, each)
        assert allowance.grant(1000) == granted
        assert [one.out for one in each] == [granted] * len(each)
        assert allowance.until == (-math.inf if until is None else until)
        if granted:
            allowance.give_back(granted)
        allowance.give_back(0)
        assert [one.out for one in each] == [0] * len(each)

    run(main, clock=VirtualClock())


@pytest.mark.parametrize(
    "throttles",
    [None, (), ((),), ((), (), ()), (None, ()), (TokenBucket(1), ()), ([1], []), ([], [None]), TokenBucket(1)],
)
def test_what_are_no_throttles_is_said_before_the_sockets_are_taken(run, throttles):
    def main():
        near, far = unix()
        with near, far:
            with pytest.raises(TypeError, match="throttle"):
                netnet.start_relay(near, far, print, throttles=throttles)
            assert not running.loop.relays
            assert near.fileno() >= 0

    run(main)


@pytest.mark.parametrize("throttles", [((), ()), ([], []), [[], ()]])
def test_no_throttles_cost_nothing(run, throttles):
    def main():
        with Rig(throttles=throttles) as rig:
            assert rig.up.allowance is rig.down.allowance is None

    run(main)


# -- relays: the rate


def both(*throttles):
    """The same ones for both directions."""
    return {"throttles": (throttles, throttles)}


def one_way(*throttles):
    """For *a* → *b* only."""
    return {"throttles": (throttles, ())}


def timed(source, sink, data):
    """Sends *data* through; returns how long it took until all of it had come. Checks that it is what was sent."""
    began = netnet.now()
    task = netnet.spawn(source.sendall, data)
    summed, left = hashlib.sha256(), len(data)
    while left:
        chunk = sink.recv(65536)
        assert chunk
        left -= len(chunk)
        summed.update(chunk)
    task.join()
    assert summed.hexdigest() == told(data)[1]
    return netnet.now() - began


SPEEDS = [
    # bytes a second, burst, bytes
    (10, 10, 600),
    (10, None, 16384 + 300),
    (100, 50, 3000),
    (1000, None, 60_000),
    (30_000, None, 200_000),
    (MEGABYTE, None, 3_000_000),
    (MEGABYTE, 10_000, 1_000_000),
    (10 * MEGABYTE, None, 20_000_000),
    (200 * MEGABYTE, None, 100_000_000),
]


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize(("rate", "burst", "size"), SPEEDS)
def test_the_rate_of_a_relay(run, rate, burst, size, side):
    def main():
        bucket = TokenBucket(rate, burst)
        with Rig(**both(bucket)) as rig:
            taken = timed(*rig.peers(side), noise(size))
            assert taken == pytest.approx((size - bucket.burst_bytes) / rate, rel=0.1)
            moved = (rig.relay.sent, rig.relay.received)
            assert moved == ((size, 0) if side == "a" else (0, size))

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("rate", [50_000, 2 * MEGABYTE])
def test_the_rate_on_every_poller(backend, run, pair, rate):
    def main():
        bucket = TokenBucket(rate)
        with Rig(pair, **both(bucket)) as rig:
            taken = timed(rig.a, rig.b, noise(rate * 2))
            assert taken == pytest.approx((2 * rate - bucket.burst_bytes) / rate, rel=0.1)

    run(main, clock=VirtualClock())


def test_the_rate_in_real_time(run):
    """Wide of the mark only when the machine stands still for long: never too fast."""

    def main():
        bucket = TokenBucket(4 * MEGABYTE)
        with Rig(**both(bucket)) as rig:
            began = time.monotonic()
            timed(rig.a, rig.b, noise(2_400_000))
            assert 0.49 < time.monotonic() - began < 2.5

    run(main)


def test_a_huge_rate_holds_nothing_up(run):
    def main():
        with Rig(**both(TokenBucket(10**15))) as rig:
            assert timed(rig.a, rig.b, noise(20_000_000)) == 0

    run(main, clock=VirtualClock())


def test_the_other_direction_is_not_throttled(run):
    def main():
        with Rig(**one_way(TokenBucket(10, 10))) as rig:
            sending = netnet.spawn(rig.a.sendall, b"slow" * 100)
            assert timed(rig.b, rig.a, noise(5_000_000)) == 0
            assert exactly(rig.b, 400) == b"slow" * 100
            assert netnet.now() == pytest.approx(39, rel=0.1)
            sending.join()

    run(main, clock=VirtualClock())


def test_both_directions_can_have_one_bucket(run):
    def main():
        with Rig(**both(TokenBucket(MEGABYTE))) as rig:
            tasks = [netnet.spawn(timed, *rig.peers(side), noise(2_000_000)) for side in "ab"]
            assert max(task.result() for task in tasks) == pytest.approx(4, rel=0.1)
            assert min(task.result() for task in tasks) > 3.4

    run(main, clock=VirtualClock())


def test_a_short_message_does_not_wait(run):
    def main():
        with Rig(**both(TokenBucket(1000))) as rig:
            for _ in range(10):
                assert timed(rig.a, rig.b, b"x" * 1000) == 0
                netnet.sleep(1)

    run(main, clock=VirtualClock())


def test_a_rate_below_one_message(run):
    """The first bytes of a message come before the last may."""

    def main():
        with Rig(**both(TokenBucket(10, 10))) as rig:
            rig.a.sendall(b"0123456789" * 5)
            pieces = []
            for _ in range(50):
                data = rig.b.recv(100)
                pieces.append((round(netnet.now()), len(data)))
                if sum(count for _, count in pieces) == 50:
                    break
            assert len(pieces) > 4
            assert pieces[-1][0] == pytest.approx(4, abs=1)

    run(main, clock=VirtualClock())


def test_small_talk_counts_only_what_it_moves(run):
    """Each message is granted far more than it has; the rest goes back."""

    def main():
        bucket = TokenBucket(1000, 2000)
        with Rig(**both(bucket)) as rig:
            for _ in range(100):
                rig.a.sendall(b"0123456789")
                assert exactly(rig.b, 10) == b"0123456789"
                netnet.sleep(0.01)
            assert netnet.now() == pytest.approx(1.0)  # 1000 bytes in a second: nobody waited
            assert drain(bucket, netnet.now(), wanted=1)[0] > 1900

    run(main, clock=VirtualClock())


# -- relays: together


def race(rigs, sources, seconds):
    """Sends without end through all of them for so long, and says what came through each."""
    data = bytes(100_000)

    def send(sock):
        while True:
            sock.sendall(data)

    def take(sock):
        while sock.recv(65536):
            pass

    tasks = [netnet.spawn(send, source) for source in sources]
    tasks += [netnet.spawn(take, rig.b) for rig in rigs]
    netnet.sleep(seconds)
    moved = [rig.relay.sent for rig in rigs]
    for task in tasks:
        task.cancel()
    for task in tasks:
        with pytest.raises(netnet.TaskCancelledError):
            task.result()
    return moved


@pytest.mark.parametrize("rate", [20_000, MEGABYTE, 20 * MEGABYTE])
@pytest.mark.parametrize("count", [2, 7])
def test_relays_share_a_bucket_fairly(run, rate, count):
    def main():
        bucket = TokenBucket(rate)
        rigs = [Rig(**one_way(bucket)) for _ in range(count)]
        moved = race(rigs, [rig.a for rig in rigs], 20)
        assert sum(moved) == pytest.approx(20 * rate, rel=0.1)
        assert min(moved) > 0.8 * max(moved)
        for rig in rigs:
            rig.__exit__()

    run(main, clock=VirtualClock())


def test_many_relays_on_a_narrow_line_all_get_on(run):
    def main():
        rate = 100_000
        bucket = TokenBucket(rate)
        rigs = [Rig(**one_way(bucket)) for _ in range(60)]
        moved = race(rigs, [rig.a for rig in rigs], 60)
        assert sum(moved) == pytest.approx(60 * rate, rel=0.1)
        assert min(moved) > 0.5 * max(moved)
        for rig in rigs:
            rig.__exit__()

    run(main, clock=VirtualClock())


def test_small_talk_gets_on_beside_bulk(run):
    """A question and an answer on a line that others fill: as fast as the turns go round, not as fast as they please."""

    def main():
        bucket = TokenBucket(MEGABYTE)
        bulk = [Rig(**one_way(bucket)) for _ in range(3)]
        with Rig(**one_way(bucket)) as chat:
            rounds = 0

            def talk():
                nonlocal rounds
                while True:
                    chat.a.sendall(b"q" * 100)
                    exactly(chat.b, 100)
                    rounds += 1

            talking = netnet.spawn(talk)
            moved = race(bulk, [rig.a for rig in bulk], 20)
            talking.cancel()
            with pytest.raises(netnet.TaskCancelledError):
                talking.result()
            assert rounds > 100
            assert sum(moved) > 18 * MEGABYTE
            for rig in bulk:
                rig.__exit__()

    run(main, clock=VirtualClock())


def test_an_own_and_a_shared_bucket_together(run):
    """Each has an own limit; together they have less than the sum. One that uses less leaves the rest to the others."""

    def main():
        shared = TokenBucket(1_500_000)
        rates = [100_000, 2 * MEGABYTE, 2 * MEGABYTE]
        rigs = [Rig(**one_way(TokenBucket(rate), shared)) for rate in rates]
        slow, *fast = race(rigs, [rig.a for rig in rigs], 20)
        assert slow == pytest.approx(20 * 100_000, rel=0.1)
        assert sum(fast) == pytest.approx(20 * 1_400_000, rel=0.1)
        assert min(fast) > 0.8 * max(fast)
        for rig in rigs:
            rig.__exit__()

    run(main, clock=VirtualClock())


def test_two_shared_buckets_in_either_order(run):
    def main():
        one, other = TokenBucket(MEGABYTE), TokenBucket(MEGABYTE)
        rigs = [Rig(**one_way(one, other)), Rig(**one_way(other, one)), Rig(**one_way(one)), Rig(**one_way(other))]
        moved = race(rigs, [rig.a for rig in rigs], 20)
        assert sum(moved[:3]) <= 20.2 * MEGABYTE
        assert min(moved) > 3 * MEGABYTE
        for rig in rigs:
            rig.__exit__()

    run(main, clock=VirtualClock())


# -- relays: splicing


@spliced_here
@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("buckets", [1, 2])
def test_splice_stays_in_use(backend, run, pair, side, buckets):
    data = noise(20_000_000)

    def main():
        with Rig(pair, **both(*(TokenBucket(5 * MEGABYTE) for _ in range(buckets)))) as rig:
            source, sink = rig.peers(side)
            netnet.spawn(send_and_finish, source, data)
            assert digest(sink) == told(data)
            ran = rig.up if side == "a" else rig.down
            assert ran.moved == len(data)
            assert ran.spliced > len(data) * 0.8
            assert netnet.now() == pytest.approx(4, rel=0.1)
            assert pipes.taken == 0

    run(main, clock=VirtualClock())


@spliced_here
def test_while_it_waits_for_a_grant_it_holds_nothing(backend, run):
    def main():
        with Rig(**both(TokenBucket(2 * MEGABYTE))) as rig:
            sending = netnet.spawn(send_and_finish, rig.a, noise(8_000_000))
            left, looked = 8_000_000, 0
            while left:
                left -= len(rig.b.recv(65536))
                wait_all_parked()
                if rig.up.allowance._timer is not None:
                    looked += 1
                    assert rig.up.pipe is rig.up.pending is None
                    assert pipes.taken == 0
                    assert not running.loop.ready
            assert looked > 10
            assert rig.up.spliced
            sending.join()

    run(main, clock=VirtualClock())


@spliced_here
def test_small_grants_are_copied(run, monkeypatch):
    monkeypatch.setattr(transfer, "_splice", lambda *_: pytest.fail("spliced"))

    def main():
        with Rig(**both(TokenBucket(200_000))) as rig:
            timed(rig.a, rig.b, noise(1_000_000))

    run(main, clock=VirtualClock())


@spliced_here
def test_after_bulk_small_talk_is_copied_again(run):
    def main():
        with Rig(**both(TokenBucket(10 * MEGABYTE))) as rig:
            timed(rig.a, rig.b, noise(8_000_000))
            assert rig.up.spliced
            for _ in range(20):
                timed(rig.a, rig.b, b"hello")
            before = rig.up.spliced
            for _ in range(20):
                timed(rig.a, rig.b, b"hello")
            assert rig.up.spliced == before

    run(main, clock=VirtualClock())


@spliced_here
@pytest.mark.parametrize("where", ["into the pipe", "out of the pipe", "no pipe"])
def test_where_splice_cannot_be_had_the_count_is_right_all_the_same(run, monkeypatch, where):
    """What copying takes over in the middle of a grant was granted once."""
    data = noise(4_000_000)

    def main():
        with Rig(**both(TokenBucket(2 * MEGABYTE))) as rig:
            if where == "no pipe":
                monkeypatch.setattr(pipes, "take", lambda: None)
            else:
                monkeypatch.setattr(transfer, "_splice", refusing(where == "out of the pipe", rig.far))
            assert timed(rig.a, rig.b, data) == pytest.approx(1.9, rel=0.1)
            assert rig.up.spliced == 0
            assert pipes.taken == 0

    def refusing(out, sink):
        def splice(source, into, *rest):
            if out == (into == sink.fileno()):
                raise OSError(22, os.strerror(22))
            return os.splice(source, into, *rest)

        return splice

    run(main, clock=VirtualClock())


# -- relays: slow sinks, ends


@pytest.mark.parametrize("rate", [30_000, 3 * MEGABYTE])
def test_a_slow_sink_loses_nothing_and_pays_once(backend, run, pair, rate):
    data = noise(300_000)

    def main():
        with Rig(pair, buffer_bytes=20_000, **both(TokenBucket(rate))) as rig:
            netnet.spawn(send_and_finish, rig.a, data)
            got = bytearray()
            while chunk := rig.b.recv(7000):
                got += chunk
                netnet.sleep(0.001)
            assert told(got) == told(data)
            assert netnet.now() < max(300_000 / rate, 0.06) * 1.2
            rig.b.close()
            assert rig.wait() == netnet.RelayResult(len(data), 0, "closed")

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("rate", [1000, MEGABYTE])
@pytest.mark.parametrize("side", ["a", "b"])
def test_half_close_delivers_every_byte(backend, run, pair, rate, side):
    data = noise(rate * 3)

    def main():
        with Rig(pair, linger_seconds=1, **both(TokenBucket(rate))) as rig:
            one, other = rig.peers(side)
            netnet.spawn(send_and_finish, one, data)
            assert digest(other) == told(data)
            send_and_finish(other, b"thanks")
            assert digest(one) == told(b"thanks")
            assert rig.wait().reason == "closed"
            assert sorted((rig.relay.sent, rig.relay.received)) == [6, len(data)]

    run(main, clock=VirtualClock())


def test_closed_right_away_delivers_every_byte(run):
    def main():
        with Rig(**both(TokenBucket(1000, 500))) as rig:
            rig.b.shutdown(socket.SHUT_WR)
            rig.a.sendall(b"x" * 10_000)
            rig.a.close()
            assert digest(rig.b) == told(b"x" * 10_000)
            assert rig.wait() == netnet.RelayResult(10_000, 0, "closed")
            assert rig.at == pytest.approx(9.5, rel=0.1)
            assert running.loop.timers.next_instant() is None

    run(main, clock=VirtualClock())


# -- relays: silence


class Gate:
    """A throttle that somebody opens: before *opens* nothing may move, and then everything."""

    def __init__(self, opens):
        self.opens, self.refusals = opens, 0

    def grant(self, wanted, now):
        if now < self.opens:
            self.refusals += 1
            return 0
        return wanted

    def give_back(self, unused):
        pass

    def ready_at(self, now):
        return self.opens


@pytest.mark.parametrize("half", [False, True])
def test_waiting_for_a_grant_is_no_silence(backend, run, half):
    def main():
        gate = Gate(1000.0)
        limits = {"linger_seconds": 10} if half else {"idle_seconds": 10}
        with Rig(**limits, **one_way(gate)) as rig:
            if half:
                rig.b.shutdown(socket.SHUT_WR)
            rig.a.sendall(b"patience")
            assert exactly(rig.b, 8) == b"patience"
            assert netnet.now() == 1000
            assert gate.refusals == 1
            assert rig.wait().reason == ("no data after half-close" if half else "idle")
            assert rig.at == 1010  # and then it counts again

    run(main, clock=VirtualClock())


def test_a_tiny_rate_outlives_a_short_idle_limit(run):
    def main():
        with Rig(idle_seconds=0.2, **both(TokenBucket(10, 10))) as rig:
            rig.a.sendall(b"x" * 100)
            assert exactly(rig.b, 100) == b"x" * 100
            assert netnet.now() > 8
            assert rig.wait().reason == "idle"

    run(main, clock=VirtualClock())


def test_silence_of_both_sides_still_ends_it(run):
    def main():
        with Rig(idle_seconds=10, **both(TokenBucket(1000))) as rig:
            rig.a.sendall(b"x" * 100)
            exactly(rig.b, 100)
            assert rig.wait().reason == "idle"
            assert rig.at == 10

    run(main, clock=VirtualClock())


def test_a_stalled_sink_is_silence_too(backend, run):
    """There is something to be had from the bucket, and nobody takes what it let through."""

    def main():
        with Rig(buffer_bytes=16384, idle_seconds=60, **both(TokenBucket(10 * MEGABYTE))) as rig:
            task = netnet.spawn(send_in_vain, rig.a, bytes(10_000_000))
            assert rig.wait().reason == "idle"
            assert rig.at < 70
            assert pipes.taken == 0
            task.join()

    run(main, clock=VirtualClock())


# -- relays: ended while they wait for a grant


class Waiting(Rig):
    """A relay that waits for a grant, and is going to for long."""

    def __init__(self, pair=tcp, **options):
        super().__init__(pair, throttles=([Gate(1e6)], [Gate(1e6)]), **options)
        self.a.sendall(b"x" * 1000)
        self.b.sendall(b"y" * 1000)
        wait_all_parked()
        assert self.up.allowance._timer.live
        assert self.down.allowance._timer.live


def assert_no_timer(rig):
    for direction in (rig.up, rig.down):
        assert direction.allowance is None or direction.allowance._timer is None
    assert not any(timer.live for _, _, timer in running.loop.timers.heap)


def test_abort_while_it_waits(backend, run):
    def main():
        with Waiting() as rig:
            rig.relay.abort("enough")
            assert rig.wait() == netnet.RelayResult(0, 0, "enough")
            assert_no_timer(rig)
            assert_cut_off(rig.a)
            assert_cut_off(rig.b)
        assert netnet.now() < 1e6

    run(main, clock=VirtualClock())


def test_cancelling_the_task_while_it_waits(backend, run, pair):
    def main():
        (a, near), (far, b) = pair(), pair()
        with a, b:
            task = netnet.spawn(functools.partial(netnet.relay, near, far, throttles=([Gate(1e6)], [])))
            a.sendall(b"x")
            wait_all_parked()
            task.cancel("enough")
            with pytest.raises(netnet.TaskCancelledError, match="enough"):
                task.result()
            assert near.fileno() == far.fileno() == -1
            assert not running.loop.relays
        assert running.loop.timers.next_instant() is None

    run(main, clock=VirtualClock())


def test_the_end_of_the_run_while_it_waits(backend, run):
    ended = []

    def main():
        rig = Waiting()
        ended.append(rig)
        running.loop.call_soon(lambda: os.kill(os.getpid(), signal.SIGTERM))
        netnet.sleep(1e9)

    with pytest.raises(SystemExit):
        run(main)
    (rig,) = ended
    assert rig.result.reason == "the run was stopped"
    assert rig.up.allowance._timer is None
    rig.a.close()
    rig.b.close()


def test_a_reset_while_it_waits_is_noticed_when_it_goes_on(backend, run):
    def main():
        with Waiting() as rig:
            rig.a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            rig.a.close()
            assert rig.wait().reason in {os.strerror(number) for number in (104, 32)}
            assert_no_timer(rig)

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("which", ["near", "far"])
def test_closing_a_socket_while_it_waits_ends_it(backend, run, which):
    def main():
        with Waiting() as rig:
            getattr(rig, which).close()
            assert rig.wait().reason == os.strerror(9)
            assert_no_timer(rig)
            assert not running.loop.relays

    run(main, clock=VirtualClock())


def test_one_direction_breaks_while_the_other_waits(backend, run):
    def main():
        with Rig(**one_way(Gate(1e6))) as rig:
            rig.a.sendall(b"x" * 1000)
            wait_all_parked()
            rig.b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            rig.b.close()
            assert rig.wait().reason == os.strerror(104)
            assert_no_timer(rig)
            assert netnet.now() < 1e6

    run(main, clock=VirtualClock())


def test_linger_of_the_other_direction_while_one_waits(run):
    """One direction is through, the other waits for its bucket: not cut off, however short the limit."""

    def main():
        with Rig(linger_seconds=1, **one_way(Gate(100.0))) as rig:
            rig.a.sendall(b"late")
            wait_all_parked()
            rig.b.shutdown(socket.SHUT_WR)
            assert digest(rig.a) == told(b"")
            assert exactly(rig.b, 4) == b"late"
            rig.a.close()
            assert rig.wait() == netnet.RelayResult(4, 0, "closed")
            assert rig.at == 100

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("method", ["grant", "give_back", "ready_at"])
def test_a_throttle_that_fails_ends_its_relay_only(run, caplog, method):
    class Broken(Gate):
        pass

    def main():
        broken = Broken(5.0 if method == "ready_at" else 0.0)
        setattr(broken, method, lambda *_: 1 / 0)
        with Rig(**both(broken)) as rig, Rig(**both(TokenBucket(1000))) as sound:
            send_in_vain(rig.a, b"x")
            assert rig.wait().reason == "internal error"
            sound.a.sendall(b"x")
            assert exactly(sound.b, 1) == b"x"

    run(main, clock=VirtualClock())
    assert "ZeroDivisionError" in caplog.text


def test_a_throttle_that_always_says_now_keeps_no_loop_busy(run):
    class Liar(Gate):
        def ready_at(self, now):
            return now - 1

    def main():
        liar = Liar(1.0)
        with Rig(**one_way(liar)) as rig:
            rig.a.sendall(b"x")
            assert exactly(rig.b, 1) == b"x"
            assert liar.refusals <= 1 / throttle.WAIT_SECONDS_MIN + 1

    run(main, clock=VirtualClock())


# -- nothing is kept


def test_nothing_is_left_of_a_relay_that_has_ended(run):
    left = []

    def one(bucket):
        with Rig(**both(bucket)) as rig:
            left.extend(map(weakref.ref, (rig.near, rig.far)))
            netnet.spawn(send_and_finish, rig.a, noise(500_000))
            digest(rig.b)
            rig.b.close()
            rig.wait()

    def main():
        bucket = TokenBucket(100_000)
        netnet.spawn(one, bucket).join()
        gc.collect()
        assert [reference() for reference in left] == [None, None]
        assert running.loop.timers.next_instant() is None

    run(main, clock=VirtualClock())


def test_live_counts(backend, run, pair):
    """They count what has been delivered, not what stands in the relay."""

    def main():
        with Rig(pair) as rig:
            assert (rig.relay.sent, rig.relay.received) == (0, 0)
            rig.a.sendall(b"12345")
            exactly(rig.b, 5)
            assert (rig.relay.sent, rig.relay.received) == (5, 0)
            rig.b.sendall(b"123")
            exactly(rig.a, 3)
            assert (rig.relay.sent, rig.relay.received) == (5, 3)
            rig.relay.abort()
            assert rig.wait() == netnet.RelayResult(5, 3, "aborted")
            assert (rig.relay.sent, rig.relay.received) == (5, 3)

    run(main)


def test_live_counts_of_bulk(run):
    def main():
        with Rig(buffer_bytes=20_000) as rig:
            sent = fill_for_good(rig, rig.a)
            assert 0 < rig.relay.sent < sent
            rig.a.shutdown(socket.SHUT_WR)
            assert digest(rig.b)[0] == sent == rig.relay.sent

    run(main)


def test_a_throttled_direction_moves_once_a_turn(run, monkeypatch):
    """So that several that draw from one bucket take turns even while there is plenty in it."""
    monkeypatch.setattr(relay_direction, "_recv_into", lambda sock, buffer: len(buffer))
    monkeypatch.setattr(relay_direction, "_send", lambda sock, data, flags: len(data))

    def main():
        with Rig(**both(TokenBucket(10**12))) as rig:
            before = rig.up.moved
            rig.up.switch()
            assert 0 < rig.up.moved - before <= 1 << 18
            assert rig.up in running.loop.ready
            rig.relay.abort()

    run(main)
