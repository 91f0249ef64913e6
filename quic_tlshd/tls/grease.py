"""GREASE, RFC 8701: code points that mean nothing, so that servers stay used to ignoring what they don't know.

Not among the ALPN names: those are what the kernel and registries route by.
"""

from __future__ import annotations

from collections.abc import Callable

from quic_tlshd.tls.codec import vector8, vector16
from quic_tlshd.tls.extensions import GREASE, Extensions
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.messages import ClientHello

_ENCODED = [value.to_bytes(2, "big") for value in GREASE]
_MODES = tuple(range(0x0B, 0x100, 0x1F))


def with_grease(hello: ClientHello, random: Callable[[int], bytes]) -> ClientHello:
    """The hello with a random value in front of each list, and an extension that says nothing.

    A second ClientHello repeats these, as all that a HelloRetryRequest does not ask to change; only the share goes.
    """
    drawn = random(24)
    suite, version, group, scheme, kind = [byte & 0xF for byte in drawn[:5]]
    extensions: Extensions = {GREASE[kind]: drawn[8 : 8 + drawn[5] % 16], **hello.extensions}
    extensions[X.SUPPORTED_VERSIONS] = vector8(_ENCODED[version] + extensions[X.SUPPORTED_VERSIONS][1:])
    extensions[X.SUPPORTED_GROUPS] = vector16(_ENCODED[group] + extensions[X.SUPPORTED_GROUPS][2:])
    meaningless_share = _ENCODED[group] + vector16(drawn[7:8])
    extensions[X.KEY_SHARE] = vector16(meaningless_share + extensions[X.KEY_SHARE][2:])
    if X.SIGNATURE_ALGORITHMS in extensions:
        extensions[X.SIGNATURE_ALGORITHMS] = vector16(_ENCODED[scheme] + extensions[X.SIGNATURE_ALGORITHMS][2:])
    if X.PSK_KEY_EXCHANGE_MODES in extensions:
        modes = extensions[X.PSK_KEY_EXCHANGE_MODES][1:]
        extensions[X.PSK_KEY_EXCHANGE_MODES] = vector8(bytes((_MODES[drawn[6] % len(_MODES)],)) + modes)
    return ClientHello(hello.random, hello.legacy_session_id, (GREASE[suite], *hello.cipher_suites), extensions)
