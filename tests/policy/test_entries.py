"""Entries from files, and the registry that they make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from quic_tlshd.policy import anchors, config
from quic_tlshd.policy.config import ConfigError
from quic_tlshd.policy.entries import Loaded, load
from quic_tlshd.policy.registry import Entry, Registry, RegistryError, TrustAnchors
from quic_tlshd.policy.shown import certificate_chain
from quic_tlshd.request import Role
from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.compression import COMPRESSION_ALGORITHMS
from quic_tlshd.tls.iana import CertificateCompressionAlgorithm, CipherSuite, NamedGroup
from quic_tlshd.tls.parameters import ClientCertificate
from tests.peers import pki

CONF = Path(__file__).parents[2] / "conf"
ROOT = pki.Authority("entries root")
ISSUED = ROOT.issue(("www.example.org",), intermediate=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder with a.pem, a.key and ca.pem in its registry.d, and a system store of one."""
    registry = tmp_path / "registry.d"
    registry.mkdir()
    ISSUED.write(registry, "a")
    ROOT.write(registry / "ca.pem")
    monkeypatch.setattr(anchors, "SYSTEM_STORES", (ROOT.write(tmp_path / "system.pem"),))
    (tmp_path / "config").write_text("")
    return tmp_path


def loaded(folder: Path, text: str | None = None, main: str | None = None) -> Loaded:
    if text is not None:
        (folder / "registry.d" / "t.conf").write_text(text)
    if main is not None:
        (folder / "config").write_text(main)
    return load(config.load(folder / "config"))


def test_entry_with_everything(folder: Path) -> None:
    result = loaded(
        folder,
        "# comment\n[entry h3]\nrole=server\nalpn=h3;h3-29;\nserver_name=WWW.example.org;*.b.example\n"
        "certificate=a.pem\nprivate_key=a.key\ntruststore=ca.pem\nclient_certificate=require\n"
        "mismatch_alert=no_application_protocol\ncipher_suites=TLS_AES_256_GCM_SHA384\ngroups=x25519;secp256r1\n"
        "compress_certificate=zlib\ntickets=3\nticket_lifetime=604800\nearly_data=16384\n",
    )
    entry = result.registry.entry("h3")
    ca = str(folder / "registry.d" / "ca.pem")
    shown = certificate_chain((ISSUED.certificate, *ISSUED.intermediates), ISSUED.certificate.public_key())
    assert entry == Entry(
        name="h3",
        role=Role.SERVER,
        source=f"{folder}/registry.d/t.conf:2",
        alpn=(b"h3", b"h3-29"),
        server_name=("www.example.org", "*.b.example"),
        certificates=(shown,),
        trust=ca,
        client_certificate=ClientCertificate.REQUIRE,
        mismatch_alert=AlertDescription.NO_APPLICATION_PROTOCOL,
        cipher_suites=(CipherSuite.TLS_AES_256_GCM_SHA384,),
        groups=(NamedGroup.X25519, NamedGroup.SECP256R1),
        compress_certificate=(CertificateCompressionAlgorithm.ZLIB,),
        tickets=3,
        ticket_lifetime=604800,
        early_data=16384,
    )
    assert result.registry.trust[ca].certificates == (ROOT.der,)
    assert entry is not None
    assert list(result.credentials) == [entry.certificates[0].id]


def test_registry_crosses_as_msgpack_without_keys(folder: Path) -> None:
    result = loaded(folder, "[entry a]\ncertificate=a.pem\nprivate_key=a.key\n")
    data = msgspec.msgpack.encode(result.registry)
    assert msgspec.msgpack.decode(data, type=Registry) == result.registry
    key = ISSUED.private_key
    number = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    for secret in (number, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), b"PRIVATE"):
        assert secret not in data
    assert "PRIVATE" not in repr(result).upper().replace("PRIVATE_KEY", "")


def test_tlshd_sections_are_entries(folder: Path) -> None:
    main = "[authenticate.server]\nx509.certificate=registry.d/a.pem\nx509.private_key=registry.d/a.key\n"
    server, client = loaded(folder, main=main).registry.entries
    assert (server.name, server.alpn, server.server_name) == ("authenticate.server", (), ())
    assert (server.client_certificate, server.trust) == (ClientCertificate.NONE, "")
    assert (client.name, client.role, client.trust) == ("authenticate.client", Role.CLIENT, "system")
    server, client = loaded(folder, main=main + "x509.truststore=registry.d/ca.pem\n").registry.entries
    assert server.client_certificate is ClientCertificate.REQUEST
    assert server.source == f"{folder}/config:1"
    assert [entry.name for entry in loaded(folder, main="").registry.entries] == ["authenticate.client"]


