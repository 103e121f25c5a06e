"""Provenance: metadata in each image file (PNG text, EXIF, XMP) about how it was generated.

PNG text and EXIF hold the request for programs. XMP holds the IPTC's digital source type
`trainedAlgorithmicMedia`, which tells people and platforms that the picture is generated:
https://iptc.org/std/photometadata/specification/IPTC-PhotoMetadata#digital-source-type.
The metadata depends on neither time nor machine, so the same job gives the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

SOFTWARE = "Renderfarm"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FIELDS = (
    "model",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "scheduler",
    "strength",
)
PRIVATE = ("prompt", "negative_prompt")
"""Fields that a tenant can keep out of its files."""
TAG_SOFTWARE, TAG_DESCRIPTION, TAG_EXIF, TAG_COMMENT = 0x0131, 0x010E, 0x8769, 0x9286
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<xmp:CreatorTool>{software}</xmp:CreatorTool>
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>{description}
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
_DESCRIPTION = """
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{prompt}</rdf:li></rdf:Alt></dc:description>"""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The metadata of one picture: the request's fields, its own seed, and the model's revision."""

    fields: Mapping[str, Any]

    @classmethod
    def of(
        cls, request: Mapping[str, Any], seed: int, revision: str | None, *, prompt: bool
    ) -> Provenance:
        """Collect the metadata of the picture with this seed; prompts only with `prompt`."""
        names = (*PRIVATE, *FIELDS) if prompt else FIELDS
        fields = {name: request[name] for name in names if request.get(name) not in {None, ""}}
        return cls(fields | {"seed": seed} | ({"model_revision": revision} if revision else {}))

    @property
    def prompt(self) -> str | None:
        """The prompt, or None if the file must not contain it."""
        return self.fields.get("prompt")

    @property
    def as_json(self) -> str:
        """All fields as a JSON object."""
        return json.dumps(self.fields, ensure_ascii=False, sort_keys=True)

    @property
    def xmp(self) -> bytes:
        """The XMP packet."""
        text = _printable(self.prompt) if self.prompt else ""
        description = _DESCRIPTION.format(prompt=escape(text)) if text else ""
        return _XMP.format(software=SOFTWARE, source=SOURCE_TYPE, description=description).encode()

    def options(self, output_format: str) -> dict[str, Any]:
        """The options for Pillow's `save` in this format."""
        if output_format == "png":
            return {"pnginfo": self._png()}
        return {"exif": self._exif(), "xmp": self.xmp}

    def _png(self) -> PngInfo:
        info = PngInfo()
        info.add_text("Software", SOFTWARE)
        for name, value in self.fields.items():
            info.add_itxt(name, str(value))
        info.add_itxt("XML:com.adobe.xmp", self.xmp.decode())
        return info

    def _exif(self) -> bytes:
        exif = Image.Exif()
        exif[TAG_SOFTWARE] = SOFTWARE
        if self.prompt:
            exif[TAG_DESCRIPTION] = _ascii(self.prompt)
        comment = b"UNICODE\0" + self.as_json.encode("utf-16-be")
        exif.get_ifd(TAG_EXIF)[TAG_COMMENT] = comment
        return exif.tobytes()


def _printable(text: str) -> str:
    """Replace the characters that XML cannot contain with spaces."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def _ascii(text: str) -> str:
    """Replace the characters that are not ASCII: EXIF's description allows no others."""
    return text.encode("ascii", "replace").decode()
