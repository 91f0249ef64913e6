"""A small certificate authority for tests: keys, certificates, chains and revocation lists, made on the spot.

Certificates follow RFC 5280: an end certificate has subjectAltName, keyUsage, extendedKeyUsage and the key identifiers
unless a test asks for less.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = (
    ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
    | rsa.RSAPrivateKey
)

CURVES: dict[str, ec.EllipticCurve] = {
    "ec": ec.SECP256R1(),
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
    "p224": ec.SECP224R1(),
    "brainpool": ec.BrainpoolP256R1(),
}
MLDSA = {
    "mldsa44": mldsa.MLDSA44PrivateKey,
    "mldsa65": mldsa.MLDSA65PrivateKey,
    "mldsa87": mldsa.MLDSA87PrivateKey,
}
USAGES = {
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "both": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    "code": [ExtendedKeyUsageOID.CODE_SIGNING],
}


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """One key for each size and run: an RSA key takes long to make, and no test needs two."""
    return rsa.generate_private_key(65537, bits)


def generate_key(key_type: str) -> PrivateKey:
    """A private key: p256, p384, p521, ed25519, ed448, mldsa44, mldsa65, mldsa87, rsa (2048 bits), rsa1024, rsa3072,
    p224 or brainpool."""
    if key_type in CURVES:
        return ec.generate_private_key(CURVES[key_type])
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if key_type == "ed448":
        return ed448.Ed448PrivateKey.generate()
    if key_type in MLDSA:
        return MLDSA[key_type].generate()
    return rsa_key(int(key_type.removeprefix("rsa") or 2048))


def key_pem(key: PrivateKey) -> bytes:
    """PKCS #8, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def general_name(name: str) -> x509.GeneralName:
    """An iPAddress for a numeric address, a dNSName for everything else."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _hash(key: PrivateKey) -> hashes.SHA256 | None:
    return hashes.SHA256() if isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)) else None


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, ca: bool, rsa: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=rsa and not ca,  # which TLS 1.3 does not need and NSS wants of a server
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _span(not_before: datetime | None, not_after: datetime | None, days: int) -> tuple[datetime, datetime]:
    now = datetime.now(UTC).replace(microsecond=0)
    until = not_after or now + timedelta(days=days)
    return not_before or min(now, until) - timedelta(hours=1), until


@dataclass(frozen=True)
class Issued:
    """An end certificate with its key. intermediates: what stands between it and the root, nearest first. key_pem: the
    key where cryptography would write it as another than it is."""

    certificate: x509.Certificate
    private_key: PrivateKey
    intermediates: tuple[x509.Certificate, ...] = ()
    key_pem: bytes | None = None

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER, the end certificate first, the root left out."""
        return tuple(c.public_bytes(Encoding.DER) for c in (self.certificate, *self.intermediates))

    @property
    def pem(self) -> bytes:
        """The chain, the end certificate first."""
        return b"".join(c.public_bytes(Encoding.PEM) for c in (self.certificate, *self.intermediates))

    def write(self, directory: Path, stem: str) -> tuple[Path, Path]:
        """Write STEM.pem (the chain) and STEM.key (mode 0600); give both paths."""
        certificate, key = directory / f"{stem}.pem", directory / f"{stem}.key"
        certificate.write_bytes(self.pem)
        key.unlink(missing_ok=True)
        with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(self.key_pem or key_pem(self.private_key))
        key.chmod(0o600)
        return certificate, key


