"""Accepting the kernel's requests and reporting DONE, against a fake of net/handshake/netlink.c and the real nlctrl."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from netlink import kernel as kernel_module
from netlink.family import PolicyType, dump_policy, resolve_family
from netlink.handshake import Accept, Certificate, Done
from netlink.kernel import KernelHandshakeSocket
from tests.netlink.fake_kernel import FAMILY, FakeKernel

REQUEST = Accept(
    message_type=1, auth_mode=3, timeout=3000, peername="server.example", certificates=(Certificate(4, 5),)
)


class Consumer:
    """Takes what is accepted, as the daemon would."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.socket = KernelHandshakeSocket(self.take)
        self.accepts: list[Accept] = []
        self.raises: Exception | None = None
        self.meanwhile: Callable[[], object] = int

    def take(self, accept: Accept) -> None:
        self.meanwhile()
        if self.raises is not None:
            raise self.raises
        self.accepts.append(accept)

    def attach(self) -> None:
        self.socket.attach(FAMILY, self.kernel.ready, self.kernel)

    def close(self) -> None:
        self.socket.close()
        for accept in self.accepts:
            os.close(accept.sockfd)


@pytest.fixture
async def consumer() -> AsyncIterator[Consumer]:
    made = Consumer()
    yield made
    made.close()


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_requests_from_before_the_start_are_accepted(consumer: Consumer) -> None:
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.attach()
    assert [accept.peername for accept in consumer.accepts] == ["server.example"] * 2
    assert consumer.accepts[0].certificates == (Certificate(4, 5),)


async def test_one_ready_fetches_all_that_wait(consumer: Consumer) -> None:
    consumer.attach()
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.kernel.submit(REQUEST)
    await turn()
    assert len(consumer.accepts) == 3
    assert not consumer.kernel.pending


async def test_accepting_comes_before_all_that_it_sets_off(consumer: Consumer) -> None:
    """The kernel keeps a few requests only: what comes while one is handed over does not wait for the others."""
    waiting: list[int] = []

    def look() -> None:
        waiting.append(len(consumer.kernel.pending))
        if len(waiting) <= 3:
            consumer.kernel.submit(REQUEST, ready=False)

    consumer.meanwhile = look
    for _ in range(3):
        consumer.kernel.submit(REQUEST, ready=False)
    consumer.attach()
    assert waiting == [0] * 6


async def test_accepting_comes_before_the_reading_of_readies(consumer: Consumer) -> None:
    consumer.attach()
    unread: list[int] = []
    consumer.meanwhile = lambda: unread.append(consumer.kernel.unread)
    for _ in range(3):
        consumer.kernel.submit(REQUEST)
    await turn()
    assert unread == [3] * 3
    assert not consumer.kernel.unread


async def test_a_request_whose_ready_is_read_too_early_is_accepted(consumer: Consumer) -> None:
    """It comes behind the last ACCEPT and before the READYs are read."""
    consumer.attach()
    consumer.kernel.late = REQUEST
    consumer.kernel.submit(REQUEST)
    await turn()
    assert len(consumer.accepts) == 2


async def test_leaving_loses_nothing_that_was_accepted(consumer: Consumer) -> None:
    consumer.attach()
    consumer.meanwhile = consumer.socket.leave
    for _ in range(2):
        consumer.kernel.submit(REQUEST, ready=False)
    consumer.kernel.submit(REQUEST)
    await turn()
    assert len(consumer.accepts) == 3
    for accept in consumer.accepts:
        assert consumer.socket.done(Done(status=0, sockfd=accept.sockfd))


