"""Passwords: their hashes, and who may log in.

A hash is a text in the PHC form: ``$scrypt$ln=15,r=8,p=3$salt$hash``, which the standard library can do, or one of Argon2,
for which argon2-cffi is needed. Our own has the parameters that OWASP's Password Storage Cheat Sheet gives for 32 MiB:
one costs about 0.2 s of a core, so that many guesses of a stolen file do, too. No proxy can spend that on each
connection: a ``Verifier`` remembers, in memory, a keyed digest of what was right. See RFC 7914 (scrypt), RFC 9106
(Argon2), RFC 1929 (which passwords SOCKS can carry).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib.util
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from netnet.errors import ThreadError, UsageError
from netnet.runtime.sync import CapacityLimiter, Event
from netnet.runtime.threads import to_thread
from netnet.runtime.worker import worker_or_none
from netnet.socks.settings import User

#: RFC 1929 has one byte for the length
PASSWORD_BYTES_MAX: Final = 255

#: OWASP: N=2^15, r=8, p=3 (32 MiB); equivalent to N=2^17, p=1, at a quarter of the memory, of which each core needs its own
LOG_N: Final = 15
BLOCK_SIZE: Final = 8
PARALLEL: Final = 3
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32

#: what a hash may ask for: more is a mistake, and would take the machine's memory at each login
LOG_N_MIN: Final = 10
LOG_N_MAX: Final = 20
BLOCK_SIZE_MAX: Final = 32
PARALLEL_MAX: Final = 16
MEMORY_BYTES_MAX: Final = 256 * 2**20
PASSES_MAX: Final = 64

#: a hash as a text; those that there are have about 100 characters
HASH_CHARACTERS_MAX: Final = 512

_SCRYPT: Final = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)
_ARGON2: Final = re.compile(
    r"\$(argon2id?)\$v=19\$m=(\d{1,8}),t=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{16,86})"
)

_MAKE_ONE: Final = "make one with: netnet proxy hash-password"


class HashError(ValueError):
    """A text that is no hash of a password which can be used here. The message does not show it."""


@dataclass(frozen=True, slots=True)
class _Scrypt:
    log_n: int
    block_size: int
    parallel: int
    salt: bytes
    digest: bytes

    @property
    def memory_bytes(self) -> int:
        return 128 * self.block_size << self.log_n

    def of(self, password: bytes) -> bytes:
        return hashlib.scrypt(
            password,
            salt=self.salt,
            n=1 << self.log_n,
            r=self.block_size,
            p=self.parallel,
            # what OpenSSL counts: the table, and a block for each lane and for its work
            maxmem=self.memory_bytes + 128 * self.block_size * (self.parallel + 4),
            dklen=len(self.digest),
        )


def hash_password(password: str) -> str:
    """The hash to write into the configuration: ``$scrypt$ln=15,r=8,p=3$salt$hash``, with a new salt.

    Takes about 0.2 s and 32 MiB, and blocks the OS thread. Raises ``ValueError`` for a password that is empty or has more
    than 255 bytes in UTF-8, which RFC 1929 cannot carry. Does not switch tasks.
    """
    secret = password.encode()
    if not 0 < len(secret) <= PASSWORD_BYTES_MAX:
        raise ValueError(f"a password has 1 to {PASSWORD_BYTES_MAX} bytes in UTF-8 (RFC 1929), not {len(secret)}")
    new = _Scrypt(LOG_N, BLOCK_SIZE, PARALLEL, secrets.token_bytes(SALT_BYTES), bytes(HASH_BYTES))
    return f"$scrypt$ln={LOG_N},r={BLOCK_SIZE},p={PARALLEL}${_text(new.salt)}${_text(new.of(secret))}"


def check_hash(text: str) -> None:
    """Raises ``HashError`` unless *text* is a hash that can be used here; it says what is wrong and does not show it."""
    if len(text) > HASH_CHARACTERS_MAX:
        raise HashError(f"is no hash: it has {len(text)} characters; {_MAKE_ONE}")
    if text.startswith("$argon2"):
        _check_argon2(text)
    elif text.startswith("$scrypt$"):
        _read_scrypt(text)
    else:
        raise HashError(f"is a hash of a kind that is not known here: scrypt, argon2id and argon2i are; {_MAKE_ONE}")


def verify(hash: str, password: str) -> bool:
    """Whether *password* is the one that *hash* was made of. Blocks the OS thread as long as the hash costs.

    Raises ``HashError`` for what is no hash, ``UsageError`` where Argon2 is needed and not installed. Does not switch
    tasks.
    """
    return _verify(hash, _secret(password))


def _verify(hash: str, secret: bytes) -> bool:
    if hash.startswith("$argon2"):
        return _verify_argon2(hash, secret)
    known = _read_scrypt(hash)
    return hmac.compare_digest(known.of(secret), known.digest) and 0 < len(secret) <= PASSWORD_BYTES_MAX


def _secret(password: str) -> bytes:
    """As bytes; what no client can send is empty, which no password is."""
    try:
        return password.encode("utf-8", "surrogateescape")[: PASSWORD_BYTES_MAX + 1]
    except UnicodeEncodeError:
        return b""


def _text(data: bytes) -> str:
    """Base64 without padding, as in PHC strings."""
    return base64.b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise HashError(f"is a damaged hash: a part of it is not Base64; {_MAKE_ONE}") from None


def _read_scrypt(text: str) -> _Scrypt:
    match = _SCRYPT.fullmatch(text)
    if match is None:
        raise HashError(f"is a damaged scrypt hash, perhaps cut off; {_MAKE_ONE}")
    log_n, block_size, parallel = (int(number) for number in match.groups()[:3])
    found = _Scrypt(log_n, block_size, parallel, _bytes(match[4]), _bytes(match[5]))
    for name, value, low, high in (
        ("ln", log_n, LOG_N_MIN, LOG_N_MAX),
        ("r", block_size, 1, BLOCK_SIZE_MAX),
        ("p", parallel, 1, PARALLEL_MAX),
        ("128 * r * 2**ln", found.memory_bytes, 0, MEMORY_BYTES_MAX),
    ):
        if not low <= value <= high:
            raise HashError(f"is a scrypt hash with {name}={value}; from {low} to {high} is allowed; {_MAKE_ONE}")
    return found


# -- Argon2, by argon2-cffi


def _check_argon2(text: str) -> None:
    match = _ARGON2.fullmatch(text)
    if match is None:
        raise HashError("is a damaged hash of Argon2, or none of argon2id or argon2i in version 19")
    memory_kib, passes, lanes = (int(number) for number in match.groups()[1:4])
    for name, value, low, high in (
        ("m", memory_kib, 8 * max(lanes, 1), MEMORY_BYTES_MAX // 1024),
        ("t", passes, 1, PASSES_MAX),
        ("p", lanes, 1, PARALLEL_MAX),
    ):
        if not low <= value <= high:
            raise HashError(f"is a hash of Argon2 with {name}={value}; from {low} to {high} is allowed")
    _bytes(match[5])
    _bytes(match[6])
    if importlib.util.find_spec("argon2") is None:
        raise HashError("is a hash of Argon2, which needs argon2-cffi: pip install 'netnet[proxy]'")


def _verify_argon2(hash: str, secret: bytes) -> bool:
    _check_argon2(hash)
    try:
        from argon2.exceptions import VerificationError
        from argon2.low_level import Type, verify_secret
    except ImportError as error:
        raise UsageError(f"argon2-cffi cannot be used ({error}): pip install 'netnet[proxy]'") from error
    kind = Type.ID if hash.startswith("$argon2id$") else Type.I
    try:
        return verify_secret(hash.encode(), secret, kind) and 0 < len(secret) <= PASSWORD_BYTES_MAX
    except VerificationError:
        return False


# -- who may log in


class _Flight:
    """A verification under way, for whoever asks the same meanwhile. *right* is ``None`` if it was given up."""

    __slots__ = ("ended", "right")

    def __init__(self) -> None:
        self.ended = Event()
        self.right: bool | None = None


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Verifier:
    """Who may log in: ``Verifier(users).verify(user, password)``.

    The hash of a password is computed in an OS thread, so that other clients do not wait for it; *threads* of them at once
    (by default as many as there are cores), others wait their turn. Where there can be no threads it is computed
    directly. An unknown user takes as long as a known one. What was right is remembered, one password a user, as a
    digest with a key that lives in this object only: the next login takes microseconds. What was wrong is not. The same
    login several times at once is computed once.
    """

    def __init__(self, users: Mapping[str, User], *, threads: int | None = None) -> None:
        self._users = users
        self._hashes = [user.password for user in users.values()]
        self._limiter = CapacityLimiter(threads or _cores())
        self._key = secrets.token_bytes(32)
        self._remembered: dict[str, bytes] = {}
        self._flights: dict[tuple[str, bytes], _Flight] = {}

    def verify(self, user: str, password: str) -> bool:
        """Whether *user* may log in with *password*.

        Switches tasks, unless it is remembered. Raises ``Cancelled``, and ``UsageError`` where Argon2 is needed and not
        installed.
        """
        secret = _secret(password)
        digest = self._digest(secret)
        remembered = self._remembered.get(user)
        if remembered is not None and hmac.compare_digest(remembered, digest):
            return True
        right = self._once(user, secret, digest)
        if right:
            self._remembered[user] = digest
        return right

    def _digest(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._key, digest_size=32).digest()

    def _once(self, user: str, secret: bytes, digest: bytes) -> bool:
        """The answer, of somebody who asks the same already if there is one."""
        key = (user, digest)
        while flight := self._flights.get(key):
            flight.ended.wait()
            if flight.right is not None:
                return flight.right
        flight = self._flights[key] = _Flight()
        try:
            flight.right = self._slowly(user, secret)
            return flight.right
        finally:
            del self._flights[key]
            flight.ended.set()

    def _slowly(self, user: str, secret: bytes) -> bool:
        known = self._users.get(user)
        return self._compute(known.password if known else self._stand_in(user), secret) and known is not None

    def _stand_in(self, user: str) -> str:
        """For a user that there is not, the hash of one that there is: always the same, so that time tells nothing."""
        if not self._hashes:
            return _NOBODY
        return self._hashes[int.from_bytes(self._digest(user.encode("utf-8", "replace"))[:8]) % len(self._hashes)]

    def _compute(self, hash: str, secret: bytes) -> bool:
        if worker_or_none() is None:
            return _verify(hash, secret)
        try:
            return to_thread(_verify, hash, secret, limiter=self._limiter)
        except ThreadError:
            pass  # it has not begun
        return _verify(hash, secret)


#: a hash of nothing that anybody knows, for a proxy without users
_NOBODY: Final = f"$scrypt$ln={LOG_N},r={BLOCK_SIZE},p={PARALLEL}${_text(bytes(SALT_BYTES))}${_text(bytes(HASH_BYTES))}"

__all__ = ["HashError", "Verifier", "check_hash", "hash_password", "verify"]
