"""A table of chains, each with our verdict, and with the reason wherever OpenSSL or GnuTLS is of another mind.

The chains are made anew at each run. `end` comes first; what a case doesn't say is as in `Case`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quic_tlshd.tls.alert import AlertDescription as A
from tests.peers.crafted import DAY, NOW, Crafted, craft, key_usage_of, name, of_version_1, signed_by_broken_hash

HOST = "a.example"


@dataclass(frozen=True)
class Case:
    """One chain and the alert that refuses it, None if it is good.

    host: whom a server must be, None for a client's chain. openssl, gnutls: why that one (OpenSSL 3.0, GnuTLS 3.7)
    decides otherwise, None if it decides as we do. since: the first OpenSSL that can be asked.
    """

    id: str
    chain: tuple[Crafted, ...]
    anchors: tuple[Crafted, ...]
    alert: A | None = None
    host: str | None = HOST
    openssl: str | None = None
    gnutls: str | None = None
    since: tuple[int, int] = (3, 0)


STRICT = "strictly, it wants keyUsage in authorities as RFC 5280 section 4.2.1.3 does; self-made ones have none"

ROOT = craft("root", ca=True)
MIDDLE = craft("middle", ROOT, ca=True)
END = craft(HOST, MIDDLE)
RSA_ROOT = craft("rsa root", ca=True, key="rsa")


def paths() -> Iterator[Case]:
    deep = craft("three", craft("two", MIDDLE, ca=True), ca=True)
    two = craft("two", MIDDLE, ca=True)
    three = craft("three", two, ca=True)
    deep = craft(HOST, three)
    stranger = craft("stranger", ca=True)
    yield Case("by the root", (craft(HOST, ROOT),), (ROOT,))
    yield Case("by an intermediate", (END, MIDDLE), (ROOT,))
    yield Case("by three intermediates", (deep, three, two, MIDDLE), (ROOT,))
    yield Case("in no order", (deep, MIDDLE, three, two), (ROOT,))
    yield Case("with the root", (END, MIDDLE, ROOT), (ROOT,))
    yield Case("with others' certificates", (END, stranger, craft("x", stranger, ca=True), MIDDLE), (ROOT,))
    yield Case("twice", (END, MIDDLE, END, MIDDLE), (ROOT,))
    yield Case("without the intermediate", (END,), (ROOT,), A.UNKNOWN_CA)
    yield Case("of another root", (END, MIDDLE), (stranger,), A.UNKNOWN_CA)
    yield Case("of another root of that name", (END, MIDDLE), (craft("root", ca=True),), A.UNKNOWN_CA)
    yield Case("nobody is trusted but another", (END, MIDDLE, ROOT), (stranger,), A.UNKNOWN_CA)
    yield Case("the intermediate is the anchor", (END,), (MIDDLE,))
    why = "it trusts authorities only"
    yield Case("the end certificate is the anchor", (END,), (END,), gnutls=why)
    yield Case("roots of one name, ours last", (craft(HOST, ROOT),), (craft("root", ca=True), ROOT))
    yield Case("roots of one name, ours first", (craft(HOST, ROOT),), (ROOT, craft("root", ca=True)))
    cross = craft("middle", stranger, ca=True, key=MIDDLE.key)
    why = "it takes the first issuer that fits and tries no other"
    yield Case("cross-signed, the wrong one first", (END, cross, MIDDLE), (ROOT,), openssl=why, gnutls=why)
    yield Case("cross-signed, the right one first", (END, MIDDLE, cross), (ROOT,))
    old = craft("middle", ROOT, ca=True, key=MIDDLE.key, until=NOW - DAY / 2)
    yield Case("renewed, the old one first", (END, old, MIDDLE), (ROOT,), gnutls=why)
    old_root = craft("root", ca=True, key=ROOT.key, until=NOW - DAY / 2)
    yield Case("a renewed root, the old one first", (END, MIDDLE), (old_root, ROOT))
    cross_root = craft("root", stranger, ca=True, key=ROOT.key)
    yield Case("a root that another has signed, ours trusted", (END, MIDDLE, cross_root), (ROOT,))
    yield Case("a root that another has signed, which is trusted", (END, MIDDLE, cross_root), (stranger,))
    own = craft(HOST, ca=True, names=(HOST,), without=(x509.KeyUsage,))
    yield Case("its own authority, trusted", (own,), (own,))
    yield Case("its own authority, not trusted", (own,), (ROOT,), A.UNKNOWN_CA)
    own = craft(HOST)
    why = "it trusts authorities only, or a certificate that it has pinned"
    yield Case("self-signed, trusted", (own,), (own,), gnutls=why)
    yield Case("self-signed, not trusted", (own,), (ROOT,), A.UNKNOWN_CA)
    forged = craft(HOST, Crafted(MIDDLE.certificate, stranger.key), extensions=[_aki_of(MIDDLE)])
    yield Case("signed by another key", (forged, MIDDLE), (ROOT,), A.BAD_CERTIFICATE)
    misled = craft(HOST, ROOT, extensions=[_aki_of(stranger)])
    why = "it holds a key identifier for a condition; RFC 5280 section 4.2.1.1 has it help in finding the issuer"
    yield Case("by the root, with another's key identifier", (misled,), (ROOT,), openssl=why, gnutls=why)
    root = craft(_printable("authority"), ca=True)
    end = craft(HOST, root, issuer_name=name("authority"))
    why = "it compares names as RFC 5280 section 7.1 says; the verifier compares how they are encoded"
    yield Case("an issuer's name in another string type", (end,), (root,), A.UNKNOWN_CA, openssl=why)


def authorities() -> Iterator[Case]:
    forger = craft("forger", ROOT)
    yield Case("by an end certificate", (craft(HOST, forger), forger), (ROOT,), A.CERTIFICATE_UNKNOWN)
    forger = craft("forger", ROOT, ca=None)
    yield Case("by one that says nothing", (craft(HOST, forger), forger), (ROOT,), A.CERTIFICATE_UNKNOWN)
    forger = craft("forger", ROOT, ca=True, extensions=[(key_usage_of(("crl_sign",)), True)])
    yield Case("by one that may not sign", (craft(HOST, forger), forger), (ROOT,), A.CERTIFICATE_UNKNOWN)
    free = craft("free", ROOT, ca=True, without=(x509.KeyUsage,))
    yield Case("by one without keyUsage", (craft(HOST, free), free), (ROOT,), openssl=STRICT)
    for length, alert in ((0, A.CERTIFICATE_UNKNOWN), (1, None)):
        top = craft("top", ROOT, ca=True, path_length=length)
        below = craft("below", top, ca=True)
        yield Case(f"path length {length} with one below", (craft(HOST, below), below, top), (ROOT,), alert)
        root = craft("short", ca=True, path_length=length)
        below = craft("below", root, ca=True)
        yield Case(f"a root's path length {length}", (craft(HOST, below), below), (root,), alert)
    top = craft("top", ROOT, ca=True, path_length=0)
    again = craft("top", top, ca=True, path_length=0)
    why = "RFC 5280 section 4.2.1.9 does not count the self-issued; the verifier does"
    chain = (craft(HOST, again), again, top)
    yield Case("path length 0 with a self-issued one", chain, (ROOT,), A.CERTIFICATE_UNKNOWN, openssl=why)
    end = craft(HOST, ROOT, ca=True, names=(HOST,))
    why = "it does not ask what the key of an end certificate may be used for"
    yield Case("an authority as a server", (end,), (ROOT,), A.UNSUPPORTED_CERTIFICATE, gnutls=why)


def versions() -> Iterator[Case]:
    """What `openssl x509 -req` makes of tutorials, which OpenSSL and GnuTLS take unless told to be strict."""
    root = of_version_1(craft("root", ca=True))
    why = "strictly, RFC 5280 has no authorities of version 1"
    yield Case("a root of version 1", (craft(HOST, root),), (root,), openssl=why)
    client = of_version_1(craft("client", root), root)
    yield Case("a client and its root of version 1", (client,), (root,), host=None, openssl=why)
    own = of_version_1(craft("client"))
    yield Case("a client's own of version 1, trusted", (own,), (own,), host=None, openssl=why)
    yield Case("a client of version 1", (of_version_1(craft("client", ROOT), ROOT),), (ROOT,), host=None)
    server = of_version_1(craft(HOST, ROOT), ROOT)
    why = "it looks for the name in the subject too"
    yield Case("a server of version 1", (server,), (ROOT,), A.BAD_CERTIFICATE, openssl=why, gnutls=why)
    middle = of_version_1(craft("middle", ROOT, ca=True), ROOT)
    yield Case("an intermediate of version 1", (craft(HOST, middle), middle), (ROOT,), A.CERTIFICATE_UNKNOWN)
    why = "it trusts whatever issuer it is told to"
    yield Case("one of version 1 as the anchor", (craft(HOST, middle),), (middle,), A.CERTIFICATE_UNKNOWN, gnutls=why)
    forged = of_version_1(craft("client", root), craft("root", ca=True))
    yield Case("of version 1 by another root of that name", (forged,), (root,), A.UNKNOWN_CA, host=None)
    old = of_version_1(craft("client", ROOT, until=NOW - DAY / 2), ROOT)
    yield Case("of version 1 and expired", (old,), (ROOT,), A.CERTIFICATE_EXPIRED, host=None)


def dates() -> Iterator[Case]:
    past, future = {"until": NOW - DAY / 2}, {"since": NOW + DAY / 2}
    yield Case("expired", (craft(HOST, ROOT, **past),), (ROOT,), A.CERTIFICATE_EXPIRED)
    yield Case("not yet valid", (craft(HOST, ROOT, **future),), (ROOT,), A.CERTIFICATE_EXPIRED)
    for which, span in (("expired", past), ("future", future)):
        above = craft("above", ROOT, ca=True, **span)
        yield Case(f"an {which} intermediate", (craft(HOST, above), above), (ROOT,), A.CERTIFICATE_EXPIRED)
        above = craft("above", ca=True, **span)
        yield Case(f"an {which} root", (craft(HOST, above),), (above,), A.CERTIFICATE_EXPIRED)
    own = craft(HOST, **past)
    yield Case("expired and trusted itself", (own,), (own,), A.CERTIFICATE_EXPIRED)


def keys() -> Iterator[Case]:
    for key in ("rsa", "rsa3072", "p384", "p521", "ed25519"):
        yield Case(f"a key {key}", (craft(HOST, ROOT, key=key),), (ROOT,))
    yield Case("a key rsa1024", (craft(HOST, ROOT, key="rsa1024"),), (ROOT,), A.BAD_CERTIFICATE)
    why = "TLS 1.3 has no signature scheme for it, which is no question of the path"
    end = craft(HOST, ROOT, key="p224")
    yield Case("a key p224", (end,), (ROOT,), A.UNSUPPORTED_CERTIFICATE, openssl=why, gnutls=why)
    end = craft(HOST, ROOT, key="brainpool")
    yield Case("a key brainpool", (end,), (ROOT,), A.UNSUPPORTED_CERTIFICATE, openssl=why)
    for key in ("rsa", "p384", "p521", "ed25519", "ed448"):
        root = craft("root", ca=True, key=key)
        middle = craft("middle", root, ca=True, key=key)
        yield Case(f"a root {key}", (craft(HOST, root),), (root,))
        yield Case(f"a path {key}", (craft(HOST, middle), middle), (root,))
    for kind in (mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey):
        root = craft("root", ca=True, key=kind.generate())
        middle = craft("middle", root, ca=True, key=kind.generate())
        why = "it has no ML-DSA"
        yield Case(f"a path {kind.__name__}", (craft(HOST, middle), middle), (root,), gnutls=why, since=(3, 5))
    weak = craft("weak", ROOT, ca=True, key="rsa1024")
    yield Case("an issuer's key rsa1024", (craft(HOST, weak), weak), (ROOT,), A.BAD_CERTIFICATE)
    weak = craft("weak", ca=True, key="rsa1024")
    yield Case("a root's key rsa1024", (craft(HOST, weak),), (weak,), A.BAD_CERTIFICATE)
    odd = craft("odd", ROOT, ca=True, key="brainpool")
    why = "the verifier has the curves of TLS only"
    yield Case("an issuer's key brainpool", (craft(HOST, odd), odd), (ROOT,), A.UNSUPPORTED_CERTIFICATE, openssl=why)


def edwards() -> Iterator[Case]:
    """What holds for other paths holds for those with keys that the verifier doesn't know."""
    root = craft("edwards", ca=True, key="ed25519")
    other = craft("edwards", ca=True, key="ed25519")
    mixed = craft("mixed", root, ca=True)
    goldilocks = craft("goldilocks", root, ca=True, key="ed448")
    yield Case("ed25519 above p256", (craft(HOST, mixed), mixed), (root,))
    yield Case("ed25519 above ed448", (craft(HOST, goldilocks), goldilocks), (root,))
    above = craft("above", ROOT, ca=True, key="ed25519")
    yield Case("p256 above ed25519", (craft(HOST, above), above), (ROOT,))
    yield Case("ed25519 for another", (craft("b.example", root),), (root,), A.BAD_CERTIFICATE)
    yield Case("ed25519 of another root of that name", (craft(HOST, root),), (other,), A.UNKNOWN_CA)
    yield Case("ed25519 roots of one name", (craft(HOST, root),), (other, root))
    yield Case("ed25519 expired", (craft(HOST, root, until=NOW - DAY / 2),), (root,), A.CERTIFICATE_EXPIRED)
    forged = craft(HOST, Crafted(root.certificate, other.key), extensions=[_aki_of(root)])
    yield Case("ed25519 signed by another key", (forged,), (root,), A.BAD_CERTIFICATE)
    forger = craft("forger", root, key="ed25519")
    yield Case("ed25519 by an end certificate", (craft(HOST, forger), forger), (root,), A.CERTIFICATE_UNKNOWN)
    short = craft("short", root, ca=True, key="ed25519", path_length=0)
    below = craft("below", short, ca=True, key="ed25519")
    yield Case("ed25519 path length", (craft(HOST, below), below, short), (root,), A.CERTIFICATE_UNKNOWN)
    bound = craft("bound", root, ca=True, key="ed25519", extensions=[_permit(x509.DNSName("b.example"))])
    yield Case("ed25519 name constraint", (craft(HOST, bound), bound), (root,), A.CERTIFICATE_UNKNOWN)
    yield Case("ed25519 within a name constraint", (craft("b.example", bound), bound), (root,), host="b.example")
    critical = craft(
        HOST, root, extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)]
    )
    yield Case("ed25519 unknown critical extension", (critical,), (root,), A.CERTIFICATE_UNKNOWN)
    yield Case("ed25519 for clients", (craft(HOST, root, usage="client"),), (root,), A.UNSUPPORTED_CERTIFICATE)
    yield Case("ed25519 of a client", (craft(HOST, root, usage="client"),), (root,), host=None)


