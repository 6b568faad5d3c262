"""Short-lived containers without network, for building environments and for running tests."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 300


@dataclass(frozen=True)
class Finished:
    """How a script in a container ended; text that is not UTF-8 is replaced."""

    code: int
    stdout: str
    stderr: str


def pull(reference: str) -> None:
    """Makes the daemon fetch an image from the registry."""
    done = subprocess.run(["docker", "pull", "--quiet", reference], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"docker pull {reference} failed:\n{done.stderr}")


def run(image: str, script: str, mounts: dict[Path, str], merge: bool = False) -> Finished:
    """Runs a bash script in a fresh container. A mount is read-only where its place ends in ``:ro``.

    With ``merge`` the script's two streams come interleaved as ``stdout``, as a log file would hold them.
    """
    command = ["docker", "run", "--rm", "--interactive", "--network", "none"]
    for source, place in mounts.items():
        command += ["--volume", f"{source}:{place}"]
    wrapped = f"exec 2>&1\n{script}" if merge else script
    try:
        done = subprocess.run(
            [*command, image, "bash", "-s"], input=wrapped.encode(), capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"a script in {image} did not end in {_SECONDS} s") from None
    if done.returncode == 125:
        raise SystemExit(f"docker could not run {image}:\n{done.stderr.decode(errors='replace')}")
    return Finished(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def save(references: list[str], archive: Path) -> None:
    """Writes images as one ``docker save`` archive."""
    temporary = archive.with_suffix(".partial")
    done = subprocess.run(["docker", "save", "-o", temporary, *references], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"docker save failed:\n{done.stderr}")
    temporary.rename(archive)
