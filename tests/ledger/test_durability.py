"""A ledger that would be lost with its container is refused; `doctor` and deployments ask the same function."""

from pathlib import Path

import pytest

from reelsheet.errors import ConfigurationError
from reelsheet.ledger import durability

OVERLAY = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n"
VOLUME = OVERLAY + "/dev/sdb1 /data ext4 rw 0 0\n/dev/sdb1 /with\\040space ext4 rw 0 0\n"
DISK = "/dev/vda / ext4 rw 0 0\n"
NETWORK = OVERLAY + "nas:/x /mnt/nas nfs4 rw 0 0\n/dev/sda1 /mnt/nas/local ext4 rw 0 0\n"


@pytest.fixture
def mount_table(tmp_path: Path):
    """Writes a mount table."""

    def write(content: str) -> Path:
        (tmp_path / "mounts").write_text(content, encoding="utf-8")
        return tmp_path / "mounts"

    return write


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is in no container."""
    monkeypatch.setattr(durability, "SIGNS", ())
    for name in durability.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def inside(outside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is in a container."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")


@pytest.mark.parametrize(
    ("mounts", "path", "lasts"),
    [
        (OVERLAY, "/home/reelsheet/ledger.db", False),
        (OVERLAY, "/dev/shm/ledger.db", False),
        (OVERLAY.replace("overlay", "fuse.fuse-overlayfs"), "/home/ledger.db", False),
        (OVERLAY + "none /ram ramfs rw 0 0\n", "/ram/ledger.db", False),
        (VOLUME, "/data/ledger.db", True),
        (VOLUME, "/data/deep/er/ledger.db", True),
        (VOLUME, "/database/ledger.db", False),
        (VOLUME, "/with space/ledger.db", True),
        (VOLUME + "tmpfs /data tmpfs rw 0 0\n", "/data/ledger.db", False),
        (VOLUME + "tmpfs /data/cache tmpfs rw 0 0\n", "/data/ledger.db", True),
        (VOLUME + "tmpfs /data/cache tmpfs rw 0 0\n", "/data/cache/ledger.db", False),
        (OVERLAY + "/dev/sdb1 /app/ledger.db ext4 rw 0 0\n", "/app/ledger.db", False),
        (NETWORK, "/mnt/nas/ledger.db", True),
        (DISK, "/home/reelsheet/ledger.db", True),
        ("", "/home/reelsheet/ledger.db", True),
        ("nonsense\n", "/home/reelsheet/ledger.db", True),
    ],
)
def test_in_a_container_what_is_mounted_nearest_above_the_folder_decides(inside, mount_table, mounts, path, lasts):
    assert durability.is_persistent(Path(path), mount_table(mounts)) is lasts


def test_a_link_to_a_volume_is_followed(inside, mount_table, tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "volume")
    table = mount_table(OVERLAY + f"/dev/sdb1 {tmp_path}/volume ext4 rw 0 0\n")
    assert durability.is_persistent(tmp_path / "link" / "ledger.db", table)
    assert not durability.is_persistent(tmp_path / "ledger.db", table)


def test_a_machine_without_a_mount_table_is_no_container(inside, tmp_path):
    assert durability.is_persistent(Path("/home/ledger.db"), tmp_path / "none")


def test_outside_containers_any_disk_will_do(outside, mount_table):
    assert durability.is_persistent(Path("/dev/shm/ledger.db"), mount_table(OVERLAY))


@pytest.mark.parametrize("name", durability.VARIABLES)
def test_kubernetes_and_ecs_are_containers_by_their_variables(outside, monkeypatch, name):
    assert not durability.in_container()
    monkeypatch.setenv(name, "somewhere")
    assert durability.in_container()


def test_docker_and_podman_are_containers_by_their_files(outside, monkeypatch, tmp_path):
    monkeypatch.setattr(durability, "SIGNS", (str(tmp_path / ".dockerenv"),))
    assert not durability.in_container()
    (tmp_path / ".dockerenv").touch()
    assert durability.in_container()


@pytest.mark.parametrize(
    ("path", "kind"), [("/mnt/nas/state", "nfs4"), ("/mnt/nas/local/state", "ext4"), ("/home", "overlay")]
)
def test_the_disk_of_a_folder_is_that_of_its_nearest_mount(mount_table, path, kind):
    assert durability.disk_of(Path(path), mount_table(NETWORK)) == kind


def test_a_ledger_on_a_containers_own_disk_is_refused(inside, monkeypatch, tmp_path):
    monkeypatch.setattr(durability, "disk_of", lambda *_: "overlay")
    for url in (f"sqlite:///{tmp_path / 'ledger.db'}", None):
        with pytest.raises(ConfigurationError, match="would be lost with it"):
            durability.check(url)
    durability.check("postgresql://reelsheet@db/reelsheet")


def test_only_sqlite_has_a_file():
    assert durability.file_of("sqlite:////data/ledger.db") == Path("/data/ledger.db")
    assert durability.file_of("postgresql://reelsheet@db/reelsheet") is None