def signatures() -> Iterator[Case]:
    for digest in (hashes.SHA384(), hashes.SHA512()):
        yield Case(f"signed with {digest.name}", (craft(HOST, RSA_ROOT, signed=digest),), (RSA_ROOT,))
        yield Case(f"signed with P-256 and {digest.name}", (craft(HOST, ROOT, signed=digest),), (ROOT,))
    yield Case("signed with RSA-PSS", (craft(HOST, RSA_ROOT, pss=True),), (RSA_ROOT,))
    why = "it takes 112 bits for enough; TLS 1.3 has no scheme with SHA-224"
    end = craft(HOST, RSA_ROOT, signed=hashes.SHA224())
    yield Case("signed with sha224", (end,), (RSA_ROOT,), A.UNSUPPORTED_CERTIFICATE, openssl=why, gnutls=why)
    for broken in ("md5", "sha1"):
        end = signed_by_broken_hash(craft(HOST, RSA_ROOT), RSA_ROOT.key, broken)
        yield Case(f"signed with {broken}", (end,), (RSA_ROOT,), A.BAD_CERTIFICATE)
        middle = signed_by_broken_hash(craft("middle", RSA_ROOT, ca=True), RSA_ROOT.key, broken)
        yield Case(f"an issuer signed with {broken}", (craft(HOST, middle), middle), (RSA_ROOT,), A.BAD_CERTIFICATE)
        root = signed_by_broken_hash(RSA_ROOT, RSA_ROOT.key, broken)
        yield Case(f"a root signed with {broken}, which is not verified", (craft(HOST, root),), (root,))


