"""A git repository whose commits are the releases of a package, checked out before the fix that it already contains."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pypi import Release

_IDENTITY = {"name": "Release Archive", "email": "releases@example.org"}


@dataclass(frozen=True)
class Repository:
    """A repository at its buggy state: HEAD is ``old``, and ``new`` is the commit that fixes it."""

    folder: Path
    old: str
    new: str

    def git(self, *arguments: str) -> bytes:
        """Runs git in the repository with no configuration but its own, and returns its output."""
        return git(self.folder, *arguments)

    def diff(self, paths: list[str]) -> bytes:
        """Returns the change of the fixing commit in some files, or in all when none is named."""
        return self.git("diff", "--no-renames", "--abbrev=8", self.old, self.new, "--", *paths)


def git(folder: Path, *arguments: str, date: str = "2024-01-01T00:00:00Z") -> bytes:
    """Runs git without the machine's configuration, at a fixed time."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_{key.upper()}": value for key, value in _IDENTITY.items()}
        environment[f"GIT_{role}_DATE"] = date
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)} failed in {folder}:\n{done.stderr.decode()}")
    return done.stdout


def build(folder: Path, releases: list[Release], upstream: str) -> Repository:
    """Commits the releases in order and checks out the last but one.

    The last one stays reachable in the ways real images have it: the branch, a tag, a remote branch, the reflog,
    ``ORIG_HEAD`` and ``FETCH_HEAD``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
    commits = [_commit(folder, release) for release in releases]
    old, new = commits[-2:]
    git(folder, "remote", "add", "origin", upstream)
    git(folder, "update-ref", "refs/remotes/origin/main", new)
    git(folder, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    git(folder, "update-ref", "ORIG_HEAD", new)
    (folder / ".git" / "FETCH_HEAD").write_text(f"{new}\t\tbranch 'main' of {upstream}\n")
    git(folder, "checkout", "--quiet", "--detach", old)
    _settle(folder)
    return Repository(folder, old, new)


def _commit(folder: Path, release: Release) -> str:
    date = release.date.strftime("%Y-%m-%dT%H:%M:%SZ")
    for child in folder.iterdir():
        if child.name != ".git":
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    for path, content in release.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "-m", f"Release {release.version}", date=date)
    git(folder, "tag", f"v{release.version}", date=date)
    return git(folder, "rev-parse", "HEAD").decode().strip()


def _settle(folder: Path) -> None:
    """Packs objects and references, and drops what would differ from build to build (file times in the index)."""
    git(folder, "-c", "pack.threads=1", "repack", "-a", "-d", "-q")
    git(folder, "pack-refs", "--all")
    (folder / ".git" / "index").unlink()
    git(folder, "read-tree", "HEAD")
    (folder / ".git" / "info" / "exclude").write_text("# Patterns here are not shared with others.\n")
