"""Kernel modules that a handshake needs and a worker has no right to load."""

from __future__ import annotations

import logging

from quic_tlshd.endpoint.tcp_ktls import connection_with_tls, kernel_cipher_suites
from quic_tlshd.tls.iana import CipherSuite

log = logging.getLogger(__name__)


def load_tls() -> None:
    """Have the kernel load `tls` and its ciphers; say so if it can't. To be called with CAP_NET_ADMIN, once, before
    the first request: on first use the kernel loads the module by itself, for a process with that capability."""
    try:
        with connection_with_tls():
            pass
    except OSError as error:
        log.warning("this kernel has no TLS (%s), so requests on TCP sockets will fail", error.strerror or error)
        return
    suites = kernel_cipher_suites()
    missing = [suite.name for suite in CipherSuite if suites and suite not in suites]
    if missing:
        log.warning("the kernel's TLS does without %s", ", ".join(missing))
