"""The messages of SOCKS5, each as bytes and as values, for both sides. What follows on what is in ``handshake``; the
header of datagrams is in ``datagrams``. No I/O.

Sources: RFC 1928 (sections 3, 4 and 6), RFC 1929 for user name and password. Integers are big-endian.

A ``parse_`` function returns what it has read and where that ends, ``None`` while bytes are missing, and raises
``ProtocolError`` for what can never become one: for a wrong version at once; for a command or a kind of address when
the first 4 bytes are there; for a name when it is whole, since its length was said before. In what the other side
sends, reserved bytes are not looked at; in what this side sends they are 0. Addresses are their bytes, 4 or 16; of a
name they are none.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from netnet.errors import ProtocolError
from netnet.socks.requests import Command, Outcome, Request, known_address
from netnet.socks.socks4 import host_bytes, host_text

VERSION: Final = 5

#: methods, RFC 1928 section 3. GSSAPI (1) is not here, and not meant to be
NO_AUTHENTICATION: Final = 0
PASSWORD: Final = 2
NONE_ACCEPTABLE: Final = 0xFF

_LOGIN_VERSION: Final = 1

#: bytes of a name and of a password: their lengths are one byte
CREDENTIAL_BYTES_MAX: Final = 255

#: the longest message of a client: a login
MESSAGE_BYTES_MAX: Final = 3 + 2 * CREDENTIAL_BYTES_MAX

_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4

_NO_ADDRESS: Final = bytes(4)

_COMMANDS: Final = {int(command): command for command in Command}
_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}

#: commands that others have: Tor's extensions look names up by a proxy. They are answered as any unknown one
_KNOWN_ELSEWHERE: Final = {0xF0: " (RESOLVE, of Tor)", 0xF1: " (RESOLVE_PTR, of Tor)"}


class UnsupportedError(ProtocolError):
    """Well said, but not what this proxy does; *outcome* is how SOCKS5 says so."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


class Login(NamedTuple):
    """A name and a password. They may have any bytes; text is UTF-8, as usual (RFC 1929 does not say)."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r}, ...)"


# -- methods


def parse_greeting(buffer: bytes) -> tuple[bytes, int] | None:
    """The methods that a client offers. Its first byte is known to be 5."""
    if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
        return None
    end = 2 + buffer[1]
    return buffer[2:end], end


def pack_greeting(methods: bytes) -> bytes:
    """What a client says first."""
    return bytes((VERSION, len(methods))) + methods


def parse_choice(buffer: bytes) -> int | None:
    """The method that a proxy has chosen. It has 2 bytes."""
    _check_version(buffer[0])
    return buffer[1] if len(buffer) > 1 else None


def pack_choice(method: int) -> bytes:
    """What a proxy answers to a greeting."""
    return bytes((VERSION, method))


# -- login


def parse_login(buffer: bytes) -> tuple[Login, int] | None:
    """A client's user name and password. Both may be empty: RFC 1929 says 1 to 255 bytes, and clients send none."""
    if buffer[0] != _LOGIN_VERSION:
        raise ProtocolError(f"the login begins with {buffer[0]}, not with its version, 1")
    if len(buffer) < 2:
        return None
    user_end = 2 + buffer[1]
    if len(buffer) <= user_end:
        return None
    end = user_end + 1 + buffer[user_end]
    if len(buffer) < end:
        return None
    user, password = buffer[2:user_end], buffer[user_end + 1 : end]
    return Login(user.decode("utf-8", "surrogateescape"), password.decode("utf-8", "surrogateescape")), end


def pack_login(login: Login) -> bytes:
    """What a client logs in with. Raises ``ProtocolError`` for what is too long."""
    try:
        parts = [part.encode("utf-8", "surrogateescape") for part in login]
    except UnicodeError:  # which would show what it could not encode
        raise ProtocolError("the user name or the password has characters that cannot be sent") from None
    if not all(0 < len(part) <= CREDENTIAL_BYTES_MAX for part in parts):
        raise ProtocolError(f"a user name and a password have 1 to {CREDENTIAL_BYTES_MAX} bytes each")
    return bytes((_LOGIN_VERSION,)) + b"".join(bytes((len(part),)) + part for part in parts)


