"""Images made without a daemon: reproducible layers, configs, manifests, an OCI layout, and a registry push."""

import gzip
import hashlib
import json
import os
import platform
import shutil
import stat
import tarfile
import uuid
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CREATED = "2024-01-01T00:00:00Z"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Layer:
    """A gzip-compressed tar in the blob store; ``diff_id`` is the digest of the uncompressed tar."""

    digest: str
    diff_id: str
    size: int


@dataclass(frozen=True)
class Image:
    """A manifest in the blob store, with everything it refers to."""

    digest: str
    size: int
    config: str
    layers: tuple[Layer, ...]

    def to_json(self) -> dict:
        """Returns plain data that ``from_json`` reads back."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict) -> "Image":
        """Reads what ``to_json`` wrote."""
        return Image(data["digest"], data["size"], data["config"], tuple(Layer(**layer) for layer in data["layers"]))


class BlobStore:
    """Content-addressed files, ``<root>/sha256/<hex>``."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "sha256"
        self._folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Returns where a blob is, or would be."""
        return self._folder / digest.removeprefix("sha256:")

    def put(self, data: bytes) -> str:
        """Stores bytes and returns their digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.path(digest).exists():
            temporary = self._temporary()
            temporary.write_bytes(data)
            temporary.rename(self.path(digest))
        return digest

    def has(self, image: Image) -> bool:
        """Tells whether the image and everything it refers to is here."""
        return all(self.path(digest).exists() for digest in blobs_of(image))

    def put_layer(self, trees: dict[str, Path], mtime: int | None, skip: set[str] = frozenset()) -> Layer:
        """Packs folders of the machine into a layer.

        ``trees`` maps places in the image to folders. Names are sorted and owners are root; with ``mtime`` every
        entry gets that time, without it files keep theirs (so that Python's compiled files stay valid).
        Places in ``skip`` are left out, with what is below them.
        """
        temporary = self._temporary()
        with open(temporary, "wb") as file:
            compressed = _HashingWriter(file)
            with gzip.GzipFile("", "wb", 6, compressed, mtime=0) as zipped:
                plain = _HashingWriter(zipped)
                with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    for place, source in sorted(trees.items()):
                        _add_parents(archive, place, mtime or 0)
                        _add_tree(archive, place.strip("/"), source, mtime, skip)
        layer = Layer(compressed.digest(), plain.digest(), temporary.stat().st_size)
        temporary.rename(self.path(layer.digest))
        return layer

    def keep_only(self, wanted: set[str]) -> None:
        """Removes all blobs but some."""
        for blob in self._folder.iterdir():
            if f"sha256:{blob.name}" not in wanted:
                blob.unlink()

    def _temporary(self) -> Path:
        """Returns a name that no other thread or process uses."""
        return self._folder / f"partial-{uuid.uuid4().hex}"

    def put_image(self, layers: list[Layer], config: dict, labels: dict[str, str]) -> Image:
        """Stores the config and manifest of an image over layers that are already here."""
        document = {
            "created": _CREATED,
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": config | {"Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": _CREATED, "created_by": "scripts/demo-dataset"} for _ in layers],
        }
        config_bytes = _canonical(document)
        config_digest = self.put(config_bytes)
        manifest = _canonical(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": _CONFIG, "digest": config_digest, "size": len(config_bytes)},
                "layers": [{"mediaType": _LAYER, "digest": each.digest, "size": each.size} for each in layers],
            }
        )
        return Image(self.put(manifest), len(manifest), config_digest, tuple(layers))


def blobs_of(image: Image) -> list[str]:
    """Returns the digests of an image's layers, config and manifest, in the order in which a registry wants them."""
    return [layer.digest for layer in image.layers] + [image.config, image.digest]


