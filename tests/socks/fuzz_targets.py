"""What is to hold of the proxy's protocols whatever a peer sends, as functions from bytes to ``AssertionError``; and inputs
to begin with. ``fuzz_handshake`` searches for bytes for which it does not hold; ``test_fuzz`` tries those given here.

The first byte of an input selects the target, the second one its settings, the rest is what the peer sends. For each:
in one piece, in single bytes and in pieces between it must come to the same; it is read, or waited for, or a
``ProtocolError``, and no other exception passes; and no more is kept than the longest message has.
"""

from __future__ import annotations

from netnet.errors import ProtocolError
from netnet.socks import http, http_head, proxy_protocol
from netnet.socks.datagrams import unwrap, wrap, wrap_name
from netnet.socks.handshake import ClientHandshake, ServerHandshake
from netnet.socks.requests import Command, Outcome, Request
from netnet.socks.socks4 import REQUEST_BYTES_MAX
from netnet.socks.socks5 import MESSAGE_BYTES_MAX, Login
from tests.socks import wire

#: a password that stands in no input
FRED = Login("fred", "correct horse")


def cuttings(data, setting):
    """*data* as one piece, as single bytes, and in pieces of a size that *setting* says."""
    size = 2 + setting % 7
    yield [data]
    yield [data[place : place + 1] for place in range(len(data))]
    yield [data[place : place + size] for place in range(0, len(data), size)]


def alike(outcomes):
    """The outcome, which all have in common."""
    first, *others = outcomes
    for other in others:
        assert other == first, f"it depends on the cut: {first} or {other}"
    return first


def _check_message(error):
    """It can stand in a log."""
    assert str(error).isprintable()
    assert FRED.password not in str(error)


# -- SOCKS, the server

_VERSIONS = ((4, 5), (5,), (4,), ())
_POLICIES = (
    ({}, (0, 2)),
    ({"password_taken": True}, (2, 0)),
    ({"password_wanted": True}, (2,)),
)


def check_server(setting, data):
    """It does what the slow parser says."""
    versions, (policy, preferred) = _VERSIONS[setting & 3], _POLICIES[(setting >> 2) % 3]
    accepted = setting < 0x80
    reference = wire.Reference(data, versions, preferred, (accepted,))
    alike(_served(pieces, versions, policy, accepted, reference) for pieces in cuttings(data, setting))


def _served(pieces, versions, policy, accepted, reference):
    machine = ServerHandshake(versions, **policy)
    output, logins, found, kind = b"", [], None, None
    try:
        for piece in pieces:
            event = machine.feed(piece)
            output += machine.take_output()
            if isinstance(event, Login):
                logins.append(tuple(part.encode("utf-8", "surrogateescape") for part in event))
                machine.answer_login(accepted)
                event = machine.feed(b"")
                output += machine.take_output()
            found = event or found
            assert reference.over or len(machine.trailing) < max(REQUEST_BYTES_MAX, MESSAGE_BYTES_MAX)
    except ProtocolError as error:
        kind = type(error)
        _check_message(error)
    assert (kind is not None) == reference.wrong
    assert output + (machine.refusal() if kind else b"") == reference.output + (reference.refusal if kind else b"")
    assert logins == reference.logins
    assert machine.protocol == reference.protocol
    assert machine.request is found
    wanted = reference.wanted
    assert found == (None if wanted is None else Request(Command(wanted.command), *wanted[1:]))
    if reference.over:
        assert machine.trailing == reference.trailing
    return kind, found, machine.trailing


# -- SOCKS, the client


def check_client(setting, data):
    """However it is fed, it hears the same; asking for no more than ``bytes_wanted``, it takes nothing of the target's."""
    version, login = (4, None) if setting & 1 else (5, FRED if setting & 2 else None)
    bind = bool(setting & 4)

    def client():
        return ClientHandshake(version, Request(Command.BIND if bind else Command.CONNECT, "a.b", 80), login)

    outcome = alike(
        [*(_answered(client(), pieces, bind) for pieces in cuttings(data, setting)), _asked(client(), data, bind)]
    )
    assert FRED.password not in repr(outcome[0])


def _answered(machine, pieces, bind):
    found = []
    try:
        for piece in pieces:
            event = machine.feed(piece)
            while event is not None:
                found.append(event)
                event = None
                if bind and len(found) == 1:
                    machine.expect_second()
                    event = machine.feed(b"")
            assert machine.bytes_wanted > 0 or found
    except ProtocolError as error:
        return (type(error), str(error), found), machine.take_output(), b""
    return (None, "", found), machine.take_output(), machine.trailing


def _asked(machine, stream, bind):
    found = []
    try:
        while stream and machine.bytes_wanted:
            wanted = machine.bytes_wanted
            event = machine.feed(stream[:wanted])
            stream = stream[wanted:]
            if event is not None:
                assert machine.trailing == b"", "something of the target's was taken"
                found.append(event)
                if bind and len(found) == 1:
                    machine.expect_second()
    except ProtocolError as error:
        return (type(error), str(error), found), machine.take_output(), b""
    over = len(found) == 1 + bind
    return (None, "", found), machine.take_output(), stream if over else machine.trailing


