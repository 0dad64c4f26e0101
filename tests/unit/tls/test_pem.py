import base64
import datetime
import os
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bbr.tls import pem
from bbr.tls.credentials import CredentialsError, server_context
from bench.harness.certificates import Authority, client_context
from tests.support.tls import handshake

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def authority():
    return Authority()


def written(folder, issued):
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(issued.chain_pem)
    key.write_bytes(issued.key_pem)
    return certificate, key


def test_self_signed_certificate_is_good_for_its_names():
    made = pem.self_signed(["localhost", "bbr-7d4f", "localhost"], NOW)
    certificate = x509.load_pem_x509_certificate(made.chain_pem)
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == ["localhost", "bbr-7d4f"]
    assert made.self_signed
    assert made.clients is None
    assert made.not_after == certificate.not_valid_after_utc == NOW + datetime.timedelta(days=3650)
    assert made.not_before == certificate.not_valid_before_utc == NOW - datetime.timedelta(hours=1)
    assert made.fingerprint.replace(":", "") == certificate.fingerprint(hashes.SHA256()).hex().upper()
    assert len(made.fingerprint) == 95


def test_self_signed_certificate_can_be_pinned():
    made = pem.self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
    server, client = handshake(server_context(made), client_context(made.chain_pem, "h2"))
    assert (server.selected_alpn_protocol(), client.selected_alpn_protocol()) == ("h2", "h2")
    assert client.version() == "TLSv1.3"


def test_no_two_starts_have_one_key():
    first, second = (pem.self_signed(["localhost"], NOW) for _ in range(2))
    assert first.key_pem != second.key_pem
    assert first.fingerprint != second.fingerprint


KEYS = {
    "EC P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EC P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", KEYS)
