"""Verification of chains: what is trusted, and the alert for everything that isn't."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quic_tlshd.policy.pem import load_bundle
from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.trust import MAXIMUM_CERTIFICATES, REMEMBERED, REMEMBERED_CHAIN, TrustStore
from quic_tlshd.tls.alert import AlertDescription, PeerError
from tests.peers import pki
from tests.peers.crafted import Crafted, craft

NOW = datetime.now(UTC)
STANDARD = (x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
ROOT = pki.Authority("test root")


def store(*anchors: bytes, crls: tuple[bytes, ...] = ()) -> TrustStore:
    return TrustStore(TrustAnchors("test", anchors or (ROOT.der,), crls))


def refusal(
    trust: TrustStore, chain: tuple[bytes, ...], name: str | None = "a.example", now: datetime = NOW
) -> PeerError:
    with pytest.raises(PeerError) as caught:
        trust.verify_client(chain, now) if name is None else trust.verify_server(chain, name, now)
    return caught.value


@pytest.mark.parametrize("key_type", ["p256", "p384", "p521", "ed25519", "rsa"])
@pytest.mark.parametrize("intermediate", [False, True])
def test_server_chain_verifies(key_type: str, intermediate: bool) -> None:
    issued = ROOT.issue(key_type=key_type, intermediate=intermediate)
    assert store().verify_server(issued.chain, "a.example", NOW) == issued.private_key.public_key()


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (("a.example",), "A.Example"),
        (("a.example",), "a.example."),
        (("*.example",), "b.example"),
        (("127.0.0.1",), "127.0.0.1"),
        (("fe80::1",), "fe80::1%eth0"),
        (("localhost",), "localhost"),
    ],
)
def test_names_that_fit(names: tuple[str, ...], name: str) -> None:
    store().verify_server(ROOT.issue(names).chain, name, NOW)


@pytest.mark.parametrize(
    "name", ["b.example", "a.a.example", "127.0.0.2", "::1", "a_b.example", "", "bücher.example", "*"]
)
def test_name_that_does_not_fit(name: str) -> None:
    error = refusal(store(), ROOT.issue().chain, name)
    assert error.alert is AlertDescription.BAD_CERTIFICATE
    assert repr(name) in error.reason


def test_refusal_names_what_the_certificate_is_for() -> None:
    assert (
        "is for 'a.example', '127.0.0.1', not for 'b.example'"
        in refusal(store(), ROOT.issue().chain, "b.example").reason
    )


def test_server_needs_a_subject_alternative_name() -> None:
    error = refusal(store(), ROOT.issue(san=False).chain)
    assert error.alert is AlertDescription.BAD_CERTIFICATE
    assert "no subjectAltName" in error.reason


def test_client_needs_no_name() -> None:
    issued = ROOT.issue(usage="client", san=False)
    assert store().verify_client(issued.chain, NOW) == issued.private_key.public_key()


@pytest.mark.parametrize("usage", ["server", "client", "both", None, "code"])
def test_usage(usage: str | None) -> None:
    chain = ROOT.issue(usage=usage).chain
    for name, role in (("a.example", "server"), (None, "client")):
        if usage in (role, "both", None):
            store().verify_server(chain, name, NOW) if name else store().verify_client(chain, NOW)
        else:
            error = refusal(store(), chain, name)
            assert error.alert is AlertDescription.UNSUPPORTED_CERTIFICATE
            assert "extendedKeyUsage" in error.reason


@pytest.mark.parametrize("ca", [True, False])
@pytest.mark.parametrize("key_type", ["p256", "ed25519", "rsa"])
def test_self_signed_certificate_in_the_store_is_trusted(ca: bool, key_type: str) -> None:
    issued = pki.self_signed("a.example", ca=ca, key_type=key_type)
    trust = store(issued.chain[0])
    trust.verify_server(issued.chain, "a.example", NOW)
    trust.verify_client(issued.chain, NOW)
    assert refusal(store(), issued.chain).alert is AlertDescription.UNKNOWN_CA


def test_intermediate_and_end_certificate_as_trust_anchor() -> None:
    issued = ROOT.issue(intermediate=True)
    store(issued.chain[1]).verify_server(issued.chain[:1], "a.example", NOW)
    store(issued.chain[0]).verify_server(issued.chain[:1], "a.example", NOW)


def test_no_path_to_a_trust_anchor() -> None:
    chain = ROOT.issue(intermediate=True).chain
    for trust, shown in (
        (store(pki.Authority("other").der), chain),
        (store(pki.Authority("test root").der), chain),  # the same name, another key
        (store(), chain[:1]),
        (TrustStore(TrustAnchors("empty")), chain),
    ):
        assert refusal(trust, shown).alert is AlertDescription.UNKNOWN_CA
    assert "test root intermediate" in refusal(store(), chain[:1]).reason


def test_a_certificate_that_is_no_authority_can_not_issue() -> None:
    end = ROOT.issue()
    forger = pki.Authority("a.example", issuer=ROOT)
    forger.private_key, forger.certificate = end.private_key, end.certificate
    error = refusal(store(), forger.issue(("victim.example",)).chain, "victim.example")
    assert error.alert in (AlertDescription.CERTIFICATE_UNKNOWN, AlertDescription.UNKNOWN_CA)


def test_broken_signature() -> None:
    chain = ROOT.issue().chain
    error = refusal(store(), (chain[0][:-1] + bytes([chain[0][-1] ^ 1]),))
    assert error.alert is AlertDescription.BAD_CERTIFICATE
    assert "signature" in error.reason


@pytest.mark.parametrize("which", ["end", "intermediate", "root"])
def test_expired_anywhere_in_the_path(which: str) -> None:
    past = NOW - timedelta(minutes=5)
    root = pki.Authority("old root", not_after=past) if which == "root" else ROOT
    above = root.intermediate("old", not_after=past if which == "intermediate" else None)
    chain = above.issue(not_after=past if which == "end" else None).chain
    for name in ("a.example", None):
        issued = chain if name else above.issue(usage="client", not_after=past if which == "end" else None).chain
        error = refusal(store(root.der), issued, name)
        assert error.alert is AlertDescription.CERTIFICATE_EXPIRED
        assert "expired on" in error.reason


def test_not_yet_valid() -> None:
    error = refusal(store(), ROOT.issue(not_before=NOW + timedelta(hours=2)).chain)
    assert error.alert is AlertDescription.CERTIFICATE_EXPIRED
    assert "not valid before" in error.reason


@pytest.mark.parametrize(
    ("key_type", "alert"),
    [
        ("rsa1024", AlertDescription.BAD_CERTIFICATE),
        ("p224", AlertDescription.UNSUPPORTED_CERTIFICATE),
        ("brainpool", AlertDescription.UNSUPPORTED_CERTIFICATE),
    ],
)
def test_unfit_keys(key_type: str, alert: AlertDescription) -> None:
    assert refusal(store(), ROOT.issue(key_type=key_type).chain).alert is alert


def test_issuer_with_an_unsupported_key() -> None:
    root = pki.Authority("odd", key="brainpool")
    error = refusal(store(root.der), root.issue().chain)
    assert error.alert is AlertDescription.UNSUPPORTED_CERTIFICATE
    assert "odd" in error.reason


def test_unknown_critical_extension() -> None:
    key = pki.generate_key("p256")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ROOT.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=True)
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), critical=True)
        .sign(ROOT.private_key, hashes.SHA256())
    )
    chain = pki.Issued(certificate, key).chain
    assert refusal(store(), chain).alert is AlertDescription.CERTIFICATE_UNKNOWN


@pytest.mark.parametrize("chain", [(), (b"",), (b"\x30\x03\x02\x01\x01",), (b"not DER",)])
def test_unparsable(chain: tuple[bytes, ...]) -> None:
    assert refusal(store(), chain).alert is AlertDescription.BAD_CERTIFICATE


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        ("2.5.29.30", "30 0a a0 08 30 06 87 04 c0 00 02 01"),  # nameConstraints: an address without its mask
        ("2.5.29.30", "30 00"),
        ("2.5.29.30", "30 0a a0 08 30 06 82 04 2a 2e 61 62"),  # a wildcard
        ("2.5.29.17", "30 05 87 03 c0 00 02"),  # subjectAltName: an address of three bytes
        ("2.5.29.17", "30 02 a3 00"),  # an x400Address
        ("2.5.29.17", "30 05 82 03 ff fe fd"),  # no ASCII
        ("2.5.29.19", "30 03 01 01 01"),  # basicConstraints: a boolean that is neither
        ("2.5.29.37", "30 00"),
        ("1.3.6.1.5.5.7.1.24", "30 03 02 01 7f"),  # tlsFeature: one that nobody knows
    ],
)
def test_extensions_that_can_not_be_parsed(oid: str, value: str, tmp_path: Path) -> None:
    """They are refused in a peer's chain, and in a trust store their certificate is left out."""
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), bytes.fromhex(value))
    odd = craft("odd", ca=None, key_usage=None, extensions=[(extension, False)], without=STANDARD)
    for chain in ((odd.der,), (*ROOT.issue().chain, odd.der)):
        error = refusal(store(), chain)
        assert error.alert is AlertDescription.BAD_CERTIFICATE
        assert "parsed" in error.reason
    (tmp_path / "store.pem").write_bytes(odd.pem + ROOT.pem)
    bundle = load_bundle(tmp_path / "store.pem")
    assert bundle.certificates == (ROOT.certificate,)
    assert "certificate 1 can't be parsed" in bundle.skipped[0]


