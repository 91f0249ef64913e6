"""TCP sockets with the kernel's TLS: what there is to check of the hand-over to the kernel without a daemon."""

from __future__ import annotations

from tests.vm.guest import netns


def test_kernel_tls() -> None:
    netns.execute("python3", "-m", "tests.interop.kernel_tls")