def test_files_of_every_usual_kind_of_key(tmp_path, authority, kind):
    issued = authority.issue("router.test", key=KEYS[kind]())
    loaded = pem.load(*written(tmp_path, issued))
    certificate = x509.load_pem_x509_certificate(issued.chain_pem)
    assert not loaded.self_signed
    assert (loaded.not_before, loaded.not_after) == (
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    assert loaded.fingerprint.replace(":", "") == certificate.fingerprint(hashes.SHA256()).hex().upper()
    _, client = handshake(server_context(loaded), client_context(authority.root_pem, "h2"), "router.test")
    assert client.getpeercert(binary_form=True) == certificate.public_bytes(serialization.Encoding.DER)


def test_intermediate_certificates_are_shown(tmp_path, authority):
    issued = authority.intermediate().issue("router.test")
    loaded = pem.load(*written(tmp_path, issued))
    assert loaded.chain_pem.count(b"BEGIN CERTIFICATE") == 2
    handshake(server_context(loaded), client_context(authority.root_pem), "router.test")


def test_text_around_the_pem_is_no_matter_and_is_not_kept(tmp_path, authority):
    certificate, key = written(tmp_path, authority.issue("router.test"))
    certificate.write_bytes(b"Certificate:\n    Data:\n" + certificate.read_bytes() + b"\n# end\n")
    loaded = pem.load(certificate, key)
    assert loaded.chain_pem.startswith(b"-----BEGIN CERTIFICATE-----")


def test_an_expired_certificate_is_loaded_for_its_owner_to_be_warned(tmp_path, authority):
    issued = authority.issue("router.test", not_after=NOW)
    assert pem.load(*written(tmp_path, issued)).not_after == NOW


def refusal(certificate, key):
    with pytest.raises(CredentialsError) as caught:
        pem.load(certificate, key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("which", ["--tls-cert", "--tls-key"])
def test_a_file_that_can_not_be_read_is_named(tmp_path, authority, which):
    files = dict(zip(("--tls-cert", "--tls-key"), written(tmp_path, authority.issue("router.test")), strict=True))
    files[which] = tmp_path / "none"
    assert refusal(*files.values()) == f"{which}: {tmp_path / 'none'}: No such file or directory"
    files[which] = tmp_path
    assert refusal(*files.values()) == f"{which}: {tmp_path}: is a directory, not a regular file"
    files[which] = tmp_path / "fifo"
    os.mkfifo(files[which])
    assert refusal(*files.values()) == f"{which}: {files[which]}: is a FIFO (a named pipe), not a regular file"
    files[which] = tmp_path / "large"
    files[which].write_bytes(b"#" * (pem.MAX_PEM_BYTES + 1))
    assert refusal(*files.values()) == f"{which}: {files[which]}: is larger than 1 MiB"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_named(tmp_path, authority):
    certificate, key = written(tmp_path, authority.issue("router.test"))
    key.chmod(0)
    assert refusal(certificate, key) == f"--tls-key: {key}: Permission denied"


NO_PEM = {
    "empty": lambda pem: b"",
    "text": lambda pem: b"not PEM\n",
    "octets": lambda pem: bytes(range(256)),
    "cut off": lambda pem: pem[: len(pem) // 2],
    "broken": lambda pem: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("kind", NO_PEM)
def test_a_file_that_is_no_pem_is_named(tmp_path, authority, kind):
    certificate, key = written(tmp_path, authority.issue("router.test"))
    key_pem = key.read_bytes()
    key.write_bytes(NO_PEM[kind](key_pem))
    assert refusal(certificate, key).startswith(f"--tls-key: {key}: holds no private key in PEM, or a broken one (")
    key.write_bytes(key_pem)
    certificate.write_bytes(NO_PEM[kind](certificate.read_bytes()))
    assert refusal(certificate, key) == f"--tls-cert: {certificate}: holds no certificate in PEM, or a broken one"


P256 = bytes.fromhex("2a8648ce3d030107")


VERSION_3 = bytes.fromhex("a003020102")


def altered(pem, old, new):
    """Return a certificate with other octets at one place, still well-formed."""
    octets = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    assert octets.count(old) == 1
    octets = base64.encodebytes(octets.replace(old, new))
    return b"-----BEGIN CERTIFICATE-----\n" + octets + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (P256, P256[:-1] + b"\x7f", "holds a certificate that can't be used (UnsupportedAlgorithm: Curve "),
        (VERSION_3, VERSION_3[:-1] + b"\x33", "holds no certificate in PEM, or a broken one"),
    ],
    ids=["a curve that nobody knows", "a version that nobody knows"],
)
def test_a_certificate_that_can_only_be_read_in_part_is_named(tmp_path, old, new, why):
    issued = pem.self_signed(["localhost"], NOW)
    certificate, key = written(tmp_path, issued)
    certificate.write_bytes(altered(issued.chain_pem, old, new))
    assert refusal(certificate, key).startswith(f"--tls-cert: {certificate}: {why}")


def test_certificate_and_key_in_each_others_place_are_named(tmp_path, authority):
    certificate, key = written(tmp_path, authority.issue("router.test"))
    assert refusal(key, certificate) == f"--tls-cert: {key}: holds no certificate in PEM, or a broken one"


def test_a_key_of_another_certificate_is_named(tmp_path, authority):
    certificate, key = written(tmp_path, authority.issue("router.test"))
    key.write_bytes(authority.issue("router.test").key_pem)
    assert refusal(certificate, key) == f"--tls-key: {key}: is not the key of the first certificate in {certificate}"


def test_a_chain_in_the_wrong_order_is_named(tmp_path, authority):
    certificate, key = written(tmp_path, authority.issue("router.test"))
    certificate.write_bytes(authority.root_pem + certificate.read_bytes())
    assert refusal(certificate, key) == f"--tls-key: {key}: is not the key of the first certificate in {certificate}"


@pytest.mark.parametrize("form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_named_and_never_asks_for_its_passphrase(tmp_path, authority, form):
    private = ec.generate_private_key(ec.SECP256R1())
    certificate, key = written(tmp_path, authority.issue("router.test", key=private))
    hidden = serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, hidden))
    assert refusal(certificate, key) == f"--tls-key: {key}: the key is encrypted; give it without a passphrase"


def test_a_key_that_openssl_finds_too_short_is_named(tmp_path, authority):
    certificate, key = written(tmp_path, authority.issue("router.test", key=rsa.generate_private_key(65537, 1024)))  # noqa: S505
    assert refusal(certificate, key) == f"--tls-cert: {certificate}: OpenSSL refuses it (EE_KEY_TOO_SMALL)"


def test_authorities_by_file(tmp_path, authority):
    other = Authority()
    path = tmp_path / "ca.crt"
    path.write_bytes(b"# ours\n" + authority.root_pem + b"# theirs\n" + other.root_pem)
    assert pem.load_authorities(path) == authority.root_pem + other.root_pem


def authority_refusal(path):
    with pytest.raises(CredentialsError) as caught:
        pem.load_authorities(path)
    return str(caught.value)


def test_authorities_that_can_not_be_used_are_named(tmp_path, authority, monkeypatch):
    path = tmp_path / "ca.crt"
    assert authority_refusal(path) == f"--tls-client-ca: {path}: No such file or directory"
    os.mkfifo(tmp_path / "fifo")
    assert authority_refusal(tmp_path / "fifo").endswith("/fifo: is a FIFO (a named pipe), not a regular file")
    for kind in NO_PEM.values():
        path.write_bytes(kind(authority.root_pem))
        assert authority_refusal(path) == f"--tls-client-ca: {path}: holds no certificate in PEM, or a broken one"
    path.write_bytes(authority.root_pem)

    def refuse(*_arguments, **_options):
        error = ssl.SSLError()
        error.reason = "UNSUPPORTED"
        raise error

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", refuse)
    assert authority_refusal(path) == f"--tls-client-ca: {path}: OpenSSL refuses it (UNSUPPORTED)"
