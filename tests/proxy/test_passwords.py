"""Hashes against published vectors and the real argon2-cffi; the verifier with hashes that the test computes itself."""

from __future__ import annotations

import base64
import hashlib
import sys
import threading

import argon2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netnet
import netnet.testing
from netnet.errors import UsageError
from netnet.proxy import passwords
from netnet.proxy.passwords import HashError, Verifier, check_hash, hash_password, verify
from netnet.socks.settings import User


def text(data):
    return base64.b64encode(data).decode().rstrip("=")


def cheap(password, salt=b"saltsalt"):
    digest = hashlib.scrypt(password.encode("utf-8", "surrogateescape"), salt=salt, n=1024, r=8, p=1, dklen=32)
    return f"$scrypt$ln=10,r=8,p=1${text(salt)}${text(digest)}"


GOOD = cheap("secret")
ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
ARGON2I = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1, type=argon2.Type.I)
ARGON2D = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1, type=argon2.Type.D)

#: RFC 7914, section 12, the third vector
RFC7914 = bytes.fromhex(
    "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
    "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
)


def test_a_new_hash_is_good_for_its_password_alone():
    made = hash_password("pässword")
    assert made.startswith("$scrypt$ln=15,r=8,p=3$")
    check_hash(made)
    assert verify(made, "pässword")
    assert not verify(made, "password")
    assert hash_password("pässword") != made


@pytest.mark.parametrize("password", ["", "x" * 256, "ä" * 128])
def test_what_no_client_can_send_is_not_hashed(password):
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        hash_password(password)


VERIFIED = [
    (f"$scrypt$ln=14,r=8,p=1${text(b'SodiumChloride')}${text(RFC7914)}", "pleaseletmein", True),
    (f"$scrypt$ln=14,r=8,p=1${text(b'SodiumChloride')}${text(RFC7914)}", "pleaseletmeiN", False),
    (GOOD, "secret", True),
    (GOOD, "secret ", False),
    (GOOD, "", False),
    (cheap(""), "", False),
    (cheap("x" * 255), "x" * 255, True),
    (cheap("x" * 256), "x" * 256, False),
    (cheap("\udcff"), "\udcff", True),  # a byte that is no UTF-8
    (GOOD, "\ud800", False),  # nothing that bytes could be
    (ARGON2.hash("secret"), "secret", True),
    (ARGON2.hash("secret"), "Secret", False),
    (ARGON2I.hash("secret"), "secret", True),
    (ARGON2I.hash("secret"), "secre", False),
    (ARGON2.hash(""), "", False),
]


@pytest.mark.parametrize(("hash", "password", "right"), VERIFIED)
def test_verify(hash, password, right):
    check_hash(hash)
    assert verify(hash, password) is right


DAMAGED = [
    ("", "not known here"),
    ("secret", "not known here"),
    ("$2b$12$abcdefghijklmnopqrstuv", "not known here"),
    ("$6$salt$hash", "not known here"),
    ("$scrypt$", "damaged"),
    (GOOD[:-30], "damaged"),
    (GOOD + "\n", "damaged"),
    (GOOD.replace("ln=10", "ln=9"), "ln=9; from 10 to 20"),
    (GOOD.replace("ln=10", "ln=21"), "ln=21; from 10 to 20"),
    (GOOD.replace("ln=10", "ln=20"), r"2\*\*ln=1073741824"),
    (GOOD.replace("r=8", "r=0"), "r=0"),
    (GOOD.replace("p=1", "p=0"), "p=0"),
    (GOOD.replace("p=1", "p=17"), "p=17"),
    (GOOD.replace(text(b"saltsalt"), "saltsaltsalts"), "not Base64"),
    ("$" * 600, "600 characters"),
    ("$argon2id$v=19$m=64,t=1,p=1$", "damaged"),
    (ARGON2D.hash("secret"), "damaged"),
    (ARGON2.hash("secret").replace("v=19", "v=16"), "version 19"),
    (ARGON2.hash("secret").replace("m=64", "m=4000000"), "m=4000000"),
    (ARGON2.hash("secret").replace("t=1", "t=999"), "t=999"),
    (ARGON2.hash("secret").replace("p=1", "p=99"), "m=64; from 792"),
]


