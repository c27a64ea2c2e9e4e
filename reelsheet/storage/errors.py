"""What can go wrong with storage, as typed exceptions.

    ReelsheetError
    └── StorageError            a bucket or folder did not do what was asked; exit code 3
        ├── ObjectMissing       there is no such object
        ├── ObjectExists        something has this key already, and was left as it is
        ├── ObjectConflict      the same, and it belongs to something else: it is never overwritten
        └── ObjectCorrupted     what is stored differs from what was sent

One clip's failure is a `clip_copy.ClipError`; what is wrong with the bytes of a clip is an `mp4.Mp4Error`.
"""

from reelsheet.errors import ReelsheetError


class StorageError(ReelsheetError):
    """`systemic`: every row will meet it. `transient`: the same request may work soon. `code`: as S3 names it."""

    exit_code = 3

    def __init__(self, message: str, *, systemic: bool = False, transient: bool = False, code: str = "") -> None:
        super().__init__(message)
        self.systemic = systemic
        self.transient = transient
        self.code = code


class ObjectMissing(StorageError):
    """There is no such object."""


class ObjectExists(StorageError):
    """Something has this key already, and was left as it is: find out whose it is."""


class ObjectConflict(StorageError):
    """Something else has this key. It is never overwritten."""


class ObjectCorrupted(StorageError):
    """What is stored differs from what was sent."""
