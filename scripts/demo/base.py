"""The base layer: a small Debian userland with python3, git, bash and patch, made by debootstrap."""

import json
import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

from images import BlobStore, Layer

_SUITE, _MIRROR = "bookworm", "http://deb.debian.org/debian"
_PACKAGES = "python3,git,patch"
# Git needs perl only for commands that no task uses; perl-base stays, as it does on every Debian.
_PURGE = ("perl", "perl-modules-5.36", "libperl5.36")
_REMOVE = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian")
_EMPTY = (
    "var/cache/apt",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
    "var/log",
    "tmp",
    "proc",
    "sys",
    "dev",
    "run",
    "root",
)
# Part of the cache's key: raise it when the recipe changes.
_RECIPE = 3
_EPOCH = 1_704_067_200


def base_layer(cache: Path, store: BlobStore, say) -> Layer:
    """Returns the base layer, building it when the cache has none."""
    record = cache / f"base-{_SUITE}-{_RECIPE}.json"
    if record.exists():
        layer = Layer(**json.loads(record.read_text()))
        if store.path(layer.digest).exists():
            return layer
    say(f"building the base layer (debootstrap {_SUITE}, about a minute)")
    layer = _build(cache / "work" / "base", store)
    record.write_text(json.dumps(asdict(layer)))
    return layer


def _build(root: Path, store: BlobStore) -> Layer:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root), _MIRROR)
    _run("chroot", str(root), "dpkg", "--purge", "--force-depends", *_PURGE)
    for name in _REMOVE:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in _EMPTY:
        _clear(root / name)
    for name in ("etc/machine-id", "etc/resolv.conf", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
    (root / "root" / ".bashrc").write_text("PS1='\\u:\\w\\$ '\n")
    _settle_times(root)
    layer = store.put_layer({"/": root}, None)
    shutil.rmtree(root)
    return layer


def _run(*command: str) -> None:
    # The epoch keeps the day of installation out of the password files.
    environment = os.environ | {"LC_ALL": "C", "SOURCE_DATE_EPOCH": str(_EPOCH)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _clear(folder: Path) -> None:
    for child in folder.iterdir():
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()


def _settle_times(root: Path) -> None:
    """Gives everything that the installation itself wrote one fixed time; packaged files keep theirs."""
    started = root.stat().st_mtime - 3600
    for folder, folders, names in os.walk(root, topdown=False):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for path in [os.path.join(folder, name) for name in names + links] + [folder]:
            if os.lstat(path).st_mtime > started:
                os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)
