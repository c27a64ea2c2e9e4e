"""Pictures that are files of this machine: found below a folder, never outside of it, and known by their content.

A sheet may come from somebody else. So no cell can name what lies outside the folder, nothing is followed (links) or
waited for (pipes, devices), and only what is a picture by its content is ever uploaded.
"""

import difflib
import errno
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from reelsheet import file_types
from reelsheet.errors import ReelsheetError
from reelsheet.images.sniff import Picture, cautions, is_cut, sniff
from reelsheet.manifest.picture_file import ENDINGS, comparable
from reelsheet.outcomes import ErrorCode
from reelsheet.redaction import clean

LARGEST_BYTES: Final = 100_000_000  # of a file that is read at all
_HINTS: Final = 20  # missing files for which one with a similar name is looked for
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")
_NOT_THERE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ENODEV))
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PictureError(ReelsheetError):
    """A cell's file cannot be used; a sentence without the column."""

    def __init__(self, message: str, code: ErrorCode) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class FoundPicture:
    """A picture below `folder`; `path` is its place there, with /, as the folder spells it."""

    folder: str
    path: str
    sha256: str
    ending: str
    picture: Picture
    warnings: tuple[str, ...] = ()


class PictureFolder:
    """One folder with pictures. Safe in threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._names: dict[tuple[str, ...], dict[str, list[str]]] = {}  # by place and comparable name
        self._hints_left = _HINTS

    def find(self, name: str) -> FoundPicture:
        """The picture that a cell names. Raises PictureError."""
        try:
            return self._found(name, self._parts(name))
        except PictureError as error:
            plain = unquote(name)  # as links in workbooks are written
            if error.code is not ErrorCode.IMAGE_UNREACHABLE or plain == name:
                raise
            try:
                return self._found(name, self._parts(plain))
            except PictureError:
                raise error from None

    def _found(self, name: str, wanted: Sequence[str]) -> FoundPicture:
        with self._open(wanted) as (handle, parts):
            content = _read(handle, "/".join(parts))
        picture = _checked(content, "/".join(parts))
        warnings = list(cautions(picture))
        if [_composed(part) for part in parts] != [_composed(part) for part in wanted]:
            warnings.insert(0, f"'{clean(name, limit=80)}' was read as the file '{clean('/'.join(parts), limit=80)}'.")
        return FoundPicture(
            str(self.folder),
            "/".join(parts),
            hashlib.sha256(content).hexdigest(),
            ENDINGS[picture.kind],
            picture,
            tuple(warnings),
        )

    def read(self, path: str, sha256: str) -> bytes:
        """The content of a picture that was found here. Raises PictureError where it is not the same any more."""
        with self._open(path.split("/")) as (handle, _):
            content = _read(handle, path)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise PictureError(
                f"The file {self._shown(path)} was changed after the plan was made; run the command again.",
                ErrorCode.IMAGE_UNREACHABLE,
            )
        return content

    def _parts(self, name: str) -> list[str]:
        """The names from the folder down to the file. Raises PictureError for a path that may lead out of it."""
        path = name.replace("\\", "/")
        if _DRIVE.match(name) or path.startswith("//"):
            raise _outside(name, "is a path of another computer", path)
        if path.startswith("/"):
            homes = {str(self.folder), os.path.realpath(self.folder)}
            home = next((home for home in homes if path.startswith(home.rstrip("/") + "/")), None)
            if home is None:
                raise _outside(name, f"lies outside the folder {clean(str(self.folder))}", path)
            path = path[len(home) :]
        parts = [part for part in path.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise _outside(name, f"may lead out of the folder {clean(str(self.folder))}", path)
        if not parts or path.endswith("/"):
            raise PictureError(f"'{_short(name)}' is a folder; name a picture in it.", ErrorCode.INVALID_ROW)
        return parts

    @contextmanager
    def _open(self, wanted: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """The file, open for reading, and the names on the way to it as the folder spells them."""
        shown = self._shown("/".join(wanted))
        handles = [_opened(str(self.folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, None, shown)]
        parts: list[str] = []
        try:
            for part in wanted:
                is_last = len(parts) + 1 == len(wanted)
                actual, info = self._look(handles[-1], parts, part, shown)
                _refuse(info, shown, is_last=is_last)
                flags = _OPEN if is_last else _OPEN | os.O_DIRECTORY
                handles.append(_opened(actual, flags, handles[-1], shown))
                parts.append(actual)
            _refuse(os.fstat(handles[-1]), shown, is_last=True)  # of what is open, whatever was there before
            yield handles[-1], parts
        finally:
            for handle in handles:
                os.close(handle)

    def _look(self, folder: int, above: Sequence[str], part: str, shown: str) -> tuple[str, os.stat_result]:
        """The entry named `part`, also where its capitals, blanks or Unicode form differ and it is the only one."""
        try:
            return part, os.stat(part, dir_fd=folder, follow_symlinks=False)
        except (OSError, ValueError) as error:
            if getattr(error, "errno", errno.EINVAL) not in _NOT_THERE:
                raise _unreadable(error, shown) from error
        names = self._listing(folder, above)
        alike = names.get(comparable(part), [])
        same_case = [name for name in alike if _composed(name) == _composed(part)]
        if len(same_case or alike) == 1:
            actual = (same_case or alike)[0]
            try:
                return actual, os.stat(actual, dir_fd=folder, follow_symlinks=False)
            except OSError as error:  # it was there when the folder was listed
                raise _unreadable(error, shown) from error
        if alike:
            there = " and ".join(f"'{_short(name)}'" for name in alike[:2])
            raise PictureError(
                f"'{_short(part)}' may be {there} in {clean(str(self.folder))}; write it as the file is named.",
                ErrorCode.IMAGE_UNREACHABLE,
            )
        raise PictureError(
            f"There is no file {shown}.{self._hint(part, names)} The picture's file must lie there, or the cell"
            " name another file or an https:// address.",
            ErrorCode.IMAGE_UNREACHABLE,
        )

    def _listing(self, folder: int, above: Sequence[str]) -> dict[str, list[str]]:
        if tuple(above) not in self._names:
            names: dict[str, list[str]] = {}
            for name in os.listdir(folder):  # open for reading, so it can be listed
                names.setdefault(comparable(name), []).append(name)
            self._names[tuple(above)] = names
        return self._names[tuple(above)]

    def _hint(self, part: str, names: dict[str, list[str]]) -> str:
        self._hints_left -= 1
        near = difflib.get_close_matches(comparable(part), names, 1, 0.75) if self._hints_left >= 0 else []
        return f" Did you mean '{_short(names[near[0]][0])}'?" if near else ""

    def _shown(self, path: str) -> str:
        return clean(f"{str(self.folder).rstrip('/')}/{path}", limit=300)


def _opened(name: str, flags: int, folder: int | None, shown: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except (OSError, ValueError) as error:
        raise _unreadable(error, shown) from error


def _refuse(info: os.stat_result, shown: str, *, is_last: bool) -> None:
    """Raise PictureError for anything but a folder on the way, and an ordinary file at its end."""
    if stat.S_ISLNK(info.st_mode):
        what = "is a link, or lies below one, which is not followed; put the picture itself into the folder."
    elif stat.S_ISDIR(info.st_mode) and is_last:
        what = "is a folder; name a picture in it."
    elif stat.S_ISREG(info.st_mode) if is_last else stat.S_ISDIR(info.st_mode):
        return
    elif is_last:
        what = "is a device or a pipe, not a file; name a picture."
    else:
        raise PictureError(f"There is no file {shown}; a part of its path is no folder.", ErrorCode.IMAGE_UNREACHABLE)
    raise PictureError(f"{shown} {what}", ErrorCode.INVALID_ROW)


def _read(handle: int, path: str) -> bytes:
    """All of a file. Raises PictureError for one that is larger than any picture."""
    size_bytes = os.fstat(handle).st_size
    try:
        with open(handle, "rb", closefd=False) as file:
            content = file.read(LARGEST_BYTES + 1) if size_bytes <= LARGEST_BYTES else b""
    except OSError as error:
        raise _unreadable(error, clean(path)) from error
    if max(size_bytes, len(content)) > LARGEST_BYTES:
        raise PictureError(
            f"The file {clean(path, limit=160)} has {size_bytes / 1e6:,.0f} MB, more than any provider takes;"
            " make it smaller (20 MB at most).",
            ErrorCode.IMAGE_UNSUPPORTED,
        )
    return content


def _checked(content: bytes, path: str) -> Picture:
    """What `content` shows. Raises PictureError unless it is a complete picture that the provider takes."""
    picture, file = sniff(content, total=len(content)), f"The file {clean(path, limit=160)}"
    if picture.looks_like == file_types.EMPTY:
        what = "is empty; put the picture there again."
    elif picture.kind not in ENDINGS:
        what = f"is {picture.looks_like}, which the provider does not take; save the picture as JPEG or PNG."
    elif is_cut(content, len(content), is_complete=True):
        what = "is cut off: it ends too early. Put the complete file there."
    else:
        return picture
    raise PictureError(f"{file} {what}", ErrorCode.IMAGE_UNSUPPORTED)


def _outside(name: str, what: str, path: str) -> PictureError:
    last = path.rstrip("/").rpartition("/")[2]
    return PictureError(
        f"'{_short(name)}' {what}, so it is not read; put the picture beside the sheet, or below the folder of"
        f" --pictures, and write '{_short(last)}'.",
        ErrorCode.INVALID_ROW,
    )


def _unreadable(error: Exception, shown: str) -> PictureError:
    number = getattr(error, "errno", None)
    if number in {errno.ELOOP, errno.EMLINK}:  # it became a link just now
        return PictureError(f"{shown} is a link, which is not followed.", ErrorCode.INVALID_ROW)
    if number in _NOT_THERE:
        return PictureError(f"There is no file {shown}.", ErrorCode.IMAGE_UNREACHABLE)
    if isinstance(error, PermissionError):
        return PictureError(
            f"The file {shown} may not be read by this user; change its permissions.", ErrorCode.IMAGE_UNREACHABLE
        )
    reason = getattr(error, "strerror", None) or "its name is not valid"
    return PictureError(f"The file {shown} cannot be read ({reason}).", ErrorCode.IMAGE_UNREACHABLE)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _short(text: str) -> str:
    return clean(text, limit=80)
