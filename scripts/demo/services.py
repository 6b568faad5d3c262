"""The Docker daemon and the registry that the demo uses: found, or started and left running."""

import http.client
import json
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 60
_FIRST_PORT = 5000


@dataclass(frozen=True)
class RegistryService:
    """Where a registry answers, and the command that stops it when this script started it."""

    address: str
    stop: str | None


def ensure_docker(cache: Path, say) -> None:
    """Starts dockerd unless a daemon answers already."""
    if _docker_answers():
        return
    say("starting dockerd (it is left running; stop it with: kill $(cat /var/run/docker.pid))")
    _spawn(["dockerd"], cache / "dockerd.log")
    _wait(_docker_answers, f"dockerd did not start, see {cache / 'dockerd.log'}")


def ensure_registry(cache: Path, address: str | None, say) -> RegistryService:
    """Returns the named registry, the one that an earlier run started, or a new one on a free loopback port."""
    if address is not None:
        if not _registry_answers(address):
            raise SystemExit(f"no registry answers at http://{address}/v2/")
        return RegistryService(address, None)
    folder = cache / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.json"
    known = json.loads(state.read_text()) if state.exists() else {}
    if not known or not _is_ours(known["pid"]) or not _registry_answers(known["address"]):
        known = _start_registry(folder, known.get("address"), say)
        state.write_text(json.dumps(known))
    return RegistryService(known["address"], f"kill {known['pid']}")


def _start_registry(folder: Path, last_address: str | None, say) -> dict:
    address = f"127.0.0.1:{_free_port(last_address)}"
    say(f"starting a registry on {address}")
    config = folder / "config.yml"
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    # JSON is YAML.
    config.write_text(json.dumps(settings))
    process = _spawn(["docker-registry", "serve", str(config)], folder / "log")
    _wait(lambda: _registry_answers(address), f"the registry did not start, see {folder / 'log'}")
    return {"pid": process.pid, "address": address}


def _is_ours(pid: int) -> bool:
    """Tells whether a process is still a registry; its number may have passed to another program."""
    try:
        return b"docker-registry" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _free_port(last_address: str | None) -> int:
    """Prefers the port of the last run, which image names in existing datasets contain."""
    preferred = [int(last_address.rpartition(":")[2])] if last_address else []
    for port in preferred + list(range(_FIRST_PORT, _FIRST_PORT + 100)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise SystemExit(f"no free loopback port from {_FIRST_PORT} on")


def _registry_answers(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _docker_answers() -> bool:
    return (
        shutil.which("docker") is not None
        and subprocess.run(
            ["docker", "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        ).returncode
        == 0
    )


def _spawn(command: list[str], log: Path) -> subprocess.Popen:
    """Starts a service that outlives this script."""
    with open(log, "ab") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        return subprocess.Popen(command, **streams, start_new_session=True, cwd="/")


def _wait(ready, complaint: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(complaint)
        time.sleep(0.2)
