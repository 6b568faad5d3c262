"""Source releases from PyPI: fetched by pip with a pinned digest, and read as plain file trees."""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

# What a source release adds to the repository it was made from, and bulk that no task needs.
_NOT_SOURCE = re.compile(
    r"(^|/)(PKG-INFO|[^/]+\.egg-info|__pycache__|\.git|\.github|\.tox|\.pytest_cache)(/|$)|\.(pyc|so|exe|dll)$"
    r"|^(docs?|examples?|benchmarks?|tools|bin|media|artwork)/"
)
_EARLIEST = datetime(2012, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Release:
    """One version of a package: its files by path, and a date for its commit."""

    name: str
    version: str
    date: datetime
    files: dict[str, bytes]


def fetch(pins: dict[str, str], cache: Path) -> dict[str, Path]:
    """Returns the archive of each pinned ``name==version``; missing ones are downloaded, all digests are checked."""
    with ThreadPoolExecutor(3) as pool:
        archives = pool.map(lambda pin: _fetch_one(pin[0], pin[1], cache), pins.items())
        return dict(zip(pins, archives, strict=True))


def _fetch_one(requirement: str, digest: str, cache: Path) -> Path:
    folder = cache / "sdists" / requirement.replace("==", "-")
    if not folder.is_dir():
        _download(requirement, digest, folder)
    (archive,) = folder.iterdir()
    if hashlib.sha256(archive.read_bytes()).hexdigest() != digest:
        raise SystemExit(f"{archive} is not the pinned release; remove it and try again")
    return archive


def _download(requirement: str, digest: str, folder: Path) -> None:
    """Runs pip; the folder appears only when the download is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    name = requirement.partition("==")[0]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        wanted = Path(temporary, "wanted.txt")
        wanted.write_text(f"{requirement} --hash=sha256:{digest}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        command += ["--no-binary", name, "--require-hashes", "-r", str(wanted), "-d", f"{temporary}/got"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"pip could not download {requirement}:\n{done.stderr}")
        os.rename(f"{temporary}/got", folder)


def read_release(name: str, version: str, archive: Path, not_before: datetime | None) -> Release:
    """Unpacks an archive. The date is that of its newest member, or the day after ``not_before`` if that is later."""
    files, newest = {}, _EARLIEST
    with tarfile.open(archive) as members:
        for member in members:
            path = member.name.partition("/")[2]
            if member.isfile() and not _NOT_SOURCE.search(path):
                files[path] = members.extractfile(member).read()
                newest = max(newest, datetime.fromtimestamp(int(member.mtime), UTC))
    if not_before is not None:
        newest = max(newest, not_before + timedelta(days=1))
    return Release(name, version, newest, files)