@pytest.mark.parametrize(("hash", "message"), DAMAGED)
def test_what_is_no_hash(hash, message):
    with pytest.raises(HashError, match=message) as caught:
        check_hash(hash)
    assert not hash or hash not in str(caught.value)


@given(st.text(alphabet="$scryptagon2id=,lnrpv19+/0A", max_size=60), st.sampled_from(["", "$scrypt$", "$argon2id$"]))
@settings(max_examples=200)
def test_any_text_is_a_hash_or_an_error(tail, head):
    try:
        check_hash(head + tail)
    except HashError:
        pass


def test_argon2_that_is_not_installed(monkeypatch):
    hash = ARGON2.hash("secret")
    monkeypatch.setitem(sys.modules, "argon2.low_level", None)
    with pytest.raises(UsageError, match=r"netnet\[proxy\]"):
        verify(hash, "secret")
    monkeypatch.setattr(passwords.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HashError, match=r"netnet\[proxy\]"):
        check_hash(hash)


# -- the verifier

USERS = {"alice": User("alice", GOOD), "bob": User("bob", cheap("other"))}


@pytest.fixture
def computed(monkeypatch):
    """What was computed: the hashes in their order, and in which thread."""
    found, real = [], passwords._verify

    def counted(hash, secret):
        found.append((hash, threading.current_thread() is threading.main_thread()))
        return real(hash, secret)

    monkeypatch.setattr(passwords, "_verify", counted)
    return found


def test_who_may_log_in(run, computed):
    def main():
        verifier = Verifier(USERS)
        assert verifier.verify("alice", "secret")
        assert verifier.verify("bob", "other")
        for user, password in [("alice", "other"), ("alice", ""), ("bob", "secret"), ("carol", "secret"), ("", "")]:
            assert not verifier.verify(user, password)

    run(main)
    assert len(computed) == 7
    assert not any(here for _, here in computed)


def test_what_was_right_is_remembered_and_what_was_wrong_is_not(run, computed):
    def main():
        verifier = Verifier(USERS)
        for _ in range(3):
            assert verifier.verify("alice", "secret")
        assert len(computed) == 1
        for count in (2, 3):
            assert not verifier.verify("alice", "Secret")
            assert len(computed) == count
        assert verifier.verify("alice", "secret")
        assert len(computed) == 3
        assert not verifier.verify("bob", "secret")
        assert len(computed) == 4
        assert set(verifier._remembered) == {"alice"}

    run(main)


def test_remembering_keeps_no_password(run):
    def main():
        verifier = Verifier(USERS)
        verifier.verify("alice", "secret")
        assert b"secret" not in b"".join(verifier._remembered.values())
        other = Verifier(USERS)
        other.verify("alice", "secret")
        assert other._remembered != verifier._remembered

    run(main)


