"""Those who mean the proxy harm: slow, silent, rude, greedy and wrong clients, on plain sockets of the standard library.

Nothing of netnet is used here, so what is wrong there is not wrong here as well. It runs as a program of its own, so that
its work is not done in the process that measures. An attack is a generator: until its first ``yield`` it gets to full
strength, then each round it is given a budget of blows, so many as its rate allows, and when it is closed it lets go.
The program says "ready", goes on until its standard input ends, and then says what it has done.

It never takes more than half of a processor: what is measured shall be the proxy, not who gets the processor.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import random
import resource
import select
import socket
import struct
import sys
import time
import types

#: blows are dealt so often; a burst is what a rate brings in so long
TICK_SECONDS = 0.004
#: after a pause of the machine's own at most so much is caught up on
CATCH_UP_SECONDS = 0.02
#: whoever has not answered by then is stuck
PATIENCE_SECONDS = 10.0
#: connections that are opened before their answers are awaited; far below the backlog of a listener
BATCH = 128

#: what is held in the kernel for each of those who do not read
BUFFER_BYTES = 65536

#: Linux: choose the port when connecting, so that a port can be used toward several listeners (ip(7))
IP_BIND_ADDRESS_NO_PORT = 24
#: Linux: of a socket in this mode close(2) tells the peer nothing, as if the machine had vanished (needs CAP_NET_ADMIN)
TCP_REPAIR = 19

RESET_ON_CLOSE = struct.pack("ii", 1, 0)

GREETING = b"\x05\x01\x00"
GREETING_LOGIN = b"\x05\x01\x02"
ANYWHERE = b"\x01\x00\x00\x00\x00\x00\x00"
BIND = b"\x05\x02\x00" + ANYWHERE
ASSOCIATE = b"\x05\x03\x00" + ANYWHERE
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x01\x00"


def address_field(port, host="127.0.0.1"):
    return b"\x01" + socket.inet_aton(host) + struct.pack(">H", port)


def connect_request(port):
    return b"\x05\x01\x00" + address_field(port)


def request4(port, user=b"\0"):
    return b"\x04\x01" + struct.pack(">H", port) + socket.inet_aton("127.0.0.1") + user


# -- sockets

#: where attackers come from: several addresses, so that ports do not run out
_sources = itertools.cycle(f"127.0.2.{number}" for number in range(1, 9))


def dial(port, source=None):
    """A connection to the proxy; all of 127.0.0.0/8 is this machine."""
    sock = socket.socket()
    try:
        sock.settimeout(PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source or next(_sources), 0))
        sock.connect(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


def receive(sock, size):
    """Exactly so many bytes."""
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionError(f"the proxy has hung up after {data!r}")
        data += piece
    return data


def reset(sock):
    """Closes it by a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    sock.close()


def push(sock, data, told):
    """Sends what is taken at once; returns how much that was. From then on the socket does not wait."""
    try:
        sock.setblocking(False)
        return sock.send(data)
    except BlockingIOError:
        told["full"] += 1
    except OSError:
        told["cut off"] += 1
    return 0


def asked(port, request, reply_bytes=10, greeting=GREETING, source=None):
    """A connection on which SOCKS5 has granted *request*, and the reply."""
    (found,) = asked_many(port, [request], reply_bytes, greeting, source)
    return found


def asked_many(port, requests, reply_bytes=10, greeting=GREETING, source=None):
    """The same many times, a batch at once."""
    found = []
    try:
        for start in range(0, len(requests), BATCH):
            batch = []
            for request in requests[start : start + BATCH]:
                sock = dial(port, source)
                found.append((sock, b""))
                sock.sendall(greeting + request)
                batch.append(sock)
            for index, sock in enumerate(batch, start):
                reply = receive(sock, 2 + reply_bytes)[2:]
                if reply[1]:
                    raise ConnectionError(f"the proxy has refused: {reply!r}")
                found[index] = sock, reply
    except BaseException:
        for sock, _ in found:
            sock.close()
        raise
    return found


