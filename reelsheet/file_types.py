"""What a file is, by its first bytes. The one table of magic bytes, for pictures, clips and error pages alike."""

import re
from typing import Final

ZIP: Final = "a ZIP or Office file"
OLD_OFFICE: Final = "an old Office file"
EMPTY: Final = "an empty file"
WEB_PAGE: Final = "a web page"
JPEG: Final = "a JPEG picture"
PNG: Final = "a PNG picture"
GIF: Final = "a GIF picture"
WEBP: Final = "a WebP picture"
VIDEO: Final = "a video"  # ISO base media that is no still picture and no QuickTime movie: an MP4, as a rule
MESSAGES: Final = frozenset((WEB_PAGE, "JSON text", "an XML or web page"))  # what servers send in place of a file
TEXTS: Final = MESSAGES | {"text"}

_MAGIC: Final = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"%PDF-", "a PDF file"),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"PK\x07\x08", "a part of a divided zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh91AY", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLD_OFFICE),
    (b"{\\rtf", "a text document (RTF)"),
    (b"PAR1\x15", "a Parquet file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x01\x00", "an icon file"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\x1aE\xdf\xa3", "a WebM or Matroska video"),
    (b"FLV\x01", "a Flash video"),
    (b"0&\xb2u\x8ef\xcf\x11", "a Windows Media video"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
    (b"\x00\x00\x01\xb3", "an MPEG video stream"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 sound file"),
    (b"#EXTM3U", "a streaming playlist"),
)
_RIFF: Final = {b"AVI ": "an AVI video", b"WEBP": WEBP, b"WAVE": "a WAV sound file"}
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "a HEIC picture"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"),
    b"qt  ": "a QuickTime movie (.mov)",
}
PICTURES_AND_FILMS: Final = frozenset((JPEG, PNG, GIF, WEBP, VIDEO, *_BRANDS.values()))  # no text begins like them
_OLD_QUICKTIME: Final = frozenset((b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
_PAGE: Final = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|meta|script)\b",
    re.IGNORECASE | re.DOTALL,
)
_SVG: Final = re.compile(rb"<svg[\s>]", re.IGNORECASE)


def describe(head: bytes) -> str:
    """What begins with `head` ("a JPEG picture"); 64 bytes tell most kinds, 2 KB every one. Never raises."""
    if not head:
        return EMPTY
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], VIDEO)
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "a RIFF file")
    if name := next((name for magic, name in _MAGIC if head.startswith(magic)), None):
        return name
    if head[4:8] in _OLD_QUICKTIME:
        return "an old QuickTime movie (.mov)"
    return _describe_text(head[:2048].removeprefix(b"\xef\xbb\xbf"))


def _describe_text(start: bytes) -> str:
    if _PAGE.match(start):
        return WEB_PAGE
    if _SVG.search(start):
        return "an SVG drawing"
    is_text = all(byte >= 0x20 or byte in b"\t\r\n\f" for byte in start)
    first = start.lstrip()[:1]
    if first in (b"{", b"[") and is_text:
        return "JSON text"
    if first == b"<":
        return "an XML or web page"
    return "text" if is_text else "an unknown kind of file"