def test_bounds_of_a_chain() -> None:
    chain = ROOT.issue().chain
    store().verify_server(chain * MAXIMUM_CERTIFICATES, "a.example", NOW)
    for long in (chain * (MAXIMUM_CERTIFICATES + 1), (*chain, bytes(100 * 1024))):
        assert refusal(store(), long).alert is AlertDescription.BAD_CERTIFICATE


def test_revoked_end_certificate_and_intermediate() -> None:
    middle = ROOT.intermediate("middle")
    revoked, good = middle.issue(), middle.issue()
    trust = store(crls=(middle.crl(revoked.certificate), ROOT.crl()))
    error = refusal(trust, revoked.chain)
    assert error.alert is AlertDescription.CERTIFICATE_REVOKED
    assert f"{revoked.certificate.serial_number:x}" in error.reason
    trust.verify_server(good.chain, "a.example", NOW)
    assert (
        refusal(store(crls=(ROOT.crl(middle.certificate),)), good.chain).alert is AlertDescription.CERTIFICATE_REVOKED
    )


def test_revocation_list_of_another_issuer_of_that_name_counts_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    issued = ROOT.issue()
    impostor = pki.Authority("test root")
    store(crls=(impostor.crl(issued.certificate),)).verify_server(issued.chain, "a.example", NOW)
    assert "is not signed by" in caplog.text


