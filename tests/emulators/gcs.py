"""A Google Cloud Storage for tests: the XML API, as obstore speaks it.

    python -m tests.emulators.gcs --port 4443 --key key.json
    export STORAGE_EMULATOR_HOST=http://127.0.0.1:4443
    export GOOGLE_SERVICE_ACCOUNT=key.json

It writes a service account's key of its own making, and checks by it the signature (V4) of every
URL that has one, over the Host that was sent (obstore signs for storage.googleapis.com, whatever
the endpoint is); other requests need a bearer token, whatever it says. Buckets are there as soon
as they are named, and list their objects without folders. No versions, no generations, no ACLs.

See https://cloud.google.com/storage/docs/xml-api/overview and, for signed URLs,
https://cloud.google.com/storage/docs/authentication/canonical-requests.
"""
# ruff: noqa: T201 - a program that says where it listens

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEPT = ("content-type", "cache-control", "content-disposition", "x-goog-storage-class")
MAX_KEYS = 1000
EMAIL = "farm@test.iam.gserviceaccount.com"


@dataclass(frozen=True, slots=True)
class Held:
    """An object: its bytes, and the headers that it was stored with."""

    data: bytes
    headers: dict[str, str]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        """As GCS makes it for an object that came in one piece."""
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class Gcs(ThreadingHTTPServer):
    """Objects by their path, `/bucket/name`, and the key that signs for them."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.objects: dict[str, Held] = {}
        self.uploads: dict[str, tuple[dict[str, str], dict[int, bytes]]] = {}
        self.key = rsa.generate_private_key(65537, 2048)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def service_account(self) -> str:
        """The JSON of a service account's key."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        fields = {
            "type": "service_account",
            "private_key": private.decode(),
            "private_key_id": "1",
            "client_email": EMAIL,
            "gcs_base_url": self.url,
        }
        return json.dumps(fields)

    def allows(self, method: str, target: str, host: str) -> bool:
        """Whether the signature in a URL is by our key, over this request, and not too old."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        signature = bytes.fromhex(query.pop("X-Goog-Signature"))
        began = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if datetime.now(UTC) >= began + timedelta(seconds=int(query["X-Goog-Expires"])):
            return False
        pairs = sorted((quote(k, "-_.~"), quote(v, "-_.~")) for k, v in query.items())
        request = "\n".join(
            (method, url.path, "&".join(f"{k}={v}" for k, v in pairs), f"host:{host}\n", "host",
             "UNSIGNED-PAYLOAD")
        )  # fmt: skip
        scope = query["X-Goog-Credential"].partition("/")[2]
        digest = hashlib.sha256(request.encode()).hexdigest()
        signed = f"GOOG4-RSA-SHA256\n{query['X-Goog-Date']}\n{scope}\n{digest}".encode()
        try:
            self.key.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


class Handler(BaseHTTPRequestHandler):
    """PUT, GET, HEAD and DELETE of one object, and its upload in parts."""

    server: Gcs
    protocol_version = "HTTP/1.1"

    def _do(self) -> None:  # noqa: PLR0911 - each answer has its line
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        url = urlsplit(self.path)
        if "X-Goog-Signature" in url.query:
            if not self.server.allows(self.command, self.path, self.headers["host"]):
                return self._answer(403, b"SignatureDoesNotMatch")
        elif not self.headers.get("authorization", "").startswith("Bearer "):
            return self._answer(401, b"AuthenticationRequired")
        name, query = unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True))
        kept = {h: self.headers[h] for h in KEPT if h in self.headers}
        if "uploads" in query or "uploadId" in query:
            return self._upload(name, query, kept, body)
        if "list-type" in query:
            return self._answer(200, self._listed(name, query))
        if self.command == "PUT":
            self.server.objects[name] = Held(body, kept)
            return self._answer(200, b"", etag=self.server.objects[name].etag)
        held = self.server.objects.get(name)
        if held is None:
            return self._answer(404, b"NoSuchKey")
        if self.command == "DELETE":
            del self.server.objects[name]
            return self._answer(204, b"")
        modified = self.date_time_string(held.at.timestamp())
        return self._answer(
            200, held.data, etag=held.etag, **{"last-modified": modified, **held.headers}
        )

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _do  # noqa: N815 - the library's names

    def _listed(self, bucket: str, query: dict[str, str]) -> bytes:
        """A page of the objects below a prefix, by name, after the name that is the token."""
        below, after = f"{bucket}/{query['prefix']}", query.get("continuation-token", "")
        held = sorted(each for each in self.server.objects.items() if each[0].startswith(below))
        left = [(name.removeprefix(f"{bucket}/"), each) for name, each in held if name > after]
        most = int(query.get("max-keys", MAX_KEYS))
        page = "".join(_entry(name, each) for name, each in left[:most])
        if len(left) > most:
            last = escape(f"{bucket}/{left[most - 1][0]}")
            page += f"<NextContinuationToken>{last}</NextContinuationToken>"
        return f"<ListBucketResult>{page}</ListBucketResult>".encode()

    def _upload(self, name: str, query: dict[str, str], kept: dict[str, str], body: bytes) -> None:
        """Begin an upload in parts, take a part, or put the parts together."""
        uploads = self.server.uploads
        if "uploads" in query:
            number = str(len(uploads))
            uploads[number] = (kept, {})
            return self._answer(200, _xml("InitiateMultipartUploadResult", UploadId=number))
        headers, parts = uploads[query["uploadId"]]
        if self.command == "PUT":
            parts[int(query["partNumber"])] = body
            return self._answer(200, b"", etag=f'"{query["partNumber"]}"')
        held = Held(b"".join(data for _, data in sorted(parts.items())), headers)
        self.server.objects[name] = held
        return self._answer(200, _xml("CompleteMultipartUploadResult", ETag=held.etag))

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _entry(name: str, held: Held) -> str:
    said = {"Key": name, "Size": str(len(held.data)), "ETag": held.etag}
    said["LastModified"] = held.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"<Contents>{_fields(said)}</Contents>"


def _fields(said: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in said.items())


def _xml(kind: str, **fields: str) -> bytes:
    return f"<{kind}><Bucket>b</Bucket><Key>k</Key>{_fields(fields)}</{kind}>".encode()


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.gcs", description=__doc__)
    parser.add_argument("--port", type=int, default=4443)
    parser.add_argument("--key", type=Path, required=True, help="where to write the key")
    arguments = parser.parse_args()
    with Gcs(arguments.port) as server:
        arguments.key.write_text(server.service_account())
        print(f"STORAGE_EMULATOR_HOST={server.url}", flush=True)
        print(f"GOOGLE_SERVICE_ACCOUNT={arguments.key}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