# -- HTTP


def check_http_server(setting, data):
    """What it forwards is one head, and what it answers is one response."""
    machine, error = alike_but_for_the_machine(_http_served(pieces) for pieces in cuttings(data, setting))
    if error is not None:
        _check_response(machine.bad_request(error), head_only=machine._method == b"HEAD")
    elif machine.request is not None:
        _check_forward(machine.request)
        for outcome in set(Outcome) - {Outcome.GRANTED}:
            _check_response(machine.failed(outcome), head_only=machine._method == b"HEAD")
        if machine.request.credentials is not None:
            assert repr(machine.request.credentials.password) not in repr(machine.request.credentials)


def alike_but_for_the_machine(outcomes):
    (machine, error, first), *others = outcomes
    alike([first, *(other[2] for other in others)])
    return machine, error


def _http_served(pieces):
    machine = http.HttpServer()
    found = None
    try:
        for piece in pieces:
            found = machine.feed(piece)
            assert found is not None or machine.trailing == b""
            assert found is not None or len(machine._buffer) < http_head.HEAD_BYTES_MAX
    except ProtocolError as error:
        _check_message(error)
        return machine, error, (type(error), str(error), getattr(error, "status", 0))
    assert machine.request is found
    return machine, None, (found, found and found.forward, machine.trailing)


def _check_forward(found):
    if found.connect:
        assert found.forward == b""
        return
    head, end, rest = found.forward.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert end
    assert rest == b""
    assert all(b"\r" not in line and b"\n" not in line for line in lines)
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    assert names.count(b"host") == 1
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert not {b"proxy-authorization", b"proxy-connection", b"keep-alive"} & set(names)
    assert lines[0].count(b" ") == 2


def _check_response(answer, head_only):
    head, end, content = answer.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    assert end
    assert len(lengths) == 1
    assert head_only or lengths == [b"Content-Length: %d" % len(content)]
    assert b"\n" not in head.replace(b"\r\n", b"")


def check_http_client(setting, data):
    """Taking out no more than ``head_bytes`` of what it has looked at, it takes nothing of the target's."""
    outcome = alike(_http_answered(pieces) for pieces in cuttings(data, setting))
    assert _http_asked(data, 1 + setting) == outcome


def _http_answered(pieces):
    machine = http.HttpClient("a.b", 80, FRED)
    found = None
    try:
        for piece in pieces:
            found = machine.feed(piece)
            assert found is not None or len(machine._buffer) < http_head.HEAD_BYTES_MAX
    except ProtocolError as error:
        _check_message(error)
        return type(error), str(error)
    assert found is None or found == (machine.outcome is Outcome.GRANTED)
    return found, machine.status, machine.reason, machine.outcome, machine.trailing


def _http_asked(stream, size):
    machine = http.HttpClient("a.b", 80, FRED)
    found = None
    try:
        while stream and found is None:
            count = machine.head_bytes(stream[:size])
            assert count > 0
            found = machine.feed(stream[:count])
            stream = stream[count:]
            assert machine.trailing == b"", "something of the target's was taken"
    except ProtocolError as error:
        return type(error), str(error)
    return found, machine.status, machine.reason, machine.outcome, b"" if found is None else stream


# -- PROXY protocol, datagrams


def check_proxy_header(setting, data):
    """What is behind the header is the rest of what came, and the header does without it."""
    outcome = alike(_source_read(pieces) for pieces in cuttings(data, setting))
    if isinstance(outcome, type) or outcome[0] is None:
        return
    source, trailing = outcome
    header = data[: len(data) - len(trailing)]
    assert header + trailing == data
    assert _source_read([header]) == (source, b"")
    assert _source_read([header[:-1]]) == (None, b"")


def _source_read(pieces):
    machine = proxy_protocol.ProxyHeader()
    try:
        for piece in pieces:
            machine.feed(piece)
            assert len(machine._buffer) < proxy_protocol.HEADER_BYTES_MAX
    except ProtocolError as error:
        _check_message(error)
        return type(error)
    assert machine.source is not None or machine.trailing == b""
    return machine.source, machine.trailing


def check_datagram(setting, data):
    """The header that is read is the one that is written, and data behind it changes nothing."""
    outcome = alike(_unwrapped(kind(data)) for kind in (bytes, bytearray, memoryview))
    if isinstance(outcome, type):
        return
    host, packed, port, end = outcome
    assert 0 < end <= len(data)
    written = wrap(packed, port) if packed else wrap_name(host, port)
    assert written[3:] == data[3:end]
    assert unwrap(written) == unwrap(data + bytes([setting])) == outcome


def _unwrapped(data):
    try:
        return unwrap(data)
    except ProtocolError as error:
        _check_message(error)
        return type(error)


TARGETS = (check_server, check_client, check_http_server, check_http_client, check_proxy_header, check_datagram)


def check(data):
    """One input."""
    if len(data) >= 2:
        TARGETS[data[0] % len(TARGETS)](data[1], bytes(data[2:]))


# -- inputs to begin with: some of each kind, good and bad