class Authority:
    """A certification authority: a root when `issuer` is None, else an intermediate of it."""

    def __init__(
        self,
        name: str,
        *,
        key: str = "ec",
        issuer: Authority | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> None:
        self.name = name
        self.issuer = issuer
        self.private_key = generate_key(key)
        signer = issuer.private_key if issuer else self.private_key
        since, until = _span(not_before, not_after, 3650)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(name))
            .issuer_name(_subject(issuer.name if issuer else name))
            .public_key(self.private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.private_key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        self.certificate = builder.sign(signer, _hash(signer))

    def intermediate(self, name: str, *, key: str = "ec", not_after: datetime | None = None) -> Authority:
        """A subordinate authority; what it issues carries its certificate in the chain."""
        return Authority(name, key=key, issuer=self, not_after=not_after)

    def issue(
        self,
        names: Iterable[str] = ("a.example", "127.0.0.1"),
        *,
        key_type: str = "p256",
        usage: str | None = "server",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        intermediate: bool = False,
        san: bool = True,
    ) -> Issued:
        """Issue an end certificate for `names` (DNS names and numeric addresses); 90 days if no date is given.

        usage: server, client, both, code, or None for no extendedKeyUsage. intermediate: through a fresh subordinate
        authority. san: False leaves subjectAltName out.
        """
        if intermediate:
            return self.intermediate(f"{self.name} intermediate").issue(
                names, key_type=key_type, usage=usage, not_before=not_before, not_after=not_after, san=san
            )
        names = tuple(names)
        private_key = generate_key(key_type)
        since, until = _span(not_before, not_after, 90)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(names[0] if names else "nobody"))
            .issuer_name(_subject(self.name))
            .public_key(private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False, rsa=isinstance(private_key, rsa.RSAPrivateKey)), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private_key.public_key()), critical=False
            )
        )
        if san and names:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(general_name, names)), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(USAGES[usage]), critical=False)
        return Issued(builder.sign(self.private_key, _hash(self.private_key)), private_key, self._above())

    def issue_pss(self, name: str) -> Issued:
        """Issue a server's certificate with an id-RSASSA-PSS key, which cryptography reads and openssl makes."""
        key = ["-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-noenc", "-keyout", "-"]
        with TemporaryDirectory() as directory:
            authority = Path(directory) / "ca.pem"
            authority.write_bytes(self.pem + key_pem(self.private_key))
            wish = ["-days", "90", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
            command = ["openssl", "req", "-x509", *key, "-CA", authority, "-CAkey", authority, *wish]
            command += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=digitalSignature"]
            made = subprocess.run(command, check=True, capture_output=True).stdout
        private_key = load_pem_private_key(made, None)
        assert isinstance(private_key, rsa.RSAPrivateKey)
        return Issued(x509.load_pem_x509_certificate(made), private_key, self._above(), made)

    def crl(self, *revoked: x509.Certificate, next_update: datetime | None = None) -> bytes:
        """A DER certificate revocation list of this authority, valid for a week."""
        now = datetime.now(UTC).replace(microsecond=0)
        until = next_update or now + timedelta(days=7)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_subject(self.name))
            .last_update(min(now, until) - timedelta(hours=1))
            .next_update(until)
        )
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.private_key, _hash(self.private_key)).public_bytes(Encoding.DER)

    @property
    def der(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, path: Path) -> Path:
        """Write the certificate as a trust store of one; give the path back."""
        path.write_bytes(self.pem)
        return path

    def _above(self) -> tuple[x509.Certificate, ...]:
        return () if self.issuer is None else (self.certificate, *self.issuer._above())


def self_signed(name: str, *, ca: bool = True, key_type: str = "p256") -> Issued:
    """What `openssl req -x509` makes: its own issuer, CA:TRUE, a subjectAltName and neither keyUsage nor EKU."""
    key = generate_key(key_type)
    since, until = _span(None, None, 90)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(_subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([general_name(name)]), critical=False)
    )
    return Issued(builder.sign(key, _hash(key)), key)


def self_signed_pss(name: str, hash_name: str = "") -> Issued:
    """An end certificate with an id-RSASSA-PSS key, which cryptography reads and openssl makes; for that hash alone."""
    key = ["-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-noenc", "-keyout", "-"]
    for option in ("rsa_pss_keygen_md", "rsa_pss_keygen_mgf1_md") if hash_name else ():
        key += ["-pkeyopt", f"{option}:{hash_name}"]
    certificate = ["-days", "90", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    made = subprocess.run(["openssl", "req", "-x509", *key, *certificate], check=True, capture_output=True).stdout
    private_key = load_pem_private_key(made, None)
    assert isinstance(private_key, rsa.RSAPrivateKey)
    return Issued(x509.load_pem_x509_certificate(made), private_key)