def test_expired_revocation_list_still_counts_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    revoked = ROOT.issue()
    trust = store(crls=(ROOT.crl(revoked.certificate, next_update=NOW - timedelta(days=1)),))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert refusal(trust, revoked.chain).alert is AlertDescription.CERTIFICATE_REVOKED
    assert len(caplog.records) == 1


def test_remembered_path_is_bound_to_name_role_and_dates() -> None:
    issued = ROOT.issue(usage="both", not_after=NOW + timedelta(hours=1))
    trust = store()
    assert trust.verify_server(issued.chain, "a.example", NOW) is trust.verify_server(issued.chain, "a.example", NOW)
    assert refusal(trust, issued.chain, "b.example").alert is AlertDescription.BAD_CERTIFICATE
    for now in (NOW + timedelta(hours=2), NOW - timedelta(days=1)):
        assert refusal(trust, issued.chain, now=now).alert is AlertDescription.CERTIFICATE_EXPIRED
    assert refusal(trust, ROOT.issue(usage="client").chain).alert is AlertDescription.UNSUPPORTED_CERTIFICATE


def test_what_is_remembered_has_bounds() -> None:
    trust, issued = store(), ROOT.issue()
    first = trust.verify_server(issued.chain, "a.example", NOW)
    long = (*issued.chain, *[craft("x" * 60, ca=True, names=["y" * 63] * 60).der for _ in range(4)])
    assert sum(map(len, long)) > REMEMBERED_CHAIN
    assert trust.verify_server(long, "a.example", NOW) is not trust.verify_server(long, "a.example", NOW)
    for number in range(REMEMBERED):
        trust.verify_server((*issued.chain, craft(f"{number}", ca=True, key=KEY).der), "a.example", NOW)
    assert trust.verify_server(issued.chain, "a.example", NOW) is not first


FUZZED = ROOT.issue(("a.example", "127.0.0.1"), intermediate=True).chain
FUZZED_STORE = store()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    which=st.integers(0, 1),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.none() | st.integers(0, 2000),
    name=st.sampled_from(["a.example", "127.0.0.1", None]),
)
def test_whatever_a_peer_sends_verifies_or_is_a_peer_error(
    which: int, edits: list[tuple[int, int]], cut: int | None, name: str | None
) -> None:
    chain = [bytearray(member) for member in FUZZED]
    for position, value in edits:
        chain[which][position % len(chain[which])] = value
    if cut is not None:
        del chain[which][cut % len(chain[which]) :]
    sent = tuple(map(bytes, chain))
    try:
        FUZZED_STORE.verify_client(sent, NOW) if name is None else FUZZED_STORE.verify_server(sent, name, NOW)
    except PeerError:
        return
    assert sent[0] == FUZZED[0]