def test_compression_is_on_unless_said_otherwise(folder: Path) -> None:
    for line, algorithms in (("", COMPRESSION_ALGORITHMS), ("compress_certificate=none\n", ())):
        entry = loaded(folder, f"[entry a]\nrole=client\nalpn=h3\n{line}").registry.entry("a")
        assert entry is not None
        assert entry.compress_certificate == algorithms


def test_tlshd_s_post_quantum_certificates_come_first(folder: Path) -> None:
    """The classic one beside them is for peers that can't verify them."""
    ROOT.issue(key_type="mldsa65").write(folder, "pq")
    classic = "x509.certificate=registry.d/a.pem\nx509.private_key=registry.d/a.key\n"
    both = f"x509.pq.certificate=pq.pem\nx509.pq.private_key=pq.key\n{classic}"
    result = loaded(folder, main=f"[authenticate.server]\n{both}[authenticate.client]\n{both}")
    for entry in result.registry.entries:
        assert [chain.schemes[0].name for chain in entry.certificates] == ["MLDSA65", "ECDSA_SECP256R1_SHA256"]
    assert len(result.credentials) == 2


def test_a_post_quantum_certificate_alone(folder: Path) -> None:
    ROOT.issue(key_type="mldsa44").write(folder, "pq")
    result = loaded(folder, main="[authenticate.server]\nx509.pq.certificate=pq.pem\nx509.pq.private_key=pq.key\n")
    entry = result.registry.entry("authenticate.server")
    assert entry is not None
    assert [chain.schemes[0].name for chain in entry.certificates] == ["MLDSA44"]