def test_an_unknown_user_costs_what_a_known_one_costs(run, computed):
    def main():
        verifier = Verifier(USERS)
        for name in ("carol", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"):
            assert not verifier.verify(name, "secret")
            assert not verifier.verify(name, "other")

    run(main)
    assert len(computed) == 18
    hashes = [hash for hash, _ in computed]
    assert set(hashes) == {GOOD, USERS["bob"].password}
    assert hashes[0] == hashes[1] == hashes[2] == hashes[3]  # always the same for one name


def test_without_users_somebody_is_still_looked_up(run, computed):
    run(lambda: Verifier({}).verify("alice", "secret"))
    ((hash, _),) = computed
    check_hash(hash)


class Gate:
    """Stands in for the computation: counts those under way, and lets them go on when it is told."""

    def __init__(self, monkeypatch, right=True):
        self.entered, self.open, self.right = threading.Semaphore(0), threading.Semaphore(0), right
        self.count = 0
        monkeypatch.setattr(passwords, "_verify", self)

    def __call__(self, hash, secret):
        self.count += 1
        self.entered.release()
        assert self.open.acquire(timeout=10)
        return self.right


def test_others_run_on_meanwhile(run, monkeypatch):
    gate = Gate(monkeypatch)

    def main():
        verifier = Verifier(USERS)
        login = netnet.spawn(verifier.verify, "alice", "secret")
        netnet.to_thread(gate.entered.acquire)
        for _ in range(100):
            netnet.sleep(0)
        assert not login.done
        gate.open.release()
        assert login.result() is True

    run(main)


@pytest.mark.parametrize("right", [True, False])
def test_the_same_login_is_computed_once(run, monkeypatch, right):
    gate = Gate(monkeypatch, right)

    def main():
        verifier = Verifier(USERS)
        logins = [netnet.spawn(verifier.verify, "alice", "secret") for _ in range(5)]
        netnet.testing.wait_all_parked()
        gate.open.release()
        assert [login.result() for login in logins] == [right] * 5
        assert gate.count == 1
        assert not verifier._flights

    run(main)


def test_another_password_at_the_same_time_is_computed_for_itself(run, monkeypatch):
    gate = Gate(monkeypatch)

    def main():
        verifier = Verifier(USERS, threads=2)
        logins = [netnet.spawn(verifier.verify, "alice", password) for password in ("one", "two")]
        netnet.testing.wait_all_parked()
        for _ in logins:
            gate.open.release()
        assert all(login.result() for login in logins)
        assert gate.count == 2

    run(main)


def test_no_more_threads_than_were_told(run, monkeypatch):
    gate = Gate(monkeypatch)

    def main():
        verifier = Verifier(USERS, threads=1)
        logins = [netnet.spawn(verifier.verify, "alice", password) for password in ("one", "two")]
        netnet.to_thread(gate.entered.acquire)
        netnet.testing.wait_all_parked()
        assert gate.count == 1
        for _ in logins:
            gate.open.release()
        assert all(login.result() for login in logins)

    run(main)


def test_who_waits_for_a_login_that_was_given_up_takes_it_over(run, monkeypatch):
    gate = Gate(monkeypatch)

    def main():
        verifier = Verifier(USERS, threads=1)
        first, second = (netnet.spawn(verifier.verify, "alice", "secret") for _ in range(2))
        netnet.to_thread(gate.entered.acquire)
        netnet.testing.wait_all_parked()
        first.cancel()
        first.join()
        gate.open.release()
        gate.open.release()
        assert second.result() is True
        assert gate.count == 2
        assert not verifier._flights

    run(main)


def test_an_error_reaches_everybody_who_waits(run, monkeypatch):
    entered = []

    def broken(hash, secret):
        entered.append(hash)
        raise UsageError("argon2-cffi cannot be used")

    monkeypatch.setattr(passwords, "_verify", broken)

    def main():
        verifier = Verifier(USERS)
        logins = [netnet.spawn(verifier.verify, "alice", "secret") for _ in range(2)]
        for login in logins:
            with pytest.raises(UsageError):
                login.result()
        assert not verifier._flights

    run(main)


def test_without_threads_it_is_computed_directly(run, computed):
    def main():
        verifier = Verifier(USERS)
        assert verifier.verify("alice", "secret")
        assert not verifier.verify("alice", "Secret")

    run(main, threads=False)
    assert [here for _, here in computed] == [True, True]


def test_outside_a_loop(computed):
    verifier = Verifier(USERS)
    assert verifier.verify("alice", "secret")
    assert verifier.verify("alice", "secret")
    assert not verifier.verify("alice", "Secret")
    assert [here for _, here in computed] == [True, True]