def parse_login_status(buffer: bytes) -> bool | None:
    """Whether the proxy takes the login. It has 2 bytes. Some say version 5 in front, which is let pass."""
    if buffer[0] not in (_LOGIN_VERSION, VERSION):
        raise ProtocolError(f"the answer to the login begins with {buffer[0]}, not with its version, 1")
    return buffer[1] == 0 if len(buffer) > 1 else None


def pack_login_status(accepted: bool) -> bytes:
    """What a proxy answers to a login."""
    return bytes((_LOGIN_VERSION, 0 if accepted else 1))


# -- requests and replies


def parse_request(buffer: bytes) -> tuple[Request, int] | None:
    """A client's request. Raises ``UnsupportedError`` for a command or a kind of address that is not known."""
    _check_version(buffer[0])
    if len(buffer) < 4:
        return None
    command = _COMMANDS.get(buffer[1])
    if command is None:
        known = _KNOWN_ELSEWHERE.get(buffer[1], "")
        raise UnsupportedError(f"command {buffer[1]}{known} is none of SOCKS5", Outcome.COMMAND_UNSUPPORTED)
    found = _parse_address(buffer)
    if found is None:
        return None
    host, packed, port, end = found
    return Request(command, host, port, packed), end


def pack_request(request: Request) -> bytes:
    """The bytes of *request*. Raises ``ProtocolError`` for a name that cannot be sent."""
    return bytes((VERSION, request.command, 0)) + _pack_address(request.host, request.packed, request.port)


def parse_reply(buffer: bytes) -> tuple[Outcome, str, int, int] | None:
    """A proxy's reply: the outcome, the host, the port, and where it ends; ``address_bytes_left`` tells when it will."""
    _check_version(buffer[0])
    if len(buffer) < 4:
        return None
    found = _parse_address(buffer, empty_names=True)
    return None if found is None else (_OUTCOMES.get(buffer[1], Outcome.FAILED), found[0], found[2], found[3])


def pack_reply(outcome: Outcome, packed: bytes = b"", port: int = 0) -> bytes:
    """The bytes of a reply: always of full length, always with an IP address. Clients hang at anything else."""
    kind = _IPV6 if len(packed) == 16 else _IPV4
    return bytes((VERSION, outcome, 0, kind)) + (packed or _NO_ADDRESS) + port.to_bytes(2, "big")


def address_bytes_left(buffer: bytes) -> int:
    """How many bytes of a request or reply are certainly still to come, so that nobody reads what is behind it."""
    if len(buffer) < 5:
        return 5 - len(buffer)  # version, code, reserved, kind, and the first byte of any address
    sizes = {_IPV4: 10, _IPV6: 22, _NAME: 7 + buffer[4]}
    return max(0, sizes.get(buffer[3], 0) - len(buffer))


def _check_version(byte: int) -> None:
    if byte != VERSION:
        raise ProtocolError(f"it begins with {byte}, not with the version of SOCKS5")


def _parse_address(buffer: bytes, *, empty_names: bool = False) -> tuple[str, bytes, int, int] | None:
    """The address that stands at byte 3: host, its bytes if it is no name, port, and where it ends."""
    kind = buffer[3]
    if kind == _IPV4:
        end = 10
    elif kind == _NAME:
        if len(buffer) < 5:
            return None
        if not buffer[4] and not empty_names:
            raise ProtocolError("the host name is empty")
        end = 7 + buffer[4]
    elif kind == _IPV6:
        end = 22
    else:
        raise UnsupportedError(f"{kind} is no kind of address of SOCKS5", Outcome.ADDRESS_UNSUPPORTED)
    if len(buffer) < end:
        return None
    port = buffer[end - 2] << 8 | buffer[end - 1]
    if kind == _NAME:
        return host_text(buffer[5 : end - 2]), b"", port, end
    packed, text = known_address(buffer[4 : end - 2])
    return text, packed, port, end


def _pack_address(host: str, packed: bytes, port: int) -> bytes:
    kind = {0: _NAME, 4: _IPV4, 16: _IPV6}[len(packed)]
    if kind == _NAME:
        packed = host_bytes(host)
        packed = bytes((len(packed),)) + packed
    return bytes((kind,)) + packed + port.to_bytes(2, "big")