def names() -> Iterator[Case]:
    def case(id: str, names: tuple[str, ...], host: str, alert: A | None = None, **why: str) -> Case:  # noqa: A002
        return Case(id, (craft("somebody", ROOT, names=names),), (ROOT,), alert, host, **why)

    yield case("one of several names", ("b.example", HOST), HOST)
    yield case("another's name", ("b.example",), HOST, A.BAD_CERTIFICATE)
    yield case("in other letters", ("A.Example",), HOST)
    yield case("a wildcard", ("*.b.example",), "a.b.example")
    yield case("a wildcard for two labels", ("*.b.example",), "a.a.b.example", A.BAD_CERTIFICATE)
    yield case("a wildcard for its parent", ("*.b.example",), "b.example", A.BAD_CERTIFICATE)
    why = "RFC 9525 section 6.3 has the wildcard as the whole label only"
    yield case("a wildcard in a label", ("f*.b.example",), "foo.b.example", A.BAD_CERTIFICATE, openssl=why)
    yield case("a wildcard in the second label", ("a.*.example",), "a.b.example", A.BAD_CERTIFICATE)
    yield case("an underscore", ("a_b.example",), "a_b.example")
    yield case("an underscore in other letters", ("A_B.example",), "a_b.Example")
    why = "its wildcards stand for no underscore"
    yield case("an underscore within a wildcard", ("*.b.example",), "a_b.b.example", openssl=why)
    yield case("an underscore, for another", ("a_c.example",), "a_b.example", A.BAD_CERTIFICATE)
    yield case("an A-label", ("xn--bcher-kva.example",), "xn--bcher-kva.example")
    yield case("an IPv4 address", ("192.0.2.1",), "192.0.2.1")
    yield case("another IPv4 address", ("192.0.2.1",), "192.0.2.2", A.BAD_CERTIFICATE)
    yield case("an IPv6 address", ("2001:db8::1",), "2001:db8::1")
    as_name = craft("somebody", ROOT, names=(x509.DNSName("192.0.2.1"),))
    yield Case("an address as a DNS name", (as_name,), (ROOT,), A.BAD_CERTIFICATE, "192.0.2.1")
    only_cn = craft(HOST, ROOT, without=(x509.SubjectAlternativeName,))
    why = "it looks for the name in the subject too, which RFC 9525 section 6.1 does not"
    yield Case("a name in the subject only", (only_cn,), (ROOT,), A.BAD_CERTIFICATE, openssl=why, gnutls=why)
    both = craft(HOST, ROOT, names=("b.example",))
    yield Case("its name in the subject, another in subjectAltName", (both,), (ROOT,), A.BAD_CERTIFICATE)
    yield Case("without a subject", (craft("", ROOT, names=(HOST,)),), (ROOT,))
    nameless = craft(HOST, ROOT, without=(x509.SubjectAlternativeName,))
    yield Case("a client without subjectAltName", (nameless,), (ROOT,), host=None)


