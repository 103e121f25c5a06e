"""API keys and webhook secrets, as strings."""

from __future__ import annotations

import base64
import hashlib

from app.tenants.keys import hash_of, new_key
from app.tenants.webhook_secrets import new_secret


def test_a_key_has_the_prefix_and_256_random_bits() -> None:
    """Two keys differ, and each is `rf_` and 32 bytes in URL-safe base64."""
    key = new_key()
    assert key != new_key()
    assert key.startswith("rf_")
    assert len(base64.urlsafe_b64decode(key.removeprefix("rf_") + "=")) == 32


def test_the_hash_of_a_key_is_its_sha256() -> None:
    """The stored hash is 32 bytes of SHA-256 over the whole key."""
    assert hash_of("rf_x") == hashlib.sha256(b"rf_x").digest()


def test_a_webhook_secret_has_256_random_bits() -> None:
    """Two secrets differ, and each is `whsec_` and 32 bytes in base64."""
    secret = new_secret()
    assert secret != new_secret()
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