def write_layout(store: BlobStore, images: dict[str, Image], folder: Path) -> None:
    """Writes an OCI image layout that holds every image under its reference; blobs are hard-linked where possible."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    wanted = {digest for image in images.values() for digest in blobs_of(image)}
    for digest in wanted:
        _link(store.path(digest), blobs / digest.removeprefix("sha256:"))
    for stale in blobs.iterdir():
        if f"sha256:{stale.name}" not in wanted:
            stale.unlink()
    manifests = [_index_entry(reference, image) for reference, image in sorted(images.items())]
    (folder / "oci-layout").write_bytes(_canonical({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_bytes(_canonical({"schemaVersion": 2, "manifests": manifests}))


def _index_entry(reference: str, image: Image) -> dict:
    names = {"org.opencontainers.image.ref.name": reference, "io.containerd.image.name": reference}
    return {"mediaType": MANIFEST, "digest": image.digest, "size": image.size, "annotations": names}


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class Registry:
    """A registry that speaks the distribution protocol over plain HTTP without authentication."""

    def __init__(self, address: str) -> None:
        self.address = address

    def push(self, store: BlobStore, repository: str, tag: str, image: Image) -> bool:
        """Uploads what the registry lacks; tells whether there was anything to upload."""
        if all(self._has(f"/v2/{repository}/manifests/{name}") for name in (image.digest, tag)):
            return False
        for digest in blobs_of(image)[:-1]:
            self._push_blob(store, repository, digest)
        body = store.path(image.digest).read_bytes()
        self._expect(201, "PUT", f"/v2/{repository}/manifests/{tag}", {"Content-Type": MANIFEST}, body)
        return True

    def _push_blob(self, store: BlobStore, repository: str, digest: str) -> None:
        if self._has(f"/v2/{repository}/blobs/{digest}"):
            return
        location = self._expect(202, "POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        target = urlsplit(location)
        query = f"{target.query}&digest={digest}" if target.query else f"digest={digest}"
        path = store.path(digest)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
        with open(path, "rb") as body:
            self._expect(201, "PUT", f"{target.path}?{query}", headers, body)

    def _has(self, path: str) -> bool:
        return self._request("HEAD", path, {"Accept": MANIFEST}, None).status == 200

    def _expect(self, status: int, method: str, path: str, headers: dict | None = None, body=None) -> HTTPResponse:
        response = self._request(method, path, headers, body)
        if response.status != status:
            raise SystemExit(f"the registry {self.address} answered {response.status} to {method} {path}")
        return response

    def _request(self, method: str, path: str, headers: dict | None, body) -> HTTPResponse:
        connection = HTTPConnection(self.address, timeout=120)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response


class _HashingWriter:
    """Passes writes on and hashes them."""

    def __init__(self, target) -> None:
        self._target, self._hash = target, hashlib.sha256()

    def write(self, data) -> int:
        self._hash.update(data)
        self._target.write(data)
        return len(data)

    def flush(self) -> None:
        self._target.flush()

    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


def _add_parents(archive: tarfile.TarFile, place: str, mtime: int) -> None:
    """Adds the folders above a place, so that no reader has to invent them."""
    parts = place.strip("/").split("/")
    for depth in range(1, len(parts)):
        entry = tarfile.TarInfo("/".join(parts[:depth]))
        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, mtime
        archive.addfile(entry)


def _add_tree(archive: tarfile.TarFile, name: str, path: Path, mtime: int | None, skip: set[str]) -> None:
    if f"/{name}" in skip:
        return
    mode = path.lstat().st_mode
    if stat.S_ISSOCK(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISFIFO(mode):
        return
    if name:
        entry = archive.gettarinfo(path, name)
        entry.uname = entry.gname = ""
        if mtime is not None:
            entry.uid = entry.gid = 0
            entry.mtime = mtime
        entry.mtime = int(entry.mtime)
        if entry.isreg():
            with open(path, "rb") as content:
                archive.addfile(entry, content)
        else:
            archive.addfile(entry)
    if stat.S_ISDIR(mode):
        for child in sorted(os.listdir(path)):
            _add_tree(archive, f"{name}/{child}".lstrip("/"), path / child, mtime, skip)


def _canonical(document: dict) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
