"""Exporters, RFC 8446 section 7.5."""

from __future__ import annotations

from hashlib import sha256, sha384

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from quic_tlshd.tls.iana import CipherSuite
from quic_tlshd.tls.key_schedule import Exporter, hkdf_expand_label
from tests.tls.playbook import Duel
from tests.tls.resuming import duel, first


@pytest.mark.parametrize("suite", [CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_256_GCM_SHA384])
def test_both_sides_export_the_same(suite: CipherSuite) -> None:
    done = Duel.of(choice={"cipher_suites": (suite,)}).run()
    ours, theirs = done.client.complete, done.server.complete
    assert ours is not None
    assert theirs is not None
    exported = {
        (label, context, length): ours.exporter.export(label, context, length)
        for label in (b"EXPORTER-Channel-Binding", b"EXPORTER-other")
        for context in (b"", b"context")
        for length in (16, 32, 48, 200)
    }
    assert all(len(value) == length for (_, _, length), value in exported.items())
    assert len({value[:16] for value in exported.values()}) == len(exported)
    for arguments, value in exported.items():
        assert theirs.exporter.export(*arguments) == value


def test_a_resumed_session_exports_something_else() -> None:
    before, after = duel().run(), duel(first()).run()
    assert before.client.complete is not None
    assert after.client.complete is not None
    assert after.server.complete is not None
    exports = [
        party.complete.exporter.export(b"EXPORTER-x", b"", 32)
        for party in (before.client, after.client, after.server)
        if party.complete is not None
    ]
    assert exports[0] != exports[1] == exports[2]


@pytest.mark.parametrize(("name", "algorithm"), [("sha256", hashes.SHA256()), ("sha384", hashes.SHA384())])
@pytest.mark.parametrize("length", [1, 32, 33, 48, 49, 500])
def test_long_expansions(name: str, algorithm: hashes.HashAlgorithm, length: int) -> None:
    """RFC 5869 section 2.3, done by another."""
    info = length.to_bytes(2, "big") + b"\x0atls13 test" + b"\x07context"
    secret = b"s" * algorithm.digest_size
    expected = HKDFExpand(algorithm, length, info).derive(secret)
    assert hkdf_expand_label(name, secret, b"test", b"context", length) == expected


def test_as_the_rfc_defines_it() -> None:
    secret = b"s" * 32
    derived = hkdf_expand_label("sha256", secret, b"label", sha256().digest(), 32)
    expected = hkdf_expand_label("sha256", derived, b"exporter", sha256(b"context").digest(), 40)
    assert Exporter("sha256", secret).export(b"label", b"context", 40) == expected


@pytest.mark.parametrize(("name", "digest"), [("sha256", sha256), ("sha384", sha384)])
def test_there_is_an_end(name: str, digest: type) -> None:
    longest = 255 * digest().digest_size
    exporter = Exporter(name, b"s" * 32)
    assert len(exporter.export(b"label", b"", longest)) == longest
    with pytest.raises(ValueError, match=str(longest + 1)):
        exporter.export(b"label", b"", longest + 1)


def test_the_secret_never_shows() -> None:
    done = Duel.of().run()
    assert done.client.complete is not None
    secret = done.client.complete.exporter.exporter_master_secret
    shown = repr(done.client.complete)
    assert secret.hex() not in shown
    assert repr(secret) not in shown
