"""What a peer's chain can make us do: search and verification have bounds that it can't stretch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from quic_tlshd.policy import certificates
from quic_tlshd.policy.paths import MAXIMUM_PATH, MAXIMUM_SIGNATURES
from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.trust import MAXIMUM_CERTIFICATES, TrustStore
from quic_tlshd.tls.alert import AlertDescription, PeerError
from tests.peers import pki
from tests.peers.crafted import NOW, Crafted, craft

ROOT = craft("root", ca=True)
KEY = pki.generate_key("p256")
BOUND = 0.25  # seconds of CPU for the worst chain; it takes some 40 ms


def refusal(*chain: Crafted, anchors: tuple[Crafted, ...] = (ROOT,)) -> PeerError:
    trust = TrustStore(TrustAnchors("test", tuple(anchor.der for anchor in anchors)))
    began = time.process_time()
    with pytest.raises(PeerError) as caught:
        trust.verify_server(tuple(member.der for member in chain), "a.example", NOW)
    assert time.process_time() - began < BOUND
    return caught.value


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[x509.Certificate, x509.Certificate]]]:
    """The pairs whose signatures the search has verified."""
    pairs = []

    def record(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        pairs.append((certificate, issuer))
        return certificates.is_issued_by(certificate, issuer)

    monkeypatch.setattr("quic_tlshd.policy.paths.is_issued_by", record)
    yield pairs
    assert len(pairs) == len(set(pairs)) <= MAXIMUM_SIGNATURES


Pairs = list[tuple[x509.Certificate, x509.Certificate]]


def test_a_path_without_forks_needs_no_search(verified: Pairs) -> None:
    middle = craft("middle", ROOT, ca=True)
    trust = TrustStore(TrustAnchors("test", (ROOT.der,)))
    trust.verify_server((craft("a.example", middle).der, middle.der), "a.example", NOW)
    assert verified == []


def test_a_stranger_costs_no_signature(verified: Pairs) -> None:
    above = craft("above", craft("stranger", ca=True), ca=True)
    error = refusal(craft("a.example", above), above)
    assert error.alert is AlertDescription.UNKNOWN_CA
    assert error.reason == "no trust anchor for 'CN=stranger', who issued 'CN=above'"
    assert verified == []


def test_one_issuers_certificates_are_not_tried_in_every_order(verified: Pairs) -> None:
    """Each of them is signed by the key that all of them have: a path could visit them in any of 13! orders."""
    same = [craft("X", ca=True, key=KEY) for _ in range(MAXIMUM_CERTIFICATES - 2)]
    decoy = craft("decoy", issuer_name="root", ca=True, key=KEY)
    error = refusal(craft("a.example", same[0]), *same, decoy)
    assert error.alert is AlertDescription.UNKNOWN_CA
    assert len(verified) == len(same)


@pytest.mark.usefixtures("verified")
@pytest.mark.parametrize("width", [2, 3, 5, 7])
@pytest.mark.parametrize("key_type", ["p256", "p384", "ed448"])  # P-384 takes longest of all
def test_paths_that_fork_at_each_step_are_not_all_tried(width: int, key_type: str) -> None:
    """Layers of issuers, where each has signed each below: as many paths as `width` to the power of the layers."""
    layers = [[ROOT]]
    for depth in range((MAXIMUM_CERTIFICATES - 1) // width):
        key = pki.generate_key(key_type)
        layers.append([craft(f"layer {depth}", layers[-1][0], ca=True, key=key, path_length=0) for _ in range(width)])
    chain = [craft("a.example", layers[-1][0]), *[member for layer in layers[1:] for member in layer]]
    error = refusal(*chain)
    assert error.alert in (AlertDescription.CERTIFICATE_UNKNOWN, AlertDescription.BAD_CERTIFICATE)


def test_ways_that_lead_nowhere_are_not_all_tried(verified: Pairs) -> None:
    """Seven issuers with one name and key, and seven that might have signed each of them, and have not."""
    signed = [craft("X", Crafted(ROOT.certificate, pki.generate_key("p256")), ca=True, key=KEY, issuer_name="Y")
              for _ in range(7)]  # fmt: skip
    above = [craft("Y", Crafted(ROOT.certificate, KEY), ca=True, issuer_name="root") for _ in range(7)]
    error = refusal(craft("a.example", signed[0]), *signed, *above)
    assert error.alert is AlertDescription.UNKNOWN_CA
    assert len(verified) == MAXIMUM_SIGNATURES


@pytest.mark.parametrize("roots", [MAXIMUM_SIGNATURES - 1, MAXIMUM_SIGNATURES, MAXIMUM_SIGNATURES + 1])
def test_many_roots_of_one_name(roots: int) -> None:
    anchors = [craft("root", ca=True) for _ in range(roots)]
    end = craft("a.example", anchors[-1], without=(x509.AuthorityKeyIdentifier,))
    if roots < MAXIMUM_SIGNATURES:
        trust = TrustStore(TrustAnchors("test", tuple(anchor.der for anchor in anchors)))
        trust.verify_server((end.der,), "a.example", NOW)
    else:
        error = refusal(end, anchors=tuple(anchors))
        assert error.alert is AlertDescription.BAD_CERTIFICATE
        assert "too many ways" in error.reason


@pytest.mark.parametrize("length", [MAXIMUM_PATH - 2, MAXIMUM_PATH - 1])
def test_a_path_has_an_end(length: int) -> None:
    chain: list[Crafted] = [ROOT]
    for depth in range(length):
        chain.insert(0, craft(f"level {depth}", chain[0], ca=True))
    end = craft("a.example", chain[0])
    if length == MAXIMUM_PATH - 2:
        trust = TrustStore(TrustAnchors("test", (ROOT.der,)))
        trust.verify_server(tuple(member.der for member in (end, *chain[:-1])), "a.example", NOW)
    else:
        error = refusal(end, *chain[:-1])
        assert error.alert is AlertDescription.UNKNOWN_CA
        assert f"within {MAXIMUM_PATH} certificates" in error.reason


@pytest.mark.parametrize("bits", [2048, 3072])
@pytest.mark.parametrize("where", ["end", "issuer"])
def test_a_long_rsa_exponent_is_not_used(bits: int, where: str, verified: Pairs) -> None:
    """With an exponent as long as the modulus a signature takes milliseconds to verify."""
    odd = rsa.RSAPublicNumbers((1 << (bits - 1)) - 1, pki.rsa_key(bits).public_key().public_numbers().n).public_key()
    subject = craft("issuer" if where == "issuer" else "a.example", ROOT, ca=where == "issuer", public_key=odd)
    chain = [subject] if where == "end" else [craft("a.example", issuer_name="issuer", key=KEY), subject]
    error = refusal(*chain)
    assert error.alert is AlertDescription.BAD_CERTIFICATE
    assert "exponent" in error.reason
    assert verified == []


@pytest.mark.parametrize("key", ["rsa1024", "brainpool", "p224"])
def test_others_certificates_with_odd_keys_are_no_obstacle(key: str) -> None:
    trust = TrustStore(TrustAnchors("test", (ROOT.der,)))
    odd = craft("somebody", ca=True, key=key)
    same_name = craft("root", ca=True, key=key)
    trust.verify_server((craft("a.example", ROOT).der, odd.der, same_name.der), "a.example", NOW)


def test_name_constraints_are_not_compared_with_all_the_names_that_there_is_room_for() -> None:
    names = tuple(x509.IPAddress(ip_address(number)) for number in range(4000))
    nets = [x509.IPAddress(ip_network((number << 8, 24))) for number in range(1 << 16, (1 << 16) + 2000)]
    bound = craft("bound", ROOT, ca=True, extensions=[(x509.NameConstraints(None, nets), True)])
    error = refusal(craft("somebody", bound, names=names), bound)
    assert error.alert is AlertDescription.BAD_CERTIFICATE
    assert "4000 names with 2000 name constraints are too many" in error.reason


def test_a_chain_full_of_names() -> None:
    """Parsing is what takes longest here: up to 100 KiB of the smallest things that there are."""
    attribute = x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "a")
    name = x509.Name([attribute] * 1800)
    end = craft(name, ROOT, issuer_name=name, names=("b.example",))
    assert refusal(end).alert is AlertDescription.UNKNOWN_CA
    end = craft("a.example", ROOT, names=[x509.DNSName("b")] * 25000)
    assert refusal(end).alert is AlertDescription.BAD_CERTIFICATE
