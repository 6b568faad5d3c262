"""What every task builder shares: caches, the base layer, wheels, and the way of an image from layers to the daemon."""

import functools
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import containers
from images import BlobStore, Image, Layer, Registry

_NAMESPACE = "thresher-demo"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Context:
    """The state of one run of the script."""

    cache: Path
    store: BlobStore
    registry: Registry
    base: Layer
    wheels: Path
    tools: Path

    def reference(self, name: str) -> str:
        """Returns the full reference of an image in the demo's part of the registry; ``name`` includes a tag."""
        return f"{self.registry.address}/{_NAMESPACE}/{name}"

    def publish(self, name: str, image: Image) -> bool:
        """Pushes an image unless the registry has it."""
        repository, _, tag = name.rpartition(":")
        return self.registry.push(self.store, f"{_NAMESPACE}/{repository}", tag, image)

    def image(self, layers: list[Layer], path: str, labels: dict[str, str]) -> Image:
        """Makes an image over the base layer, with folders put before the usual search path."""
        config = {"Env": [f"PATH={path}:{_PATH}" if path else f"PATH={_PATH}", "LANG=C.UTF-8"]}
        config |= {"WorkingDir": "/testbed", "Cmd": ["/bin/bash"]}
        return self.store.put_image([self.base, *layers], config, labels)

    @functools.cached_property
    def base_image(self) -> str:
        """Publishes the bare base image, for building environments in, and returns its reference."""
        name = f"base:{self.base.digest.removeprefix('sha256:')[:12]}"
        self.publish(name, self.image([], "", {}))
        containers.pull(self.reference(name))
        return self.reference(name)

    def work(self, label: str) -> Path:
        """Returns the scratch folder of one task."""
        return self.cache / "work" / label


def prepare_wheels(cache: Path, requirements: Path) -> tuple[Path, Path]:
    """Returns a folder of pinned wheels, and one where the build tools among them are unpacked."""
    lists = [requirements / "tools.txt", requirements / "tests.txt"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in lists)).hexdigest()[:16]
    folder = cache / f"wheels-{digest}"
    if not folder.exists():
        partial = cache / f"wheels-{digest}.{os.getpid()}"
        # Only wheels for any platform: they are the same on every machine.
        portable = ["--no-deps", "--only-binary=:all:", "--platform=any", "--python-version=3.11", "--require-hashes"]
        requirements_of = [f"--requirement={path}" for path in lists]
        _pip("download", *portable, *requirements_of, "--dest", str(partial / "wheels"))
        offline = ["--no-deps", "--no-compile", "--no-index", f"--find-links={partial / 'wheels'}"]
        _pip("install", *offline, requirements_of[0], "--target", str(partial / "tools"))
        partial.rename(folder)
    return folder / "wheels", folder / "tools"


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip {arguments[0]} failed:\n{done.stderr}")