_LOGIN = wire.login("fred", "hunter2")
_BASIC = b"Proxy-Authorization: Basic ZnJlZDpodW50ZXIy\r\n"
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_DATA = b"\x16\x03\x01 first data"

_SEEDS = {
    check_server: [
        wire.request("10.1.2.3", 80, user=b"fred") + _DATA,
        wire.request("", 80, command=2, user=b"fred", name="a.b") + _DATA,
        wire.request("", 80, name="a b"),
        wire.greeting(0, 2) + wire.request5("10.1.2.3", 80) + _DATA,
        wire.greeting(2) + _LOGIN + wire.request5("a.b", 443) + _DATA,
        wire.greeting(0, 2) + _LOGIN + wire.request5("::1", 443, command=3) + _DATA,
        wire.greeting(0) + wire.request5("a.b", 0, command=0xF0),
        wire.greeting(0) + b"\5\1\0\2",
        wire.greeting(1, 3),
        b"\x16\x03\x01",
    ],
    check_client: [
        wire.reply(90, "10.1.2.3", 80) + _DATA,
        wire.reply(91),
        wire.reply(90) + wire.reply(90, "10.1.2.3", 80) + _DATA,
        wire.choice(0) + wire.reply5(0, "10.1.2.3", 80) + _DATA,
        wire.choice(0) + wire.reply5(0, "10.1.2.3", 80) + wire.reply5(0, "::1", 80) + _DATA,
        wire.choice(2) + wire.login_status(0) + wire.reply5(0, "a.b", 80) + _DATA,
        wire.choice(2) + wire.login_status(0, 5) + wire.reply5(4, "", 0),
        wire.choice(2) + wire.login_status(1),
        wire.choice(255),
    ],
    check_http_server: [
        b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n" + _BASIC + b"\r\n" + _DATA,
        b"CONNECT [::1]:443 HTTP/1.0\r\n\r\n",
        b"GET http://a.b:8080/c?d HTTP/1.1\r\nHost: a.b\r\nConnection: keep-alive, X-A\r\nX-A: b\r\nTE: trailers\r\n\r\n",
        b"POST http://10.1.2.3 HTTP/1.1\r\nContent-Length: 3\r\nProxy-Connection: close\r\n\r\nabc",
        b"PUT http://a.b?c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET http://a.b/ HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"OPTIONS http://a.b HTTP/1.1\r\nMax-Forwards: 3\r\n\r\n",
        b"HEAD http://a.b/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET https://a.b/ HTTP/1.1\r\n\r\n",
        b"GET http://a.b/ HTTP/1.1\nHost: a.b\r\n folded\r\n\r\n",
    ],
    check_http_client: [
        b"HTTP/1.1 200 Connection established\r\n\r\n" + _DATA,
        b"HTTP/1.0 403 no\r\nProxy-Status: a; error=connection_refused\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 who\r\nProxy-Authenticate: Basic\r\n\r\n",
        b"HTTP/1.1 101 no\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ],
    check_proxy_header: [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 1080\r\n" + _DATA,
        b"PROXY TCP6 ::1 2001:db8::1 1 65535\r\n" + _DATA,
        b"PROXY UNKNOWN whatever\r\n" + _DATA,
        b"PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\n",
        _V2 + b"\x21\x11\0\x0c" + bytes((192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 3, 4)) + _DATA,
        _V2 + b"\x21\x21\0\x27" + bytes(15) + b"\1" + bytes(15) + b"\2\1\2\3\4" + b"\x04\0\0" + _DATA,
        _V2 + b"\x20\0\0\0" + _DATA,
        _V2 + b"\x21\x31\0\xd8" + bytes(216),
        _V2 + b"\x22",
    ],
    check_datagram: [
        b"\0\0\0" + wire.address("10.1.2.3", 53) + _DATA,
        b"\0\0\0" + wire.address("::1", 53) + _DATA,
        b"\0\0\0" + wire.address("a.b", 53) + _DATA,
        b"\xff\xff\0" + wire.address("a.b", 53),
        b"\0\0\x81" + wire.address("10.1.2.3", 53) + _DATA,
        b"\0\0\0" + wire.address(b"a b", 53),
        b"\0\0\0\2\0",
    ],
}

#: each input with some settings, as ``check`` takes it
SEEDS = [
    bytes((TARGETS.index(target), setting)) + data
    for target, inputs in _SEEDS.items()
    for data in inputs
    for setting in (0, 1, 2, 4, 8, 0x84)
]

#: what messages are made of, for a search to put together
WORDS = [
    b"\x05\x01\x00",
    b"\x05\x02\x00\x02",
    b"\x05\x01\x02",
    _LOGIN,
    b"\x00\x00\x00\x01",
    b"\r\n",
    b"\r\n\r\n",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"CONNECT ",
    b"http://",
    b"Connection: ",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Max-Forwards: ",
    b"Host: ",
    b"Upgrade: websocket\r\n",
    b"TE: trailers\r\n",
    _BASIC,
    b"Proxy-Status: a; error=",
    b"PROXY TCP4 ",
    b"PROXY TCP6 ",
    b"PROXY UNKNOWN",
    _V2,
]
