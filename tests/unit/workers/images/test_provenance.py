"""Provenance: the metadata in image files."""

from __future__ import annotations

import io
import json
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from workers.images.encode import CONTENT_TYPES, encode
from workers.images.provenance import SOURCE_TYPE, TAG_COMMENT, TAG_EXIF, Provenance

PIXELS = (np.arange(24 * 16 * 3) % 256).astype(np.uint8).reshape(24, 16, 3)
PROMPT = 'Bär & <fox> "7" 🐻\x07'
REQUEST = {
    "model": "scenes", "prompt": PROMPT, "negative_prompt": "", "width": 16, "height": 24,
    "num_inference_steps": 20, "guidance_scale": 5.0, "scheduler": "euler", "strength": None,
    "seed": 7, "metadata": {"order": 5},
}  # fmt: skip
LI = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
SOURCE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def opened(kind: str, *, prompt: bool = True, seed: int = 8) -> Image.Image:
    """Encode a picture with its metadata, and open the file."""
    about = Provenance.of(REQUEST, seed, "abc123", prompt=prompt)
    return Image.open(io.BytesIO(encode(PIXELS, kind, None, about)))


def xmp(picture: Image.Image) -> ET.Element:
    """Return the XMP packet of a picture."""
    found = picture.info.get("XML:com.adobe.xmp") or picture.info["xmp"]
    return ET.fromstring(found if isinstance(found, str) else found.decode())  # noqa: S314 - ours


def fields_of(picture: Image.Image) -> dict[str, Any]:
    """Return the fields in a picture's metadata, as programs read them."""
    if picture.format == "PNG":
        others = {"Software", "XML:com.adobe.xmp"}
        return {str(key): text for key, text in picture.info.items() if key not in others}
    comment = picture.getexif().get_ifd(TAG_EXIF)[TAG_COMMENT]
    assert comment.startswith(b"UNICODE\0")
    fields: dict[str, Any] = json.loads(comment[8:].decode("utf-16-be"))
    return fields


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_a_file_contains_how_it_was_made(kind: str) -> None:
    """It names the revision, the request and its seed, and none of the customer's metadata."""
    fields = fields_of(opened(kind))
    assert fields["prompt"] == PROMPT
    assert {name: str(fields[name]) for name in ("model", "model_revision", "seed")} == {
        "model": "scenes", "model_revision": "abc123", "seed": "8",
    }  # fmt: skip
    assert str(fields["num_inference_steps"]) == "20"
    assert fields.keys().isdisjoint({"metadata", "order", "strength", "negative_prompt"})


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_a_file_is_marked_as_generated(kind: str) -> None:
    """The XMP contains the IPTC's digital source type, and the prompt as the description."""
    packet = xmp(opened(kind))
    (source,) = packet.iter(SOURCE)
    assert source.text == SOURCE_TYPE
    (description,) = packet.iter(LI)
    assert description.text == PROMPT.replace("\x07", " ")


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_a_tenant_can_keep_its_prompts_out_of_files(kind: str) -> None:
    """No part of the file contains the prompt; the other fields stay."""
    about = Provenance.of(REQUEST, 8, None, prompt=False)
    file = encode(PIXELS, kind, None, about)
    for text in ("Bär", "fox"):
        for encoding in ("utf-8", "utf-16-be", "latin-1"):
            assert text.encode(encoding) not in file
    assert SOURCE_TYPE.encode() in file
    assert "prompt" not in fields_of(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_the_same_job_makes_the_same_bytes(kind: str) -> None:
    """A file depends on neither time nor machine, and metadata does not change its pixels."""
    about = Provenance.of(REQUEST, 8, "abc", prompt=True)
    file = encode(PIXELS, kind, None, about)
    assert file == encode(PIXELS, kind, None, about)
    plain = Image.open(io.BytesIO(encode(PIXELS, kind)))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), np.asarray(plain))


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_lower_quality_gives_a_smaller_file(kind: str) -> None:
    """The request's quality reaches the encoder."""
    noise = np.random.default_rng(7).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert len(encode(noise, kind, 10)) < len(encode(noise, kind, 90))