def usages() -> Iterator[Case]:
    yield Case(
        "for servers, a client's", (craft(HOST, ROOT, usage="server"),), (ROOT,), A.UNSUPPORTED_CERTIFICATE, None
    )
    yield Case("for clients, a server's", (craft(HOST, ROOT, usage="client"),), (ROOT,), A.UNSUPPORTED_CERTIFICATE)
    yield Case("for clients, a client's", (craft(HOST, ROOT, usage="client"),), (ROOT,), host=None)
    yield Case("for signing code", (craft(HOST, ROOT, usage="code"),), (ROOT,), A.UNSUPPORTED_CERTIFICATE)
    for host in (HOST, None):
        role = "server" if host else "client"
        free = craft(HOST, ROOT, without=(x509.ExtendedKeyUsage,))
        yield Case(f"for any use, a {role}'s", (free,), (ROOT,), host=host)
        stated = craft(
            HOST, ROOT, extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)]
        )
        why = "it does not take anyExtendedKeyUsage for TLS"
        yield Case(f"for any extended use, a {role}'s", (stated,), (ROOT,), host=host, openssl=why)
        above = craft("above", ROOT, ca=True, usage="server" if host is None else "client")
        chain = (craft(HOST, above), above)
        yield Case(f"the issuer is not for a {role}", chain, (ROOT,), A.UNSUPPORTED_CERTIFICATE, host)
        cipher = craft(HOST, ROOT, key="rsa", key_usage=("key_encipherment",))
        why = "it allows for the key exchange of RSA, which TLS 1.3 has not"
        yield Case(f"a {role}'s key that may not sign", (cipher,), (ROOT,), A.UNSUPPORTED_CERTIFICATE, host,
                   openssl=why if host else None, gnutls=why)  # fmt: skip
    yield Case("no keyUsage", (craft(HOST, ROOT, key_usage=None, without=(x509.KeyUsage,)),), (ROOT,))