def test_several_certificates_and_several_files(folder: Path) -> None:
    other = ROOT.issue(key_type="rsa")
    other.write(folder / "registry.d", "b")
    (folder / "registry.d" / "ignored.txt").write_text("nonsense")
    (folder / "registry.d" / "s.conf").write_text("[entry first]\nalpn=x\ncertificate=b.pem\nprivate_key=b.key\n")
    result = loaded(folder, "[entry two]\ncertificate=a.pem;b.pem\nprivate_key=a.key;b.key\n")
    assert [entry.name for entry in result.registry.entries] == ["first", "two", "authenticate.client"]
    assert [c.chain for c in result.registry.entries[1].certificates] == [ISSUED.chain, other.chain]
    assert len(result.credentials) == 2


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[entry a]\ncertificate=a.pem\nprivate_key=a.key\nalnp=h3\n", 4, "has no key 'alnp'"),
        ("[entry a]\nrole=client\nmismatch_alert=unrecognized_name\n", 3, "has no key 'mismatch_alert'"),
        ("[entry a]\nrole=both\n", 2, "not one of client, server"),
        ("\n[entry a]\nalpn=h3\n", 2, "needs a certificate"),
        ("[entry]\n", 1, "is not [entry NAME]"),
        ("[entry a b]\n", 1, "is not [entry NAME]"),
        ("[debug]\nloglevel=1\n", 1, "is not [entry NAME]"),
        ("[entry a]\ncertificate=absent.pem\nprivate_key=a.key\n", 2, "absent.pem: No such file"),
        ("[entry a]\ncertificate=a.pem\nprivate_key=absent.key\n", 3, "absent.key: No such file"),
        ("[entry a]\ncertificate=a.pem\nprivate_key=a.key;a.key\n", 3, "2 members, certificate has 1"),
        ("[entry a]\ncertificate=a.pem\n", 2, "a.pem: has mode 0644"),
        ("[entry a]\nrole=client\ntruststore=absent.pem\n", 3, "absent.pem: No such file"),
        ("[entry a]\nrole=client\ntruststore=a.key\n", 3, "holds no PEM certificate"),
        ("[entry a]\nrole=client\ncrl=ca.pem\n", 3, "holds no revocation list"),
        ("[entry a]\ncertificate=a.pem\nprivate_key=a.key\ntruststore=ca.pem\n", 4, "has no use without"),
        ("[entry a]\ncertificate=a.pem\nprivate_key=a.key\nclient_certificate=yes\n", 4, "none, request, require"),
        ("[entry a]\nrole=client\nalpn=h3,smb\n", 3, "printable ASCII"),
        ("[entry a]\nrole=client\nalpn=ä\n", 3, "printable ASCII"),
        ("[entry a]\nrole=client\nserver_name=bücher.example\n", 3, "A-labels"),
        ("[entry a]\nrole=client\nserver_name=a*.example\n", 3, "not a DNS name"),
        ("[entry a]\nrole=client\nserver_name=a.*.example\n", 3, "not a DNS name"),
        ("[entry a]\nrole=client\nserver_name=*\n", 3, "not a DNS name"),
        ("[entry a]\nrole=client\nserver_name=a..example\n", 3, "not a DNS name"),
        ("[entry a]\ncertificate=a.pem\nprivate_key=a.key\nserver_name=127.0.0.1\n", 4, "can't name an address"),
        ("[entry a]\nrole=client\ntickets=1\n", 3, "has no key 'tickets'"),
        ("[entry a]\nrole=client\nearly_data=-1\n", 3, "not in 0 to 4294967295"),
        ("[entry a]\ncertificate=a.pem\nprivate_key=a.key\ntickets=9\n", 4, "not in 0 to 8"),
        ("[entry a]\ncertificate=a.pem\nprivate_key=a.key\nticket_lifetime=604801\n", 4, "not in 1 to 604800"),
        ("[entry a]\ncertificate=a.pem\nprivate_key=a.key\nticket_lifetime=0\n", 4, "not in 1 to 604800"),
        ("[entry a]\nrole=client\ngroups=x25518\n", 3, "not one of"),
        ("[entry a]\nrole=client\ngroups=ffdhe2048\n", 3, "not one of"),
        ("[entry a]\nrole=client\ncipher_suites=TLS_NULL\n", 3, "not one of TLS_AES_128_GCM_SHA256"),
    ],
)
def test_errors_name_file_line_and_reason(folder: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    assert (caught.value.path, caught.value.line) == (folder / "registry.d" / "t.conf", line)
    assert reason in caught.value.reason


def test_addresses_are_canonical(folder: Path) -> None:
    entry = loaded(folder, "[entry a]\nrole=client\nserver_name=2001:0DB8::01;A.example\n").registry.entry("a")
    assert entry is not None
    assert entry.server_name == ("2001:db8::1", "a.example")
    with pytest.raises(ConfigError, match="both serve any ALPN with server name 2001:db8::1"):
        loaded(
            folder, "[entry a]\nrole=client\nserver_name=2001:db8::1\n[entry b]\nrole=client\nserver_name=2001:db8:0::1"
        )


def test_overlap_names_both_files(folder: Path) -> None:
    common = "certificate=a.pem\nprivate_key=a.key\n"
    (folder / "registry.d" / "s.conf").write_text(
        f"[entry one]\nalpn=h3;smb\nserver_name=a.example;b.example\n{common}"
    )
    with pytest.raises(ConfigError) as caught:
        loaded(folder, f"[entry two]\nalpn=doq;smb\nserver_name=b.example\n{common}")
    text = str(caught.value)
    assert text.startswith(f"{folder}/registry.d/t.conf:1: ")
    assert f"{folder}/registry.d/s.conf:1" in text
    assert "both serve ALPN smb with server name b.example as server" in text
    with pytest.raises(ConfigError, match=r"one is already defined in .*s\.conf:1"):
        loaded(folder, f"[entry one]\nalpn=doq\n{common}")
    assert loaded(folder, f"[entry two]\nserver_name=b.example\n{common}").warnings == ()
    with pytest.raises(ConfigError, match="any ALPN with the default server name"):
        loaded(
            folder,
            f"[entry two]\n{common}",
            "[authenticate.server]\nx509.certificate=registry.d/a.pem\nx509.private_key=registry.d/a.key\n",
        )


def test_every_error_of_a_run_is_told(folder: Path) -> None:
    (folder / "registry.d" / "z.conf").write_text("nonsense\n")
    with pytest.raises(ConfigError) as caught:
        loaded(folder, "[entry a]\nalpn=h3\n[entry b]\nrole=x\n", "[authenticate.client]\nx509.crl=absent\n")
    told = [str(error).removeprefix(f"{folder}/") for error in (caught.value, *caught.value.others)]
    assert [line.split(": ")[0] for line in told] == [
        "registry.d/t.conf:1",
        "registry.d/t.conf:4",
        "registry.d/z.conf:1",
        "config:2",
    ]


def test_named_registry_directory_must_exist(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"config:2: .*absent is not a directory"):
        loaded(folder, main="[registry]\ndirectory=absent\n")


def test_bad_members_of_a_bundle_are_left_out_and_warned_of(folder: Path) -> None:
    old = pki.Authority("old", not_after=datetime.now(UTC) - timedelta(days=1))
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (folder / "registry.d" / "ca.pem").write_bytes(b"# text\n" + broken + old.pem + ROOT.pem)
    result = loaded(folder, "[entry a]\nrole=client\nalpn=x\ntruststore=ca.pem\n")
    assert result.registry.trust[str(folder / "registry.d" / "ca.pem")].certificates == (ROOT.der,)
    first, second = map(str, result.warnings)
    assert "t.conf:4" in first
    assert "certificate 1 can't be parsed" in first
    assert "left out, for they have expired: CN=old on " in second


def test_system_without_a_trust_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "SYSTEM_STORES", ())
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "absent"))
    result = loaded(folder)
    assert result.registry.trust["system"].certificates == ()
    assert "no trust store" in str(result.warnings[0])


