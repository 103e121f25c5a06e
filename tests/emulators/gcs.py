"""Emulator of Google Cloud Storage for tests: the part of the XML API that obstore uses.

    python -m tests.emulators.gcs --port 4443 --key key.json
    export STORAGE_EMULATOR_HOST=http://127.0.0.1:4443
    export GOOGLE_SERVICE_ACCOUNT=key.json

It makes a service account with a key, and writes the key to a file. It checks the signature (V4)
of every presigned URL with that key, over the Host header of the request (obstore signs for
storage.googleapis.com with any endpoint). Other requests need a bearer token; any token is valid.
A bucket exists as soon as it is named, and lists its objects without folders. There are no
versions, generations or ACLs.

See https://cloud.google.com/storage/docs/xml-api/overview and, for signed URLs,
https://cloud.google.com/storage/docs/authentication/canonical-requests.
"""
# ruff: noqa: T201 - a program that prints its address

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

STORED_HEADERS = ("content-type", "cache-control", "content-disposition", "x-goog-storage-class")
MAX_KEYS = 1000
EMAIL = "farm@test.iam.gserviceaccount.com"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object: its bytes and its stored headers."""

    data: bytes
    headers: dict[str, str]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        """The ETag that GCS gives to an object that was uploaded in one part."""
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class Gcs(ThreadingHTTPServer):
    """Stores objects by their path, `/bucket/name`, and has the key that signs URLs."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, tuple[dict[str, str], dict[int, bytes]]] = {}
        self.key = rsa.generate_private_key(65537, 2048)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def service_account(self) -> str:
        """Return the JSON of a service account's key."""
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
        """Whether the URL's signature is by our key, for this request, and has not expired."""
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
        headers = {h: self.headers[h] for h in STORED_HEADERS if h in self.headers}
        if "uploads" in query or "uploadId" in query:
            return self._upload(name, query, headers, body)
        if "list-type" in query:
            return self._answer(200, self._listed(name, query))
        if self.command == "PUT":
            self.server.objects[name] = StoredObject(body, headers)
            return self._answer(200, b"", etag=self.server.objects[name].etag)
        stored = self.server.objects.get(name)
        if stored is None:
            return self._answer(404, b"NoSuchKey")
        if self.command == "DELETE":
            del self.server.objects[name]
            return self._answer(204, b"")
        modified = self.date_time_string(stored.at.timestamp())
        return self._answer(
            200, stored.data, etag=stored.etag, **{"last-modified": modified, **stored.headers}
        )

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _do  # noqa: N815 - the library's names

    def _listed(self, bucket: str, query: dict[str, str]) -> bytes:
        """Return a page of the objects below a prefix, in order of name; the token is a name."""
        prefix, after = f"{bucket}/{query['prefix']}", query.get("continuation-token", "")
        stored = sorted(each for each in self.server.objects.items() if each[0].startswith(prefix))
        remaining = [
            (name.removeprefix(f"{bucket}/"), each) for name, each in stored if name > after
        ]
        limit = int(query.get("max-keys", MAX_KEYS))
        page = "".join(_entry(name, each) for name, each in remaining[:limit])
        if len(remaining) > limit:
            last = escape(f"{bucket}/{remaining[limit - 1][0]}")
            page += f"<NextContinuationToken>{last}</NextContinuationToken>"
        return f"<ListBucketResult>{page}</ListBucketResult>".encode()

    def _upload(
        self, name: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> None:
        """Begin a multipart upload, store a part, or join the parts."""
        uploads = self.server.uploads
        if "uploads" in query:
            number = str(len(uploads))
            uploads[number] = (headers, {})
            return self._answer(200, _xml("InitiateMultipartUploadResult", UploadId=number))
        headers, parts = uploads[query["uploadId"]]
        if self.command == "PUT":
            parts[int(query["partNumber"])] = body
            return self._answer(200, b"", etag=f'"{query["partNumber"]}"')
        stored = StoredObject(b"".join(data for _, data in sorted(parts.items())), headers)
        self.server.objects[name] = stored
        return self._answer(200, _xml("CompleteMultipartUploadResult", ETag=stored.etag))

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def _entry(name: str, stored: StoredObject) -> str:
    fields = {"Key": name, "Size": str(len(stored.data)), "ETag": stored.etag}
    fields["LastModified"] = stored.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"<Contents>{_fields(fields)}</Contents>"


def _fields(fields: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())


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