@contextlib.contextmanager
def held(pairs):
    """Closes the sockets at the end."""
    try:
        yield pairs
    finally:
        for pair in pairs:
            for one in pair if isinstance(pair, tuple) else (pair,):
                if isinstance(one, socket.socket):
                    one.close()


@contextlib.contextmanager
def target(count=4096):
    """A listener for what goes through the proxy."""
    with socket.create_server(("127.0.0.1", 0), backlog=min(count, 4096)) as listener:
        yield listener, listener.getsockname()[1]


# -- slow clients: nothing more than a byte now and then, or nothing at all

#: where they stop: listener, what they send first, and what they send on, byte by byte
SLOW = {
    "before the first byte": ("plain", b"", b""),
    "in the greeting": ("plain", b"\x05\xff", b"\x7e" * 254),
    "in the login": ("login", GREETING_LOGIN + b"\x01\xff", b"a" * 200),
    "in a SOCKS5 request": ("plain", GREETING + b"\x05\x01\x00\x03\xff", b"a" * 254),
    "in a SOCKS4 request": ("plain", request4(9, b""), b"a" * 200),
    "in an HTTP head": ("plain", b"CONNECT a:9 HTTP/1.1\r\n", b"X-Filler: 1\r\n" * 100),
    "in a PROXY header": ("behind", b"PROXY TCP4 ", b"1" * 60),
    "in a binary PROXY header": ("behind", PROXY_V2, b"\0" * 250),
}


def slow(plan, told):
    """Every other one sends a byte now and then; the others nothing at all."""
    listener, first, rest = SLOW[plan.state]
    with held([]) as clients:
        for _ in range(plan.count):
            sock = dial(getattr(plan, listener))
            clients.append(sock)
            if first:
                sock.sendall(first)
        dripping = itertools.cycle(clients[::2])
        sent = dict.fromkeys(clients, 0)
        while True:
            budget = yield
            for sock in itertools.islice(dripping, budget if rest else 0):
                at = sent[sock] = (sent[sock] + 1) % len(rest)
                told["bytes"] += push(sock, rest[at : at + 1], told)


def slow_after_the_grant(plan, told):
    """The connection stands; a byte now and then goes to a target that never answers."""
    with target(plan.count) as (listener, port), held([]) as ends:
        for start in range(0, plan.count, BATCH):
            requests = [connect_request(port)] * min(BATCH, plan.count - start)
            ends += [sock for sock, _ in asked_many(plan.plain, requests)]
            ends += [listener.accept()[0] for _ in requests]
        yield from _drip(ends, told)


def slow_associations(plan, told):
    """A byte now and then where there should be none: on the connection of an association."""
    with held(asked_many(plan.plain, [ASSOCIATE] * plan.count)) as clients:
        yield from _drip([sock for sock, _ in clients], told)


def slow_bindings(plan, told):
    """BIND, and nobody ever comes; the client sends a byte now and then."""
    with held(asked_many(plan.plain, [BIND] * plan.count)) as clients:
        yield from _drip([sock for sock, _ in clients], told)


def _drip(socks, told):
    dripping = itertools.cycle(socks[::2])
    while True:
        budget = yield
        for sock in itertools.islice(dripping, budget):
            told["bytes"] += push(sock, b"x", told)


def half_open(plan, told):
    """They finish their side in the middle of something, and stay."""
    with target() as (listener, port), held([]) as clients:
        while len(clients) < plan.count:
            for listener_name, first in (*[(name, first) for name, first, _ in SLOW.values()], *_whole(port)):
                sock = dial(getattr(plan, listener_name))
                clients.append(sock)
                sock.sendall(first)
                sock.shutdown(socket.SHUT_WR)
        while True:
            yield
            with contextlib.suppress(BlockingIOError):
                listener.setblocking(False)
                while True:
                    clients.append(listener.accept()[0])


def _whole(port):
    """Requests that are complete."""
    return [
        ("plain", request4(port)),
        ("plain", GREETING + connect_request(port)),
        ("plain", f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode()),
    ]


