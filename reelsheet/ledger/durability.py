"""Whether a ledger outlives the process that writes it: a file inside a container is gone with the container."""

import os
from pathlib import Path
from typing import Final

from reelsheet.errors import ConfigurationError
from reelsheet.settings import state_home

MOUNTS: Final = Path("/proc/self/mounts")
SIGNS: Final = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")
VARIABLES: Final = ("KUBERNETES_SERVICE_HOST", "ECS_CONTAINER_METADATA_URI_V4")
FLEETING: Final = frozenset({"overlay", "fuse.fuse-overlayfs", "aufs", "tmpfs", "ramfs"})


def check(ledger_url: str | None) -> None:
    """Raises ConfigurationError for a ledger that would be lost with this container; nothing was spent."""
    path = file_of(ledger_url)
    if path is not None and not is_persistent(path):
        raise ConfigurationError(
            f"The ledger {path} is on this container's own disk and would be lost with it: "
            "set REELSHEET_LEDGER_URL=postgresql://…, or mount a volume there. Nothing was spent."
        )


def file_of(ledger_url: str | None) -> Path | None:
    """The file of a SQLite ledger; None where it is a server's, or the address is wrong."""
    if ledger_url is None:
        return state_home() / "ledger.db"
    scheme, _, rest = ledger_url.partition("://")
    return Path(rest[1:]) if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1 else None


def in_container() -> bool:
    return any(os.environ.get(name) for name in VARIABLES) or any(Path(sign).exists() for sign in SIGNS)


def is_persistent(path: Path, mounts: Path = MOUNTS) -> bool:
    """False for a SQLite file in a container whose folder is memory or the container's own layer.

    The folder decides: SQLite keeps its write-ahead log there, also where the file alone is a mount.
    """
    return not in_container() or disk_of(path.resolve().parent, mounts) not in FLEETING


def disk_of(path: Path, mounts: Path = MOUNTS) -> str:
    """The kind of file system that is mounted nearest above `path` ("ext4", "nfs4"); "" where that is not known."""
    try:
        lines = [line.split(" ") for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ""  # no such table here: no Linux
    points = [(Path(_unescaped(line[1])), line[2]) for line in lines if len(line) > 2]
    above = [(len(point.parts), kind) for point, kind in points if path.resolve().is_relative_to(point)]
    return max(reversed(above), key=lambda mount: mount[0], default=(0, ""))[1]  # of equal ones the last one covers


def _unescaped(point: str) -> str:
    r"""Mount tables write a space as \040."""
    return point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
