"""Chains and private keys from files: what fits together, and which key files are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, padding, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from quic_tlshd.policy.credentials import CredentialError, load_credential
from quic_tlshd.policy.shown import certificate_chain
from quic_tlshd.tls.iana import SignatureScheme as S
from tests.peers import pki

ROOT = pki.Authority("credential root")


@pytest.mark.parametrize(
    ("key_type", "schemes"),
    [
        ("p256", (S.ECDSA_SECP256R1_SHA256,)),
        ("p384", (S.ECDSA_SECP384R1_SHA384,)),
        ("p521", (S.ECDSA_SECP521R1_SHA512,)),
        ("ed25519", (S.ED25519,)),
        ("ed448", (S.ED448,)),
        ("mldsa44", (S.MLDSA44,)),
        ("mldsa65", (S.MLDSA65,)),
        ("mldsa87", (S.MLDSA87,)),
        ("rsa", (S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_RSAE_SHA512)),
    ],
)
def test_chain_and_key_load(tmp_path: Path, key_type: str, schemes: tuple[S, ...]) -> None:
    issued = ROOT.issue(key_type=key_type, intermediate=True)
    credential = load_credential(*issued.write(tmp_path, "a"))
    assert credential.chain.chain == issued.chain
    assert credential.chain.id == sha256(issued.chain[0]).hexdigest()
    assert credential.chain.schemes == schemes
    assert credential.private_key.public_key() == issued.certificate.public_key()
    assert (credential.warnings, credential.out_of_date) == ((), ())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed, which makes RSASSA-PSS keys")
def test_an_rsa_key_for_pss_alone(tmp_path: Path) -> None:
    credential = load_credential(*pki.self_signed_pss("a.example").write(tmp_path, "a"))
    assert credential.chain.schemes == (S.RSA_PSS_PSS_SHA256, S.RSA_PSS_PSS_SHA384, S.RSA_PSS_PSS_SHA512)


def test_what_peers_may_ask_of_a_chain(tmp_path: Path) -> None:
    issued = pki.Authority("rsa root", key="rsa").intermediate("ed25519 issuer", key="ed25519").issue()
    chain = load_credential(*issued.write(tmp_path, "a")).chain
    assert chain.signed_with == (S.ED25519, S.RSA_PKCS1_SHA256)
    assert chain.issuers == tuple(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]).public_bytes()
        for name in ("ed25519 issuer", "rsa root")
    )
    chain = load_credential(*pki.self_signed("a.example").write(tmp_path, "b")).chain
    assert chain.signed_with == ()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed, which still signs with SHA-1")
def test_a_chain_that_is_signed_with_sha_1(tmp_path: Path) -> None:
    """RFC 8446 section 4.4.2.2: no such chain is sent to a peer that did not ask for it, and none does."""
    ROOT.write(tmp_path / "ca.pem")
    (tmp_path / "ca.key").write_bytes(pki.key_pem(ROOT.private_key))
    request = ["req", "-newkey", "rsa:2048", "-noenc", "-keyout", "a.key", "-subj", "/CN=a.example", "-out", "a.csr"]
    signing = ["x509", "-req", "-sha1", "-in", "a.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "a.pem"]
    for command in (request, signing):
        subprocess.run(["openssl", *command], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "a.key").chmod(0o600)
    with pytest.raises(CredentialError, match=r"a\.pem: a signature in its chain is by MD5 or SHA-1"):
        load_credential(tmp_path / "a.pem", tmp_path / "a.key")


@pytest.mark.parametrize(
    ("digest", "pss", "scheme"),
    [
        (hashes.SHA256(), True, S.RSA_PSS_RSAE_SHA256),
        (hashes.SHA512(), True, S.RSA_PSS_RSAE_SHA512),
        (hashes.SHA224(), True, 0),
        (hashes.SHA384(), False, S.RSA_PKCS1_SHA384),
        (hashes.SHA224(), False, 0),
    ],
)
def test_what_an_rsa_issuer_signed_with(digest: hashes.HashAlgorithm, pss: bool, scheme: int) -> None:
    end, issuer = ROOT.issue().certificate, pki.generate_key("rsa")
    builder = x509.CertificateBuilder(
        end.issuer, end.subject, end.public_key(), 1, end.not_valid_before_utc, end.not_valid_after_utc
    )
    rsa_padding = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH) if pss else None
    signed = builder.sign(issuer, digest, rsa_padding=rsa_padding)  # type: ignore[arg-type]
    assert certificate_chain((signed,), signed.public_key()).signed_with == (scheme,)


def test_a_key_usage_that_forbids_to_sign(tmp_path: Path) -> None:
    """RFC 8446 section 4.4.2.2."""
    certificate, key = pki.Issued(ROOT.certificate, ROOT.private_key).write(tmp_path, "a")
    with pytest.raises(CredentialError, match=r"a\.pem: its keyUsage lacks digitalSignature"):
        load_credential(certificate, key)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_safe_modes(tmp_path: Path, mode: int) -> None:
    certificate, key = ROOT.issue().write(tmp_path, "a")
    key.chmod(mode)
    load_credential(certificate, key)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o620, 0o602, 0o700, 0o777, 0o440, 0o000, 0o4600])
def test_unsafe_modes(tmp_path: Path, mode: int) -> None:
    certificate, key = ROOT.issue().write(tmp_path, "a")
    key.chmod(mode)
    if not os.access(key, os.R_OK):
        pytest.skip("only root gets as far as the mode")
    with pytest.raises(CredentialError, match=f"has mode {mode:04o}") as caught:
        load_credential(certificate, key)
    assert caught.value.path == key


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_owner(tmp_path: Path) -> None:
    certificate, key = ROOT.issue().write(tmp_path, "a")
    os.chown(key, 12345, -1)
    with pytest.raises(CredentialError, match="owned by user 12345"):
        load_credential(certificate, key)


def test_links_are_followed_and_other_kinds_refused(tmp_path: Path) -> None:
    certificate, key = ROOT.issue().write(tmp_path, "a")
    (tmp_path / "link").symlink_to(key)
    load_credential(certificate, tmp_path / "link")
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(CredentialError, match="not a regular file"):
        load_credential(certificate, tmp_path / "fifo")
    with pytest.raises(CredentialError, match="No such file"):
        load_credential(certificate, tmp_path / "absent")


def test_order_is_mended_and_root_left_out(tmp_path: Path) -> None:
    issued = ROOT.intermediate("one").intermediate("two").issue()
    stranger = pki.Authority("stranger").intermediate("strange").issue()
    certificate, key = issued.write(tmp_path, "a")
    end, two, one = (issued.certificate, *issued.intermediates)

    def load(*members: object) -> object:
        certificate.write_bytes(b"".join(m.public_bytes(Encoding.PEM) for m in members))  # type: ignore[attr-defined]
        return load_credential(certificate, key)

    for members, warning in (
        ((end, two, one, ROOT.certificate), None),
        ((ROOT.certificate, one, two, end), "out of order"),
        ((end, two, one, stranger.certificate), "do not belong"),
    ):
        credential = load(*members)
        assert credential.chain.chain == issued.chain  # type: ignore[attr-defined]
        assert [warning in w for w in credential.warnings] == ([True] if warning else [])  # type: ignore[attr-defined]


def test_one_file_for_both(tmp_path: Path) -> None:
    issued = ROOT.issue(intermediate=True)
    path = tmp_path / "both.pem"
    path.write_bytes(issued.pem + pki.key_pem(issued.private_key))
    path.chmod(0o600)
    assert load_credential(path, path).chain.chain == issued.chain


def test_certificate_of_another_key(tmp_path: Path) -> None:
    certificate, _ = ROOT.issue().write(tmp_path, "a")
    _, key = ROOT.issue().write(tmp_path, "b")
    with pytest.raises(CredentialError, match=r"a\.pem: holds no certificate for the key in .*b\.key"):
        load_credential(certificate, key)


def test_dates_are_no_obstacle(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    paths = ROOT.issue(not_before=now - timedelta(days=2), not_after=now - timedelta(days=1)).write(tmp_path, "a")
    assert "expired on" in load_credential(*paths).out_of_date[0]
    assert "not valid before" in load_credential(*paths, now - timedelta(days=3)).out_of_date[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            pki.generate_key("p256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
            "encrypted",
        ),
        (b"nothing", "no PEM private key"),
        (b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "no PEM private key"),
        (pki.key_pem(pki.generate_key("rsa1024")), "has 1024 bits"),
        (pki.key_pem(pki.generate_key("p224")), "secp224r1"),
        *(
            (key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "not supported")
            for key in (dsa.generate_private_key(1024), x25519.X25519PrivateKey.generate())
        ),
    ],
)
def test_keys_that_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    certificate, key = ROOT.issue().write(tmp_path, "a")
    key.write_bytes(content)
    with pytest.raises(CredentialError, match=reason) as caught:
        load_credential(certificate, key)
    assert "c2Vj" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ROOT.der])
def test_certificates_that_are_refused(tmp_path: Path, content: bytes) -> None:
    certificate, key = ROOT.issue().write(tmp_path, "a")
    certificate.write_bytes(content)
    with pytest.raises(CredentialError, match="certificate") as caught:
        load_credential(certificate, key)
    assert caught.value.path == certificate


def test_representation_has_no_key(tmp_path: Path) -> None:
    assert "private" not in repr(load_credential(*ROOT.issue().write(tmp_path, "a"))).lower()
