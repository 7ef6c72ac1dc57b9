"""The cache of configurations is a file that may be lost, damaged or full, and nothing stops."""

import sqlite3
import stat
from pathlib import Path

import pytest

from edge.vcenter.collector import configuration_cache
from edge.vcenter.collector.configuration_cache import CachedConfiguration, ConfigurationCache

VCENTER = "c4f6f3f2-8f0f-4a6e-9c3e-2f6d2f6f0001"
MACHINES = {
    "VirtualMachine:vm-1": CachedConfiguration("1700", b"one"),
    "VirtualMachine:vm-2": CachedConfiguration("1701", b"two"),
}


def store(directory: Path, machines: dict[str, CachedConfiguration]) -> None:
    cache = ConfigurationCache(directory)
    cache.load(VCENTER)
    cache.store(machines.items())


def load(directory: Path, vcenter: str = VCENTER) -> dict[str, CachedConfiguration]:
    return dict(ConfigurationCache(directory).load(vcenter))


def file_in(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    store(tmp_path / "cache", MACHINES)
    assert load(tmp_path / "cache") == MACHINES


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    store(directory, MACHINES)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_in(directory).stat().st_mode) == 0o600


def test_what_is_gone_is_kept_no_longer(tmp_path: Path) -> None:
    store(tmp_path, MACHINES)
    store(tmp_path, {"VirtualMachine:vm-2": CachedConfiguration("1702", b"new")})
    assert load(tmp_path) == {"VirtualMachine:vm-2": CachedConfiguration("1702", b"new")}


def test_what_has_not_changed_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, MACHINES)
    before = file_in(tmp_path).stat().st_mtime_ns
    store(tmp_path, MACHINES)
    assert file_in(tmp_path).stat().st_mtime_ns == before


def test_another_vcenter_or_version_begins_anew_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, MACHINES)
    assert load(tmp_path, "another") == {}
    store(tmp_path, MACHINES)
    monkeypatch.setattr(configuration_cache, "SOFTWARE_VERSION", "another")
    assert load(tmp_path) == {}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 99])
def test_damaged_file_is_warned_about_once_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    store(tmp_path, MACHINES)
    file_in(tmp_path).write_bytes(content)
    cache = ConfigurationCache(tmp_path)
    assert cache.load(VCENTER) == {}
    cache.store(MACHINES.items())
    assert caplog.text.count("not usable") == 1
    store(tmp_path, MACHINES)
    assert load(tmp_path) == MACHINES


def test_directory_that_cannot_be_made_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = ConfigurationCache(tmp_path / "file" / "cache")
    assert cache.load(VCENTER) == {}
    cache.store(MACHINES.items())
    assert "not usable" in caplog.text


def test_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store(tmp_path, MACHINES)

    class FullDisk(sqlite3.Connection):
        def executemany(self, *given: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("database or disk is full")

    cache = ConfigurationCache(tmp_path)
    cache.load(VCENTER)
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda file, timeout: connect(file, timeout, factory=FullDisk)
    )
    cache.store({})
    monkeypatch.undo()
    assert "not usable" in caplog.text
    assert load(tmp_path) == MACHINES


def test_without_a_directory_nothing_is_kept(tmp_path: Path) -> None:
    cache = ConfigurationCache(None)
    assert cache.load(VCENTER) == {}
    cache.store(MACHINES.items())
