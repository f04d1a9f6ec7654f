"""The pool of splice pipes: what it hands out, what it takes back, and where it says that there is none to be had."""

from __future__ import annotations

import errno
import fcntl
import os
import resource

import pytest

from netnet.kernel import transfer
from netnet.kernel.transfer import PIPE_BYTES_MIN, PIPES_MAX, POOL_MAX, SPLICE, PipePool
from tests.conftest import descriptors

pytestmark = pytest.mark.skipif(not SPLICE, reason="splice(2) is Linux'")


@pytest.fixture
def pool():
    pool = PipePool()
    yield pool
    pool.clear()
    assert pool.taken == 0


def test_a_pipe_is_empty_large_and_does_not_block(pool):
    pipe = pool.take()
    assert (pipe.held, pool.taken) == (0, 1)
    assert pipe.size == fcntl.fcntl(pipe.write_end, fcntl.F_GETPIPE_SZ) >= PIPE_BYTES_MIN
    for end in (pipe.read_end, pipe.write_end):
        assert not os.get_blocking(end)
        assert not os.get_inheritable(end)
    with pytest.raises(BlockingIOError):
        os.read(pipe.read_end, 1)
    pool.give_back(pipe)


def test_an_empty_pipe_is_used_again(pool):
    first = pool.take()
    pool.give_back(first)
    assert pool.taken == 0
    assert pool.take() is first
    pool.give_back(first)


def test_two_users_have_two_pipes(pool):
    one, other = pool.take(), pool.take()
    assert len({one.read_end, one.write_end, other.read_end, other.write_end}) == 4
    assert pool.taken == 2
    pool.give_back(one)
    pool.give_back(other)


def test_a_pipe_with_bytes_in_it_is_never_handed_on(pool):
    pipe = pool.take()
    pipe.held = os.write(pipe.write_end, b"secret")
    pool.give_back(pipe)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(pipe.read_end)
    fresh = pool.take()
    with pytest.raises(BlockingIOError):
        os.read(fresh.read_end, 1)
    pool.give_back(fresh)


def test_the_pool_keeps_no_more_than_its_limit(pool):
    before = len(descriptors())
    taken = [pool.take() for _ in range(POOL_MAX + 5)]
    for pipe in taken:
        pool.give_back(pipe)
    assert len(descriptors()) == before + 2 * POOL_MAX


def test_clear_closes_what_nobody_uses_and_leaves_the_rest(pool):
    used, unused = pool.take(), pool.take()
    pool.give_back(unused)
    pool.clear()
    os.fstat(used.read_end)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(unused.read_end)
    pool.give_back(used)


def test_there_are_no_more_than_so_many(pool, limited_descriptors):
    taken = [pool.take() for _ in range(PIPES_MAX)]
    taken = [pipe for pipe in taken if pipe is not None]  # the user's share of pipe pages may end before
    assert pool.take() is None
    for pipe in taken:
        pool.give_back(pipe)


def test_none_when_descriptors_have_run_out(pool):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        assert pool.take() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert pool.taken == 0


def test_none_when_the_kernel_grants_small_ones_only(pool, monkeypatch):
    monkeypatch.setattr(transfer, "PIPE_BYTES", 4096)
    before = descriptors()
    assert pool.take() is None
    assert (pool.taken, descriptors()) == (0, before)


def test_a_size_that_is_refused_is_no_error(pool, monkeypatch):
    monkeypatch.setattr(transfer, "PIPE_BYTES", -1)
    pipe = pool.take()  # of the size that the kernel gives by default
    assert pipe is None or pipe.size >= PIPE_BYTES_MIN
    if pipe is not None:
        pool.give_back(pipe)


def test_none_where_there_is_no_splice(pool, monkeypatch):
    monkeypatch.setattr(transfer, "SPLICE", False)
    assert pool.take() is None


def test_a_forked_child_has_pipes_of_its_own(pool):
    unused, used = pool.take(), pool.take()
    pool.give_back(unused)
    parents = os.fstat(unused.read_end).st_ino
    child = os.fork()
    if not child:
        try:
            mine = pool.take()
            os._exit(0 if pool.taken == 1 and os.fstat(mine.read_end).st_ino != parents else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.take() is unused  # the parent's pool has noticed nothing
    pool.give_back(unused)
    pool.give_back(used)


def test_a_forked_child_leaves_the_pipes_of_its_parent_alone():
    """What is in a pipe of the parent's stays in it, and the child's pool does not get it."""
    pipe = transfer.pipes.take()
    os.write(pipe.write_end, b"parent's")
    pipe.held = 8
    child = os.fork()
    if not child:
        quiet = pipe.read_all() == b"" and pipe.held == 8
        taken = transfer.pipes.taken
        transfer.pipes.give_back(pipe)
        os._exit(0 if quiet and transfer.pipes.taken == taken else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pipe.read_all() == b"parent's"
    transfer.pipes.give_back(pipe)
