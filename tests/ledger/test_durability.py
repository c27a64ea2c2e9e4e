"""A ledger that would die with its container is refused."""

from pathlib import Path

import pytest

from reelsheet.errors import ConfigurationError
from reelsheet.ledger import durability

OVERLAY = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n"
VOLUME = OVERLAY + "/dev/sdb1 /data ext4 rw 0 0\n/dev/sdb1 /with\\040space ext4 rw 0 0\n"
DISK = "/dev/vda / ext4 rw 0 0\n"
NETWORK = OVERLAY + "nas:/x /mnt/nas nfs4 rw 0 0\n/dev/sda1 /mnt/nas/local ext4 rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "path", "lasts"),
    [
        (OVERLAY, "/home/reelsheet/ledger.db", False),
        (OVERLAY, "/dev/shm/ledger.db", False),
        (VOLUME, "/data/ledger.db", True),
        (VOLUME, "/database/ledger.db", False),
        (VOLUME, "/with space/ledger.db", True),
        (DISK, "/home/reelsheet/ledger.db", True),
        ("", "/home/reelsheet/ledger.db", True),
    ],
)
def test_what_is_mounted_nearest_decides(tmp_path: Path, mounts: str, path: str, lasts: bool) -> None:
    table = tmp_path / "mounts"
    table.write_text(mounts, encoding="utf-8")
    assert durability.is_persistent(Path(path), table) is lasts


@pytest.mark.parametrize(
    ("path", "kind"), [("/mnt/nas/state", "nfs4"), ("/mnt/nas/local/state", "ext4"), ("/home", "overlay")]
)
def test_the_disk_of_a_folder_is_that_of_its_nearest_mount(tmp_path: Path, path: str, kind: str) -> None:
    table = tmp_path / "mounts"
    table.write_text(NETWORK, encoding="utf-8")
    assert durability.disk_of(Path(path), table) == kind


def test_a_ledger_on_a_containers_own_disk_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(durability, "is_persistent", lambda path: False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ConfigurationError, match="would be lost with it"):
        durability.check(f"sqlite:///{tmp_path / 'ledger.db'}")
    with pytest.raises(ConfigurationError, match="would be lost with it"):
        durability.check(None)
    durability.check("postgresql://reelsheet@db/reelsheet")


def test_outside_containers_any_disk_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "SIGNS", ())
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("ECS_CONTAINER_METADATA_URI_V4", raising=False)
    monkeypatch.setattr(durability, "is_persistent", lambda path: False)
    durability.check("sqlite:////tmp/ledger.db")


def test_only_sqlite_has_a_file() -> None:
    assert durability.file_of("sqlite:////data/ledger.db") == Path("/data/ledger.db")
    assert durability.file_of("postgresql://reelsheet@db/reelsheet") is None
