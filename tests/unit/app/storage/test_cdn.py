"""URLs for CDNs, each checked by a verification written from its vendor's specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from app.config.cdn import read_cdn
from app.errors import SettingsError
from app.storage.cdn import CloudCdn, signer

if TYPE_CHECKING:
    from pathlib import Path

    from app.storage.cdn import Signer

KEY = "0199aaaa/0199 ü/1/0.png"
EXPIRES = 2_000_000_000
SECRET = bytes(range(16))


def unused(key: str, expires: int) -> str:
    """A store that is not asked."""
    raise AssertionError(key, expires)


def made(kind: str, key_file: Path | None = None, **fields: str) -> Signer:
    """The signer of a setting."""
    said = {"kind": kind, "url": "https://cdn.test/base", **fields}
    cdn = read_cdn(json.dumps(said | ({"key_file": str(key_file)} if key_file else {})))
    assert cdn is not None
    return signer(cdn, unused)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as operators have it."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def cloudfront_allows(
    url: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, now: int
) -> bool:
    """What an edge does: rebuild or read the policy, check signature, resource and time."""
    base, _, query = url.partition("?")
    given = {name: values[0] for name, values in parse_qs(query).items()}

    def raw(text: str) -> bytes:
        return base64.b64decode(text.replace("-", "+").replace("_", "=").replace("~", "/"))

    if "Policy" in given:
        policy = raw(given["Policy"])
    else:
        policy = (
            '{"Statement":[{"Resource":"' + base + '","Condition":{"DateLessThan":'
            '{"AWS:EpochTime":' + given["Expires"] + "}}}]}"
        ).encode()
    assert given["Hash-Algorithm"] == "SHA256"
    assert given["Key-Pair-Id"] == "K123"
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            key.public_key().verify(
                raw(given["Signature"]), policy, padding.PKCS1v15(), hashes.SHA256()
            )
        else:
            key.public_key().verify(raw(given["Signature"]), policy, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    (statement,) = json.loads(policy)["Statement"]
    resource = statement["Resource"]
    fits = base.startswith(resource[:-1]) if resource.endswith("*") else base == resource
    return fits and now < statement["Condition"]["DateLessThan"]["AWS:EpochTime"]


@pytest.mark.parametrize("policy", ["canned", "custom"])
@pytest.mark.parametrize("key", [RSA, EC], ids=["rsa", "ecdsa"])
def test_cloudfront(
    tmp_path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, policy: str
) -> None:
    """Good until its second, for its object or its job's, and for nothing else."""
    file = tmp_path / "key.pem"
    file.write_bytes(pem(key))
    url = made("cloudfront", file, key_id="K123", policy=policy)(KEY, EXPIRES)
    assert url.startswith("https://cdn.test/base/0199aaaa/0199%20%C3%BC/1/0.png?")
    assert cloudfront_allows(url, key, EXPIRES - 1)
    assert not cloudfront_allows(url, key, EXPIRES)
    assert cloudfront_allows(url.replace("/0.png", "/1.png"), key, 0) == (policy == "custom")
    assert not cloudfront_allows(url.replace("0199aaaa", "0199aaab"), key, 0)
    stranger = isinstance(key, rsa.RSAPrivateKey) and rsa.generate_private_key(65537, 2048)
    assert not cloudfront_allows(url, stranger or ec.generate_private_key(ec.SECP256R1()), 0)


def cloudcdn_allows(url: str, now: int) -> bool:
    """What an edge does: the signature is over all before it, or over the policy alone."""
    signed, _, signature = url.rpartition("&Signature=")
    given = {name: values[0] for name, values in parse_qs(urlsplit(signed).query).items()}
    if "URLPrefix" in given:
        prefix = base64.urlsafe_b64decode(given["URLPrefix"]).decode()
        if not url.startswith(prefix):
            return False
        signed = signed.partition("?")[2]
    assert given["KeyName"] == "k1"
    digest = hmac.new(SECRET, signed.encode(), hashlib.sha1).digest()
    ours = base64.urlsafe_b64encode(digest).decode()
    return ours == signature and now < int(given["Expires"])


