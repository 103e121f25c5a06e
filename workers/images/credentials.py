"""Content credentials (C2PA): a signed statement in the file that this farm generated it.

The signature uses the operator's certificate, if one is configured; see https://spec.c2pa.org. It
has no time stamp, because a worker may have no connection to a time stamping authority.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from app.errors import SettingsError
from workers.images.provenance import SOFTWARE, SOURCE_TYPE, Provenance

if TYPE_CHECKING:
    from pathlib import Path

VARIABLES = "RENDERFARM_C2PA_CERT and RENDERFARM_C2PA_KEY"
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Signs files. `chain` is the certificate, followed by its issuers, in PEM; `key` is in PEM."""

    chain: str
    key: str
    algorithm: str

    @classmethod
    def load(cls, chain_file: Path, key_file: Path) -> Credentials:
        """Read the files and sign a test image with them. Raises `SettingsError`."""
        try:
            chain, key = chain_file.read_text(), key_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{VARIABLES}: {error}") from error
        credentials = cls(chain, key, _algorithm(key))
        c2pa, blank = _library(), io.BytesIO()
        Image.new("RGB", (1, 1)).save(blank, "PNG")
        try:
            credentials.sign(blank.getvalue(), "image/png", Provenance({}))
        except c2pa.C2paError as error:
            raise SettingsError(f"{VARIABLES}: {error}") from error
        return credentials

    def sign(self, data: bytes, content_type: str, about: Provenance) -> bytes:
        """Return the file with its signed credentials inside."""
        c2pa = _library()
        signed = io.BytesIO()
        with c2pa.Builder(json.dumps(_manifest(content_type, about))) as builder:
            builder.sign(self._signer(c2pa), content_type, io.BytesIO(data), signed)
        return signed.getvalue()

    def _signer(self, c2pa: Any) -> Any:
        info = c2pa.C2paSignerInfo(self.algorithm, self.chain.encode(), self.key.encode(), None)
        return c2pa.Signer.from_info(info)


def _manifest(content_type: str, about: Provenance) -> dict[str, Any]:
    created = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": {"name": SOFTWARE},
        "parameters": {name: str(value) for name, value in about.fields.items()},
    }
    return {
        "claim_generator_info": [{"name": SOFTWARE, "version": "1"}],
        "format": content_type,
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [created]}}],
    }


def _algorithm(key: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - heavy
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        private_key = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{VARIABLES}: not a private key in PEM: {error}") from error
    if isinstance(private_key, ec.EllipticCurvePrivateKey) and private_key.curve.name in CURVES:
        return CURVES[private_key.curve.name]
    if isinstance(private_key, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise SettingsError(f"{VARIABLES}: the key must be ECDSA, RSA or Ed25519")


def _library() -> Any:
    try:
        import c2pa  # noqa: PLC0415 - optional; it takes 40 MB of memory
    except ImportError as error:
        raise SettingsError(f"{VARIABLES} need a library: pip install c2pa-python") from error
    return c2pa