def can_vanish():
    """Whether connections can be forgotten without a word."""
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except OSError:
            return False
    return True


def vanishing(plan, told):
    """Clients whose machine is gone: no end of the stream, no reset, nothing."""
    with target() as (listener, port):
        while True:
            budget = yield
            for _ in range(budget):
                sock = dial(plan.plain)
                sock.sendall(random.choice([b"", b"\x05", GREETING]))
                sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
                sock.close()
                told["vanished"] += 1


# -- floods of connections


def connect_and_close(plan, told):
    yield from _flood(plan, told, lambda: dial(plan.plain).close())


def connect_and_reset(plan, told):
    yield from _flood(plan, told, lambda: reset(dial(plan.plain)))


def _flood(plan, told, blow):
    while True:
        budget = yield
        for _ in range(budget):
            try:
                blow()
            except OSError as error:
                told[type(error).__name__] += 1
            told["connections"] += 1


def reset_at_each_step(plan, told):
    """Each dialect, cut off by a reset after each of its bytes in turn."""
    with target() as (listener, port):
        listener.setblocking(False)
        dialects = [
            ("plain", request4(port, b"user\0")),
            ("plain", GREETING + connect_request(port)),
            ("plain", GREETING + BIND),
            ("plain", GREETING + ASSOCIATE),
            ("plain", f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode()),
            ("login", login_request("wrong")),
            ("behind", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request4(port)),
            ("behind", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00" + request4(port)),
        ]
        steps = itertools.cycle([(name, data[:end]) for name, data in dialects for end in range(len(data) + 1)])

        def blow():
            name, data = next(steps)
            sock = dial(getattr(plan, name), source=f"127.3.{random.randrange(256)}.{random.randrange(1, 255)}")
            sock.sendall(data)
            if random.random() < 0.5:  # let it be read first
                select.select([sock], [], [], 0.001)
            reset(sock)
            with contextlib.suppress(BlockingIOError):
                while True:
                    reset(listener.accept()[0])

        yield from _flood(plan, told, blow)


def random_bytes(plan, told):
    """Anything at all, with a beginning that leads somewhere."""
    dice = random.Random(plan.seed)
    beginnings = [b"", b"\x04", b"\x04\x01", b"\x05", GREETING, GREETING + b"\x05", b"CONNECT ", b"GET ", b"PROXY "]
    with held(collections.deque()) as open_ones:

        def blow():
            sock = dial(dice.choice([plan.plain, plan.plain, plan.login, plan.behind]))
            open_ones.append(sock)
            push(sock, dice.choice(beginnings) + dice.randbytes(dice.randrange(300)), told)
            if len(open_ones) > plan.count:
                open_ones.popleft().close()

        yield from _flood(plan, told, blow)


def refusing_targets(plan, told):
    """Requests for ports where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

        def blow():
            with dial(plan.plain) as sock:
                sock.sendall(GREETING + connect_request(port))
                told[f"reply {receive(sock, 12)[3]}"] += 1

        yield from _flood(plan, told, blow)


def wrong_passwords(plan, told):
    """Each from another address, so that nobody is banned; each costs the proxy a hash that is meant to be slow."""
    clients = collections.deque()
    with held(clients):

        def blow():
            source = f"127.{random.randrange(10, 250)}.{random.randrange(256)}.{random.randrange(1, 255)}"
            sock = dial(plan.login, source)
            sock.sendall(login_request(f"wrong {random.random()}"))
            clients.append(sock)
            if len(clients) > plan.count:
                reset(clients.popleft())

        yield from _flood(plan, told, blow)


def passwords_at_once(plan, told):
    """One address guesses on many connections at once, so that none of the guesses has failed when the last one comes."""
    with held([]) as clients:
        for number in range(plan.count):
            sock = dial(plan.login, "127.0.2.1")
            clients.append(sock)
            sock.sendall(login_request(f"wrong {number}"))
        while True:
            yield


def login_request(password):
    return GREETING_LOGIN + b"\x01\x05alice" + bytes([len(password)]) + password.encode()


def more_than_its_share(plan, told):
    """One address asks for more connections than it may have, again and again."""
    with held(collections.deque()) as clients:

        def blow():
            clients.append(dial(plan.plain, "127.0.0.2"))
            if len(clients) > plan.count:
                clients.popleft().close()

        for _ in range(plan.count):
            blow()
        yield from _flood(plan, told, blow)


# -- too much data


def reader_that_never_reads(plan, told):
    """The target sends and sends; the client takes nothing."""
    with held([]) as ends:
        _join(plan, ends)
        yield from _press(ends[1::2], told)


def target_that_never_reads(plan, told):
    """The client sends and sends; the target takes nothing."""
    with held([]) as ends:
        _join(plan, ends)
        yield from _press(ends[::2], told)


def _join(plan, ends):
    """Connections through the proxy: a client, its target, a client ..."""
    with target() as (listener, port):
        for _ in range(plan.count):
            ends.append(asked(plan.plain, connect_request(port))[0])
            ends.append(listener.accept()[0])
    for sock in ends:  # else the kernel's buffers grow to what would starve the machine, not the proxy
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)


def _press(socks, told):
    """Sends on each of *socks* until nothing more goes in; then tries again and again."""
    block = bytes(262144)
    deadline = time.monotonic() + 3.0
    taken = 1
    while taken and time.monotonic() < deadline:
        taken = 0
        for sock in socks:
            taken += push(sock, block, told)
        told["bytes"] += taken
        select.select([], [], [], TICK_SECONDS)  # the proxy takes what was sent
    pressing = itertools.cycle(socks)
    while True:
        budget = yield
        for sock in itertools.islice(pressing, budget):
            told["bytes"] += push(sock, block, told)


# -- datagrams


def associations(plan, told):
    """Associations by the thousand, each of which has sent to somebody."""
    yield from _datagrams(plan, told, lambda clients, data, here: itertools.cycle(clients))


def datagram_flood(plan, told):
    """Few associations, many datagrams, and all of them are answered."""
    yield from _datagrams(plan, told, lambda clients, data, here: itertools.cycle(clients[:4]), echo=True)


def foreign_datagrams(plan, told):
    """Datagrams from others than the clients; and to them, from others than the targets."""
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(16)]
        for number, sock in enumerate(strangers):
            sock.bind((f"127.0.9.{number + 1}", 0))
        yield from _datagrams(plan, told, lambda clients, data, here: _strangers(clients, strangers))


def _strangers(clients, strangers):
    for (_, front), stranger in zip(itertools.cycle(clients), itertools.cycle(strangers), strict=False):
        yield stranger, front


def _datagrams(plan, told, who, echo=False):
    clients = []
    with socket.socket(type=socket.SOCK_DGRAM) as goal, held(clients), contextlib.ExitStack() as stack:
        goal.bind(("127.0.0.1", 0))
        goal.setblocking(False)
        data = b"\0\0\0" + address_field(goal.getsockname()[1]) + bytes(200)
        found = asked_many(plan.plain, [ASSOCIATE] * plan.count, source="127.0.2.1")
        stack.callback(lambda: [sock.close() for sock, _ in found])
        for _, reply in found:
            sock = socket.socket(type=socket.SOCK_DGRAM)
            clients.append((sock, ("127.0.0.1", struct.unpack(">H", reply[8:])[0])))
            sock.bind(("127.0.2.1", 0))
            sock.sendto(data, clients[-1][1])
            if len(clients) % BATCH == 0 or len(clients) == plan.count:
                told["heard"] += _hear(goal, len(clients) - told["heard"])
        blows = who(clients, data, goal.getsockname())
        while True:
            budget = yield
            for sock, front in itertools.islice(blows, budget):
                with contextlib.suppress(BlockingIOError):
                    told["datagrams"] += sock.sendto(data, socket.MSG_DONTWAIT, front) > 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    answer, source = goal.recvfrom(2048)
                    told["delivered"] += 1
                    if echo:
                        goal.sendto(answer, source)


def _hear(goal, count):
    """Waits until each association has a target, as far as no datagram is lost."""
    heard = 0
    while heard < count and select.select([goal], [], [], 1.0)[0]:
        with contextlib.suppress(BlockingIOError):
            while True:
                goal.recv(2048)
                heard += 1
    return heard


# -- names

#: names below it are told by ``names``; others never
GOOD_NAMES = "good.test"


def named_request(host, port):
    return b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + struct.pack(">H", port)


def slow_names(plan, told):
    """Requests for names that nobody ever tells the addresses of."""
    with held([]) as clients:
        for number in range(plan.count):
            sock = dial(plan.plain)
            clients.append(sock)
            sock.sendall(GREETING + named_request(f"host{number}.bad.test", 80))
        while True:
            yield


def names(plan, told):
    """A name server: 127.0.0.1 for good names, and silence for the others; it says at which port (RFC 1035, section 4)."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        print(json.dumps(sock.getsockname()[1]), flush=True)
        while sys.stdin not in select.select([sock, sys.stdin], [], [])[0]:
            query, client = sock.recvfrom(2048)
            end = query.index(b"\0", 12) + 5
            labels = b"".join(bytes([len(label)]) + label.encode() for label in GOOD_NAMES.split("."))
            if not query[12 : end - 4].endswith(labels + b"\0"):
                continue
            found = query[end - 4 : end - 2] == b"\0\x01"
            answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x7f\0\0\x01" if found else b""
            counts = struct.pack(">4H", 1, found, 0, 0)
            sock.sendto(query[:2] + b"\x81\x80" + counts + query[12:end] + answer, client)
        return
        yield


# -- not an attack


def echo(plan, told):
    """What an honest client talks to; it says at which port."""
    poll = select.epoll()
    with target() as (listener, port), contextlib.closing(poll):
        open_ones = {}
        poll.register(listener, select.EPOLLIN)
        print(json.dumps(port), flush=True)
        poll.register(sys.stdin, select.EPOLLIN)
        while True:
            for number, _ in poll.poll():
                if number == sys.stdin.fileno():
                    return
                if number == listener.fileno():
                    conn, _ = listener.accept()
                    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    open_ones[conn.fileno()] = conn
                    poll.register(conn, select.EPOLLIN)
                    continue
                conn = open_ones[number]
                try:
                    data = conn.recv(65536)
                    if data:
                        conn.sendall(data)
                        continue
                except OSError:
                    pass
                del open_ones[number]
                conn.close()
        yield


ATTACKS = {
    function.__name__: function
    for function in (
        slow,
        slow_after_the_grant,
        slow_associations,
        slow_bindings,
        half_open,
        vanishing,
        connect_and_close,
        connect_and_reset,
        reset_at_each_step,
        random_bytes,
        refusing_targets,
        wrong_passwords,
        passwords_at_once,
        more_than_its_share,
        reader_that_never_reads,
        target_that_never_reads,
        associations,
        datagram_flood,
        foreign_datagrams,
        slow_names,
        names,
        echo,
    )
}


def main(name, text):
    """Runs an attack until standard input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    plan = types.SimpleNamespace(**json.loads(text))
    told = collections.Counter()
    attack = ATTACKS[name](plan, told)
    for _ in attack:
        break
    else:
        return
    print(json.dumps("ready"), flush=True)
    before = time.monotonic()
    owed = 0.0
    pause = TICK_SECONDS
    while not select.select([sys.stdin], [], [], pause)[0]:
        now = time.monotonic()
        owed = min(owed + plan.rate * (now - before), plan.rate * CATCH_UP_SECONDS)
        before = now
        blows = int(owed)
        owed -= blows
        attack.send(blows)
        pause = max(TICK_SECONDS, time.monotonic() - now)
    attack.close()
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
