"""A picture that is a file, as a row knows it: it is known by its content, wherever it lies or was uploaded to."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

FOLDER: Final = "inputs"  # below the destination
ENDINGS: Final = {"jpeg": "jpg", "png": "png", "gif": "gif", "webp": "webp"}  # by kind
CONTENT_TYPES: Final = {ending: f"image/{kind}" for kind, ending in ENDINGS.items()}
_UPLOADED: Final = re.compile(rf"s3://[^/]+/(?:.+/)?{FOLDER}/([0-9a-f]{{64}})\.({'|'.join(CONTENT_TYPES)})")


@dataclass(frozen=True, slots=True)
class PictureFile:
    """`name` is the cell. `folder` and `path` (below it, with /) say where the file lies; "" where it was not found.

    `uri` is where it is uploaded to, or was; "" where the destination takes no pictures. `sha256` is of its content.
    """

    name: str
    sha256: str
    ending: str
    uri: str = ""
    folder: str = ""
    path: str = ""
    size_bytes: int = 0

    @property
    def key(self) -> str:
        """Below a destination."""
        return f"{FOLDER}/{self.sha256}.{self.ending}"

    @property
    def identity(self) -> str:
        """What stands for it where a row's identity is made."""
        return f"sha256:{self.sha256}"

    @property
    def address(self) -> str:
        """What stands for it among the addresses of pictures."""
        return self.uri or self.identity


def comparable(name: str) -> str:
    """A file's name as programs and systems may write it: capitals, Unicode form and blanks at its ends aside."""
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return composed.strip()


def uploaded(name: str, sha256: str, uri: str) -> PictureFile | None:
    """The picture that an earlier run uploaded, as its results say; None where they name no such thing."""
    match = _UPLOADED.fullmatch(uri.strip())
    return PictureFile(name, match[1], match[2], uri.strip()) if match and match[1] == sha256.strip() else None
