"""The cluster's authority, the API server's certificate, the key of ServiceAccount tokens, and the kubeconfig."""

import base64
import csv
import datetime
import ipaddress
import json
import time
from pathlib import Path
from typing import Final, NamedTuple

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from deploy.lab.network import API_SERVICE, DOMAIN, NODE_ADDRESS

API: Final = f"https://{NODE_ADDRESS}:6443"
ISSUER: Final = f"https://kubernetes.default.svc.{DOMAIN}"
# Of a cluster that lives for minutes on no network but its own.
ADMIN_TOKEN: Final = "admin-of-the-lab"  # noqa: S105
_YEAR: Final = datetime.timedelta(days=365)


class Files(NamedTuple):
    """Where everything is."""

    authority: Path
    certificate: Path
    key: Path
    account_key: Path
    account_public: Path
    tokens: Path
    kubeconfig: Path


def files(folder: Path) -> Files:
    """Return the files' names in a folder."""
    names = ("ca.crt", "api.crt", "api.key", "accounts.key", "accounts.pub", "tokens.csv", "kubeconfig")
    return Files(*(folder / name for name in names))


def write(folder: Path) -> Files:
    """Make everything anew."""
    folder.mkdir(parents=True, exist_ok=True)
    found = files(folder)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("bbr lab", authority_key, authority_key, "bbr lab", [], authority=True)
    found.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.DNSName(name)
        for name in (
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{DOMAIN}",
        )
    ]
    names += [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", NODE_ADDRESS, API_SERVICE)]
    certificate = _certificate("kube-apiserver", key, authority_key, "bbr lab", names, authority=False)
    found.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(found.key, key)
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_key(found.account_key, accounts)
    found.account_public.write_bytes(
        accounts.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with found.tokens.open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerow([ADMIN_TOKEN, "admin", "1", "system:masters"])
    found.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(found.authority)), "utf-8")
    return found


def account_token(found: Files, namespace: str, account: str, uid: str, seconds: int) -> str:
    """Return a ServiceAccount's token as the API server makes it, but for any time: its own last 10 minutes at least.

    Args:
        found: with the key that signs.
        namespace: of the account.
        account: its name.
        uid: the account object's.
        seconds: of life from now on; less than 0: it has expired.
    """
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": [ISSUER],
        "sub": f"system:serviceaccount:{namespace}:{account}",
        "iat": now - 3600,
        "nbf": now - 3600,
        "exp": now + seconds,
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": uid}},
    }
    signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    key = serialization.load_pem_private_key(found.account_key.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return f"{signed}.{_base64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    issuer: str,
    names: list[x509.GeneralName],
    *,
    authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _YEAR)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path.chmod(0o600)


def _kubeconfig(authority: Path) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": API, "certificate-authority": str(authority)}}],
        "users": [{"name": "admin", "user": {"token": ADMIN_TOKEN}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
    }
