"""Content credentials (C2PA), verified with the library's own reader."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.errors import SettingsError
from workers.images.credentials import Credentials
from workers.images.encode import CONTENT_TYPES, encode
from workers.images.provenance import SOURCE_TYPE, Provenance

if TYPE_CHECKING:
    from pathlib import Path

c2pa = pytest.importorskip("c2pa", reason="c2pa-python is not installed")
PIXELS = (np.arange(64 * 64 * 3) % 256).astype(np.uint8).reshape(64, 64, 3)
ABOUT = Provenance({"model": "scenes", "prompt": "a red circle", "seed": 7})


def _name(text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"),
         x509.NameAttribute(NameOID.COMMON_NAME, text)]
    )  # fmt: skip


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Issue what C2PA requires: an authority, or an end-entity for e-mail protection."""
    authority = name == issuer
    now = datetime.now(UTC)
    public = by.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name)).issuer_name(_name(issuer)).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=authority, crl_sign=authority,
                content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
    )  # fmt: skip
    if not authority:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(by, hashes.SHA256())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of an operator's certificate chain and key."""
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = [_certificate("farm", leaf, "root", root), _certificate("root", root, "root", root)]
    folder = tmp_path_factory.mktemp("c2pa")
    pem = serialization.Encoding.PEM
    (folder / "chain.pem").write_bytes(b"".join(each.public_bytes(pem) for each in chain))
    (folder / "key.pem").write_bytes(
        leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "chain.pem", folder / "key.pem"


def read(data: bytes, content_type: str) -> dict[str, Any]:
    """Read a file's credentials with the library."""
    with c2pa.Reader(content_type, io.BytesIO(data)) as reader:
        report: dict[str, Any] = json.loads(reader.json())
    return report


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_a_signed_file_names_its_maker(files: tuple[Path, Path], kind: str) -> None:
    """The reader finds the statement, and no fault except that it does not trust the authority."""
    data = encode(PIXELS, kind, None, ABOUT)
    signed = Credentials.load(*files).sign(data, CONTENT_TYPES[kind], ABOUT)
    report = read(signed, CONTENT_TYPES[kind])
    manifest = report["manifests"][report["active_manifest"]]
    (actions,) = [a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")]
    (created,) = actions["data"]["actions"]
    assert (created["action"], created["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE)
    assert created["parameters"]["seed"] == "7"
    assert manifest["signature_info"]["issuer"] == "Test"
    faults = {each["code"] for each in report.get("validation_status", [])}
    assert faults <= {"signingCredential.untrusted"}


def test_a_changed_file_is_detected(files: tuple[Path, Path]) -> None:
    """A change of the pixels invalidates the credentials."""
    data = encode(PIXELS, "jpeg", None, ABOUT)
    signed = bytearray(Credentials.load(*files).sign(data, "image/jpeg", ABOUT))
    signed[-20] ^= 1
    faults = {each["code"] for each in read(bytes(signed), "image/jpeg")["validation_status"]}
    assert "assertion.dataHash.mismatch" in faults


def test_files_that_cannot_sign_are_refused_at_the_start(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """A missing file, an empty key and an empty chain raise an error that names the variables."""
    chain, key = files
    empty = tmp_path / "empty"
    empty.write_text("")
    for pair in ((chain, tmp_path / "nowhere"), (chain, empty), (empty, key)):
        with pytest.raises(SettingsError, match="RENDERFARM_C2PA"):
            Credentials.load(*pair)