async def test_lost_readies_are_made_up_for(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    consumer.attach()
    consumer.kernel.overrun = True
    consumer.kernel.submit(REQUEST)
    consumer.kernel.submit(REQUEST, ready=False)
    await turn()
    assert len(consumer.accepts) == 2
    assert not caplog.records


async def test_a_storm_leaves_the_event_loop_its_turn(consumer: Consumer) -> None:
    consumer.attach()
    for _ in range(3 * kernel_module.TURN):
        consumer.kernel.submit(REQUEST, ready=False)
    consumer.kernel.submit(REQUEST)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(consumer.accepts) <= kernel_module.TURN
    await turn()
    assert len(consumer.accepts) == 3 * kernel_module.TURN + 1


async def test_done_reaches_the_kernel_with_what_it_knows(consumer: Consumer) -> None:
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.attach()
    sockfd = consumer.accepts[0].sockfd
    done = Done(status=0, sockfd=sockfd, remote_auth=(0xFFFFFFFF,), alpn=b"h3", tags=("t",), peer_chain=(b"x",))
    assert consumer.socket.done(done)
    assert consumer.kernel.done == [Done(status=0, sockfd=sockfd, remote_auth=(0xFFFFFFFF,))]
    assert consumer.socket.done(done), "a second DONE is taken and does nothing"
    assert len(consumer.kernel.done) == 1


@pytest.mark.parametrize("done", [Done(sockfd=-1), Done(sockfd=1 << 40)])
async def test_a_done_that_fails_is_logged(consumer: Consumer, caplog: pytest.LogCaptureFixture, done: Done) -> None:
    consumer.attach()
    assert not consumer.socket.done(done)
    assert "DONE for sockfd" in caplog.text


@pytest.mark.parametrize(
    "wrong", [Done(status=5000), Done(status=-1), Done(status=1 << 40), Done(status=0, remote_auth=(-5,))]
)
async def test_a_done_that_can_not_be_said_is_a_failure(
    consumer: Consumer, caplog: pytest.LogCaptureFixture, wrong: Done
) -> None:
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.attach()
    sockfd = consumer.accepts[0].sockfd
    assert consumer.socket.done(replace(wrong, sockfd=sockfd))
    assert consumer.kernel.done == [Done(status=errno.EIO, sockfd=sockfd)]
    assert "can't be sent as it is" in caplog.text


async def test_the_kernels_words_are_in_the_log(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    consumer.attach()
    consumer.kernel.errors.append((errno.EINVAL, "Unknown attribute type"))
    assert not consumer.socket.done(Done(sockfd=1))
    assert "Invalid argument: Unknown attribute type" in caplog.text


async def test_a_malformed_request_is_ended_with_einval(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    before = descriptors()
    consumer.kernel.submit(REQUEST, malformed=struct.pack("=HH", 5, 4) + b"\0\0\0\0", ready=False)
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.attach()
    assert [done.status for done in consumer.kernel.done] == [errno.EINVAL]
    assert "TIMEOUT" in caplog.text
    assert len(consumer.accepts) == 1
    async with asyncio.timeout(5):
        while descriptors() != before + 3:  # the consumer's end of both, and the accepted socket
            await asyncio.sleep(0.001)


async def test_a_request_without_sockfd_is_logged(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    consumer.attach()
    consumer.kernel.pending.append(lambda sockfd: os.close(sockfd) or struct.pack("=HHI", 8, 3, 1))  # type: ignore[func-returns-value]
    consumer.kernel.submit(REQUEST)
    await turn()
    assert "SOCKFD: absent" in caplog.text
    assert len(consumer.accepts) == 1


async def test_a_request_that_is_not_taken_fails(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    consumer.attach()
    consumer.raises = RuntimeError("no worker")
    consumer.kernel.submit(REQUEST)
    await turn()
    assert [done.status for done in consumer.kernel.done] == [errno.EIO]
    assert "no worker" in caplog.text
    peer = consumer.kernel.peers[0]
    peer.setblocking(False)
    end = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 1), 5)
    assert end == b"", "the sockfd was closed"


async def test_an_error_of_accept_is_tried_again(
    consumer: Consumer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_module, "RETRY", 0.01)
    consumer.attach()
    consumer.kernel.errors.append((errno.EMFILE, ""))
    consumer.kernel.submit(REQUEST)
    await turn()
    assert not consumer.accepts
    assert "Too many open files" in caplog.text
    await asyncio.sleep(0.05)
    assert len(consumer.accepts) == 1


@pytest.mark.parametrize("error", [errno.ENOKEY, errno.EACCES, errno.ENOTDIR])
async def test_a_keyring_that_can_not_be_linked_delays_nobody(
    consumer: Consumer, caplog: pytest.LogCaptureFixture, error: int
) -> None:
    """The kernel has ended that request when it says so; the others wait behind it."""
    consumer.kernel.errors.extend([(error, ""), (error, "")])
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.attach()
    assert len(consumer.accepts) == 1
    assert caplog.text.count("KEYRING") == 2


async def test_an_error_for_ever_leaves_the_event_loop_its_turn(
    consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer.kernel.errors.extend([(errno.EACCES, "")] * (kernel_module.TURN + 1))
    consumer.attach()
    await turn()
    assert len(consumer.kernel.errors) == 1
    assert "trying again" in caplog.text


async def test_leaving_waits_for_what_was_accepted(consumer: Consumer) -> None:
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.kernel.submit(REQUEST, ready=False)
    consumer.attach()
    consumer.socket.leave()
    for accept in consumer.accepts:
        assert not consumer.kernel.closed
        assert consumer.socket.done(Done(status=0, sockfd=accept.sockfd))
    assert consumer.kernel.closed
    assert len(consumer.kernel.done) == 2


async def test_a_kernel_that_does_not_answer_is_no_eagain(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    consumer.kernel.silent = True
    consumer.attach()
    assert "gave no answer" in caplog.text


async def test_without_permission_the_start_fails(consumer: Consumer) -> None:
    consumer.kernel.errors.append((errno.EPERM, ""))
    with pytest.raises(PermissionError, match="CAP_NET_ADMIN"):
        consumer.attach()
    consumer.kernel.ready.close()


async def test_answers_to_earlier_requests_are_passed_over(consumer: Consumer) -> None:
    consumer.attach()
    consumer.kernel.error(0xDEAD, errno.EPERM)
    consumer.kernel.submit(REQUEST)
    await turn()
    assert len(consumer.accepts) == 1


async def test_after_close_done_says_no(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    consumer.attach()
    consumer.socket.close()
    consumer.socket.close()
    assert not consumer.socket.done(Done(sockfd=1))


def netlink_available() -> bool:
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16).close()
    except OSError:
        return False
    return True


needs_netlink = pytest.mark.skipif(not netlink_available(), reason="AF_NETLINK is not available here")


@needs_netlink
async def test_resolve_asks_the_real_kernel() -> None:
    family = await resolve_family("nlctrl")
    assert family.id == 16
    assert "notify" in family.groups


@needs_netlink
async def test_the_policy_is_dumped_by_the_real_kernel() -> None:
    policy = await dump_policy("nlctrl")
    # CTRL_CMD_GETFAMILY takes CTRL_ATTR_FAMILY_ID and CTRL_ATTR_FAMILY_NAME
    assert policy[3] == {1: PolicyType.U16, 2: PolicyType.NUL_STRING}


@needs_netlink
async def test_a_kernel_without_the_family_is_told_clearly() -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError, match="no generic netlink family 'no-such-family'"):
        await resolve_family("no-such-family")
    with pytest.raises(FileNotFoundError, match="no-such-family"):
        await dump_policy("no-such-family")
    assert descriptors() == before


@needs_netlink
async def test_open_works_or_says_why_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    opened = KernelHandshakeSocket(lambda accept: os.close(accept.sockfd))
    try:
        await opened.open()
    except FileNotFoundError as error:
        assert "handshake" in str(error)  # noqa: PT017  # a kernel with the family takes the other way
    except PermissionError as error:
        assert "CAP_NET_ADMIN" in str(error)  # noqa: PT017
    else:
        assert 3 in await opened.policy()
        opened.close()
