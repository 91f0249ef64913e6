"""Certificate revocation lists: which are loaded, and what they do to a path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from quic_tlshd.policy.pem import FileError, load_crls
from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.trust import TrustStore
from quic_tlshd.tls.alert import AlertDescription, PeerError
from tests.peers.crafted import DAY, NOW, Crafted, Extension, craft, key_usage_of

ROOT = craft("root", ca=True)
MIDDLE = craft("middle", ROOT, ca=True)
GOOD, BAD = craft("a.example", MIDDLE), craft("a.example", MIDDLE)


def crl(
    issuer: Crafted,
    *revoked: Crafted,
    extensions: Iterable[Extension] = (),
    signer: Crafted | None = None,
    days: tuple[int, int | None] = (-1, 7),
) -> x509.CertificateRevocationList:
    """days: of thisUpdate and nextUpdate from now."""
    since, until = days
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW + since * DAY)
        .next_update(NOW + (until or 0) * DAY)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.build())
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    key = (signer or issuer).key
    return builder.sign(key, hashes.SHA256() if hasattr(key, "curve") else None)


def alert(crls: Iterable[x509.CertificateRevocationList], end: Crafted, *others: Crafted) -> AlertDescription | None:
    ders = tuple(each.public_bytes(Encoding.DER) for each in crls)
    trust = TrustStore(TrustAnchors("test", (ROOT.der,), ders))
    try:
        trust.verify_client((end.der, *[each.der for each in others or (MIDDLE,)]), NOW)
    except PeerError as error:
        return error.alert
    return None


REVOKED = AlertDescription.CERTIFICATE_REVOKED


def test_what_is_listed_is_revoked_and_nothing_else() -> None:
    assert alert([crl(MIDDLE, BAD)], BAD) is REVOKED
    assert alert([crl(MIDDLE, BAD)], GOOD) is None
    assert alert([crl(ROOT, MIDDLE)], GOOD) is REVOKED
    assert alert([crl(MIDDLE), crl(ROOT)], GOOD) is None


def test_without_a_list_for_its_issuer_a_certificate_is_not_checked() -> None:
    """As GnuTLS does it for tlshd."""
    assert alert([crl(ROOT)], BAD) is None
    assert alert([crl(craft("another", ca=True), BAD)], BAD) is None


def test_all_lists_of_an_issuer_count() -> None:
    old, new = crl(MIDDLE, BAD, days=(-9, -2)), crl(MIDDLE)
    for lists in ((old, new), (new, old)):
        assert alert(lists, BAD) is REVOKED
        assert alert(lists, GOOD) is None


@pytest.mark.parametrize("days", [(-9, -2), (2, 9)])
def test_a_list_out_of_date_counts_and_is_warned_of(days: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    assert alert([crl(MIDDLE, BAD, days=days)], BAD) is REVOKED
    assert alert([crl(MIDDLE, BAD, days=days)], GOOD) is None
    assert len(caplog.records) == 2  # for each of the two trust stores


def test_a_list_that_the_issuer_did_not_sign_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    assert alert([crl(MIDDLE, BAD, signer=ROOT)], BAD) is None
    assert alert([crl(MIDDLE, BAD, signer=craft("middle", ca=True))], BAD) is None
    assert len(caplog.records) == 2


def test_a_list_of_an_issuer_that_may_not_sign_lists_does_not_count() -> None:
    mute = craft("mute", ROOT, ca=True, extensions=[(key_usage_of(("key_cert_sign",)), True)])
    end = craft("a.example", mute)
    assert alert([crl(mute, end)], end, mute) is None


@pytest.mark.parametrize("key", ["rsa", "p384", "ed25519", "ed448"])
def test_keys_that_sign_lists(key: str) -> None:
    issuer = craft("issuer", ROOT, ca=True, key=key)
    end = craft("a.example", issuer)
    assert alert([crl(issuer, end)] if key != "rsa" else [_rsa_crl(issuer, end)], end, issuer) is REVOKED


def _rsa_crl(issuer: Crafted, revoked: Crafted) -> x509.CertificateRevocationList:
    entry = x509.RevokedCertificateBuilder().serial_number(revoked.certificate.serial_number).revocation_date(NOW)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - DAY)
        .next_update(NOW + DAY)
        .add_revoked_certificate(entry.build())
        .sign(issuer.key, hashes.SHA256())
    )


def test_several_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "all.crl"
    lists = [crl(MIDDLE, BAD), crl(ROOT)]
    path.write_bytes(b"some text\n" + b"".join(each.public_bytes(Encoding.PEM) for each in lists))
    assert list(load_crls(path)) == lists
    path.write_bytes(lists[0].public_bytes(Encoding.DER))
    assert list(load_crls(path)) == lists[:1]


def _distribution_point(**only: bool) -> x509.IssuingDistributionPoint:
    name = [x509.UniformResourceIdentifier("http://crl.example/1.crl")]
    bits = dict.fromkeys(
        ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs"), False
    )
    return x509.IssuingDistributionPoint(full_name=name, relative_name=None, only_some_reasons=None, **(bits | only))


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        (x509.DeltaCRLIndicator(7), "is a delta list"),
        (_distribution_point(indirect_crl=True), "is an indirect list"),
        (_distribution_point(only_contains_attribute_certs=True), "is for attribute certificates only"),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), "has a critical extension"),
    ],
)
def test_lists_whose_serial_numbers_are_not_all(tmp_path: Path, extension: x509.ExtensionType, reason: str) -> None:
    path = tmp_path / "a.crl"
    lists = [crl(ROOT), crl(MIDDLE, extensions=[(extension, True)])]
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in lists))
    with pytest.raises(FileError, match=f"revocation list 2 {reason}"):
        load_crls(path)


def test_a_list_for_a_part_counts_for_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "a.crl"
    path.write_bytes(crl(MIDDLE, BAD, extensions=[(_distribution_point(only_contains_user_certs=True), True)])
                     .public_bytes(Encoding.PEM))  # fmt: skip
    assert alert(load_crls(path), BAD) is REVOKED


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no revocation list"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "list 1 can't be parsed"),
        (ROOT.pem, "holds no revocation list"),
        (ROOT.der, "holds no revocation list"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.crl"
    path.write_bytes(content)
    with pytest.raises(FileError, match=reason):
        load_crls(path)