def test_expired_certificate_loads_with_a_warning(folder: Path) -> None:
    now = datetime.now(UTC)
    ROOT.issue(not_before=now - timedelta(days=2), not_after=now - timedelta(days=1)).write(folder / "registry.d", "a")
    (warned,) = loaded(folder, "[entry a]\ncertificate=a.pem\nprivate_key=a.key\n").warnings
    assert warned.severe
    assert "t.conf:2" in str(warned)


def test_public_authorities_for_clients_are_warned_of(folder: Path) -> None:
    text = "[entry a]\ncertificate=a.pem\nprivate_key=a.key\nclient_certificate=require\n"
    assert "every client" in str(loaded(folder, text).warnings[0])


def test_revocation_lists(folder: Path) -> None:
    crl = x509.load_der_x509_crl(ROOT.crl(ISSUED.certificate, next_update=datetime.now(UTC) - timedelta(days=1)))
    (folder / "registry.d" / "ca.crl").write_bytes(crl.public_bytes(Encoding.PEM))
    result = loaded(folder, "[entry a]\nrole=client\nalpn=x\ncrl=ca.crl\n")
    entry = result.registry.entry("a")
    assert entry is not None
    assert result.registry.trust[entry.trust].crls == (crl.public_bytes(Encoding.DER),)
    assert result.registry.trust["system"].crls == ()
    assert "expired on" in str(result.warnings[0])


def test_samples_load(folder: Path) -> None:
    registry = folder / "registry.d"
    for name in ("h3", "smb", "machine"):
        ROOT.issue().write(registry, name)
    for name in ("clients", "servers"):
        ROOT.write(registry / f"{name}.pem")
    crl = x509.load_der_x509_crl(ROOT.crl())
    (registry / "clients.crl").write_bytes(crl.public_bytes(Encoding.PEM))
    for sample in (CONF / "registry.d").glob("*.conf.example"):
        (registry / sample.stem).write_bytes(sample.read_bytes())
    result = loaded(folder)
    assert [entry.name for entry in result.registry.entries] == ["h3", "smb", "smb-client", "authenticate.client"]
    assert result.warnings == ()
    assert load(config.load(CONF / "config")).registry.entries[0].name == "authenticate.client"


def test_edits_give_new_registries() -> None:
    first = Registry()
    entry = Entry(name="a", role=Role.SERVER, source="D-Bus", trust="ca")
    with pytest.raises(RegistryError, match="trust anchors"):
        first.with_entry(entry)
    second = first.with_entry(entry, TrustAnchors("ca", (ROOT.der,)))
    assert second.entry("a") == entry
    with pytest.raises(RegistryError, match=r"entry b \(D-Bus\) and entry a \(D-Bus\) both serve any ALPN"):
        second.with_entry(msgspec.structs.replace(entry, name="b"))
    second.with_entry(msgspec.structs.replace(entry, name="b", role=Role.CLIENT))
    third = second.without_entry("a")
    assert third == first
    with pytest.raises(RegistryError, match="no entry a"):
        third.without_entry("a")
    assert (first.entries, len(second.entries)) == ((), 1)