@given(st.text(max_size=40))
def test_any_name_is_answered(name: str) -> None:
    assert refusal(FUZZED_STORE, FUZZED, name).alert is AlertDescription.BAD_CERTIFICATE


def crafted(
    subject: str,
    issuer: str,
    key: pki.PrivateKey,
    signer: pki.PrivateKey,
    *extensions: x509.ExtensionType,
    ca: bool = True,
) -> bytes:
    """A certificate as no authority would issue one."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text, _validate=False)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)


KEY = pki.generate_key("p256")


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_a_reason_is_short_whatever_names_are_in_a_certificate() -> None:
    bad = "\x01" * 40000
    anchor = crafted(bad, bad, KEY, KEY)
    names = x509.SubjectAlternativeName([x509.DNSName("a" * 9000)])
    wrong_usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.2.3.4")])
    past = crafted(bad, bad, KEY, KEY, ca=False)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_der_x509_certificate(anchor).subject)
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
        .add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(x509.load_der_x509_certificate(past).serial_number)
            .revocation_date(NOW)
            .build()
        )
        .sign(KEY, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    for trust, chain, name, now in (
        (store(), (past,), "a.example", NOW),
        (store(anchor), (past,), None, NOW + timedelta(days=2)),
        (store(anchor), (past,), None, NOW - timedelta(days=2)),
        (store(anchor), (crafted("a", bad, KEY, KEY, names, ca=False),), "b.example", NOW),
        (store(anchor), (crafted(bad, bad, KEY, KEY, wrong_usage, ca=False),), None, NOW),
        (store(anchor), (crafted(bad, bad, KEY, pki.generate_key("p256"), ca=False),), None, NOW),
        (store(anchor, crls=(crl,)), (past,), None, NOW),
    ):
        error = refusal(trust, chain, name, now)
        assert len(error.reason) < 400
        assert "…" in error.reason
        assert error.reason.isprintable()


def test_long_chains_of_real_life_fit() -> None:
    authority = ROOT
    for depth in range(4):
        authority = authority.intermediate(f"level {depth}")
    chain = authority.issue().chain
    assert len(chain) == 5
    store().verify_server(chain, "a.example", NOW)
    assert refusal(store(), chain * 4).alert is AlertDescription.BAD_CERTIFICATE


def test_a_name_constraint_binds_the_names_that_a_client_certificate_has() -> None:
    constraint = x509.NameConstraints([x509.DNSName("b.example")], None)
    above = crafted("test root 2", "test root", KEY, ROOT.private_key, constraint)
    root = crafted("test root", "test root", ROOT.private_key, ROOT.private_key)
    names = x509.SubjectAlternativeName([x509.DNSName("a.example")])
    outside = crafted("a.example", "test root 2", KEY, KEY, names, ca=False)
    assert refusal(store(root), (outside, above), None).alert is AlertDescription.CERTIFICATE_UNKNOWN
    store(root).verify_client((crafted("a.example", "test root 2", KEY, KEY, ca=False), above), NOW)


def test_a_dead_end_does_not_hide_another_way() -> None:
    """A cross-signed issuer: one of its two certificates leads to an authority that is not ours."""
    stranger = pki.generate_key("p256")
    ours = crafted("ours", "ours", KEY, KEY)
    middle = pki.generate_key("p256")
    theirs, cross = crafted("M", "theirs", middle, stranger), crafted("M", "ours", middle, KEY)
    names = x509.SubjectAlternativeName([x509.DNSName("a.example")])
    end = crafted("end", "M", KEY, middle, names, ca=False)
    for chain in ((end, theirs, cross), (end, cross, theirs)):
        store(ours).verify_server(chain, "a.example", NOW)
        assert "is for 'a.example', not for 'b.example'" in refusal(store(ours), chain, "b.example").reason


def test_an_authority_with_a_key_for_pss_alone() -> None:
    root = pki.self_signed_pss("root")
    issuer = Crafted(root.certificate, root.private_key)
    trust, now = store(*root.chain), datetime.now(UTC)
    trust.verify_server((craft("a.example", issuer, pss=True).der,), "a.example", now)
    error = refusal(trust, (craft("b.example", issuer, pss=True).der,), now=now)
    assert error.alert is AlertDescription.BAD_CERTIFICATE