def extensions() -> Iterator[Case]:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    yield Case("an unknown extension", (craft(HOST, ROOT, extensions=[(unknown, False)]),), (ROOT,))
    yield Case(
        "a critical unknown one", (craft(HOST, ROOT, extensions=[(unknown, True)]),), (ROOT,), A.CERTIFICATE_UNKNOWN
    )
    above = craft("above", ROOT, ca=True, extensions=[(unknown, True)])
    yield Case("an issuer's critical unknown one", (craft(HOST, above), above), (ROOT,), A.CERTIFICATE_UNKNOWN)
    policy = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)])
    yield Case("a policy", (craft(HOST, ROOT, extensions=[(policy, False)]),), (ROOT,))
    why = "the verifier does not process policies, so that a critical one is unknown to it"
    end = craft(HOST, ROOT, extensions=[(policy, True)])
    yield Case("a critical policy", (end,), (ROOT,), A.CERTIFICATE_UNKNOWN, openssl=why, gnutls=why)


def constraints() -> Iterator[Case]:
    def case(
        id: str,  # noqa: A002
        bound: tuple[x509.ExtensionType, bool],
        end: Crafted | None = None,
        alert: A | None = None,
        host: str | None = HOST,
        names: tuple[str | x509.GeneralName, ...] = (HOST,),
        **why: str,
    ) -> Case:
        above = craft("above", ROOT, ca=True, extensions=[bound])
        subject = (
            craft("somebody", above, names=names) if end is None else craft(end.certificate.subject, above, names=names)
        )
        return Case(id, (subject, above), (ROOT,), alert, host, **why)

    refused = A.CERTIFICATE_UNKNOWN
    example = x509.DNSName("example")
    yield case("a permitted domain", _permit(example))
    yield case("another domain", _permit(x509.DNSName("b.example")), alert=refused)
    yield case("an excluded domain", _exclude(example), alert=refused)
    yield case("another domain is excluded", _exclude(x509.DNSName("b.example")))
    yield case("permitted but for one", _constrain([example], [x509.DNSName("a.example")]), alert=refused)
    yield case("one name of several", _permit(x509.DNSName("a.example")), names=(HOST, "b.example"), alert=refused)
    yield case(
        "a wildcard below the constraint",
        _permit(x509.DNSName("b.example")),
        names=("*.b.example",),
        host="a.b.example",
    )
    why = "it permits no address where a domain is permitted"
    yield case("an address, domains permitted", _permit(example), names=("192.0.2.1",), host="192.0.2.1", gnutls=why)
    net = x509.IPAddress(ip_network("192.0.2.0/24"))
    yield case("a permitted address", _permit(net), names=("192.0.2.1",), host="192.0.2.1")
    yield case("another address", _permit(net), names=("198.51.100.1",), host="198.51.100.1", alert=refused)
    yield case("an excluded address", _exclude(net), names=("192.0.2.1",), host="192.0.2.1", alert=refused)
    why = "it does not compare directory names"
    ours, theirs = craft(_organization("ours", HOST)), craft(_organization("theirs", HOST))
    bound = x509.DirectoryName(_organization("ours"))
    yield case("a permitted directory name", _permit(bound), ours)
    yield case("another directory name", _permit(bound), theirs, refused, gnutls=why)
    yield case("an excluded directory name", _exclude(bound), ours, refused)
    yield case("another excluded directory name", _exclude(bound), theirs, gnutls=why)
    top = craft("top", ROOT, ca=True, extensions=[_permit(bound)])
    again = craft("top", top, ca=True)
    end = craft(_organization("ours", HOST), again, names=(HOST,))
    yield Case("a self-issued one below a directory name", (end, again, top), (ROOT,))
    yield case("a permitted directory and domain", _permit(bound, example), ours)
    yield case("a permitted directory, another domain", _permit(bound, x509.DNSName("b.example")), ours, refused)
    above = craft("above", ROOT, ca=True, extensions=[_permit(x509.DNSName("b.example"))])
    nameless = craft(HOST, above, without=(x509.SubjectAlternativeName,))
    why = "it takes a common name for a DNS name"
    yield Case(
        "a client without names under a constraint", (nameless, above), (ROOT,), host=None, openssl=why, gnutls=why
    )
    named = craft(HOST, above)
    yield Case("a client's name under a constraint", (named, above), (ROOT,), refused, host=None)
    root = craft("bound root", ca=True, extensions=[_permit(x509.DNSName("b.example"))])
    yield Case("a root's constraint", (craft(HOST, root),), (root,), refused)
    top = craft("top", ROOT, ca=True, extensions=[_permit(x509.DNSName("b.example"))])
    below = craft("below", top, ca=True)
    yield Case("a constraint two above", (craft(HOST, below), below, top), (ROOT,), refused)


def _aki_of(issuer: Crafted) -> tuple[x509.ExtensionType, bool]:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False


def _constrain(
    permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None
) -> tuple[x509.ExtensionType, bool]:
    return x509.NameConstraints(permitted, excluded), True


def _permit(*names: x509.GeneralName) -> tuple[x509.ExtensionType, bool]:
    return _constrain(list(names), None)


def _exclude(*names: x509.GeneralName) -> tuple[x509.ExtensionType, bool]:
    return _constrain(None, list(names))


def _printable(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _ASN1Type.PrintableString)])


def _organization(organization: str, common_name: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
    if common_name is not None:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


CASES = tuple(
    case
    for group in (
        paths,
        authorities,
        versions,
        dates,
        keys,
        edwards,
        signatures,
        names,
        usages,
        extensions,
        constraints,
    )
    for case in group()
)