@pytest.mark.parametrize("policy", ["url", "prefix"])
def test_cloud_cdn(tmp_path: Path, policy: str) -> None:
    """Good until its second, for its object or its job's, and for nothing else."""
    file = tmp_path / "key"
    file.write_bytes(base64.urlsafe_b64encode(SECRET) + b"\n")
    url = made("cloudcdn", file, key_name="k1", policy=policy)(KEY, EXPIRES)
    assert cloudcdn_allows(url, EXPIRES - 1)
    assert not cloudcdn_allows(url, EXPIRES)
    assert cloudcdn_allows(url.replace("/0.png", "/1.png"), 0) == (policy == "prefix")
    assert not cloudcdn_allows(url.replace("0199aaaa", "0199aaab"), 0)
    assert not cloudcdn_allows(url.replace(str(EXPIRES), str(EXPIRES + 1)), 0)


def test_cloud_cdn_cookie(tmp_path: Path) -> None:
    """The policy with colons, signed as it stands before the signature."""
    file = tmp_path / "key"
    file.write_bytes(base64.urlsafe_b64encode(SECRET))
    signs = made("cloudcdn", file, key_name="k1")
    assert isinstance(signs, CloudCdn)
    policy, _, signature = signs.cookie("0199aaaa", EXPIRES).rpartition(":Signature=")
    fields = dict(each.split("=", 1) for each in policy.split(":"))
    assert base64.urlsafe_b64decode(fields["URLPrefix"]) == b"https://cdn.test/base/0199aaaa/"
    assert (fields["Expires"], fields["KeyName"]) == (str(EXPIRES), "k1")
    digest = hmac.new(SECRET, policy.encode(), hashlib.sha1).digest()
    assert signature == base64.urlsafe_b64encode(digest).decode()


def test_front_door() -> None:
    """The blob's own path and SAS, at the CDN's host."""
    cdn = read_cdn('{"kind": "frontdoor", "url": "https://x.azurefd.net/"}')
    assert cdn is not None
    asked = []

    def presign(key: str, expires: int) -> str:
        asked.append((key, expires))
        return f"https://acc.blob.core.windows.net/images/{key}?sp=r&sig=a%2Bb%3D"

    url = signer(cdn, presign)("t/j/1/0.png", EXPIRES)
    assert url == "https://x.azurefd.net/images/t/j/1/0.png?sp=r&sig=a%2Bb%3D"
    assert asked == [("t/j/1/0.png", EXPIRES)]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "JSON"),
        ("[]", "kind"),
        ('{"kind": "akamai"}', "kind"),
        ('{"kind": "frontdoor"}', "url"),
        ('{"kind": "frontdoor", "url": "http://x"}', "https"),
        ('{"kind": "frontdoor", "url": "https://x", "key_id": "1"}', "key_id"),
        ('{"kind": "cloudfront", "url": "https://x", "key_file": "f"}', "key_id"),
        ('{"kind": "cloudcdn", "url": "https://x", "key_name": "k", "key_file": ""}', "key_file"),
        ('{"kind": "cloudcdn", "url": "https://x", "key_name": "k", "key_file": "f", "policy": "x"}',
         "policy"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named(text: str, named: str) -> None:
    """The start is stopped by a line that says what to mend."""
    with pytest.raises(SettingsError, match=f"RENDERFARM_CDN.*{named}"):
        read_cdn(text)


@pytest.mark.parametrize("content", [None, b"", b"no key", base64.urlsafe_b64encode(bytes(15))])
@pytest.mark.parametrize("kind", ["cloudfront", "cloudcdn"])
def test_a_bad_key_is_named(tmp_path: Path, kind: str, content: bytes | None) -> None:
    """So is a key file that is not there, or holds something else."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match="key_file"):
        made(kind, file, **{"key_id" if kind == "cloudfront" else "key_name": "K"})


def test_nothing_set_is_no_cdn() -> None:
    """Without the variable the store's own URLs are given out."""
    assert read_cdn("") is None
