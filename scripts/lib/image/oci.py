#!/usr/bin/env python3
"""Makes container images of one layer, and pushes them, with nothing but the standard library.

`archive` writes a tar file that is an OCI layout and what `docker save` writes at once, so that `docker load`, containerd and
skopeo read it. The same files give the same bytes. `push` sends such a file to a registry that wants no login.
"""

import argparse
import gzip
import hashlib
import io
import ipaddress
import json
import pathlib
import platform
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def main():
    args = arguments()
    try:
        args.run(args)
    except (OSError, ValueError) as error:
        sys.exit(f"oci.py: {error}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    archive = commands.add_parser("archive", help="make an image of a folder")
    archive.set_defaults(run=write_archive)
    archive.add_argument("--root", required=True, type=pathlib.Path, help="folder that becomes the image's /")
    archive.add_argument("--tag", required=True, help="name:tag")
    archive.add_argument("--entrypoint", required=True)
    archive.add_argument("--user", default="", help="uid:gid of the process")
    archive.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    archive.add_argument("out", type=pathlib.Path)
    push = commands.add_parser("push", help="send an archive to a registry; prints the reference by digest")
    push.set_defaults(run=push_archive)
    push.add_argument("archive", type=pathlib.Path)
    push.add_argument("reference", help="host[:port]/name:tag")
    mirror = commands.add_parser("mirror", help="send every image of an OCI layout to another registry, under its own name there")
    mirror.set_defaults(run=mirror_layout)
    mirror.add_argument("layout", type=pathlib.Path, help="folder with an index.json that gives the images' references")
    mirror.add_argument("host", help="host[:port] that takes the place of the references' own")
    return parser.parse_args()


def write_archive(args):
    layer = tar_of_folder(args.root)
    packed = gzip.compress(layer, 6, mtime=0)
    config = encode({
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": [args.entrypoint], "User": args.user, "Env": args.env, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    })
    manifest = encode({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, config),
        "layers": [described(LAYER, packed)],
    })
    name = full_name(args.tag)
    index = encode({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{
            **described(MANIFEST, manifest),
            "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]},
        }],
    })
    docker = encode([{"Config": blob_path(config), "RepoTags": [args.tag], "Layers": [blob_path(packed)]}])
    partial = args.out.with_name(args.out.name + ".partial")
    with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as out:
        for blob in sorted((config, packed, manifest), key=digest):
            add_file(out, blob_path(blob), blob)
        add_file(out, "index.json", index)
        add_file(out, "manifest.json", docker)
        add_file(out, "oci-layout", encode({"imageLayoutVersion": "1.0.0"}))
    partial.rename(args.out)


def tar_of_folder(root):
    """A tar of all below `root`, in the order of names, owned by root, without times."""
    bytes_ = io.BytesIO()
    with tarfile.open(fileobj=bytes_, mode="w", format=tarfile.GNU_FORMAT) as out:
        for path in sorted(root.rglob("*")):
            entry = out.gettarinfo(path, str(path.relative_to(root)))
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            if entry.isreg():
                with path.open("rb") as file:
                    out.addfile(entry, file)
            else:
                out.addfile(entry)
    return bytes_.getvalue()


def add_file(out, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    out.addfile(entry, io.BytesIO(content))


def encode(value):
    return json.dumps(value, separators=(",", ":")).encode()


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def blob_path(content):
    return "blobs/" + digest(content).replace(":", "/")


def described(media_type, content):
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def full_name(tag):
    """The name with what Docker leaves out: `thresher:dev` is `docker.io/library/thresher:dev`."""
    first, slash, _ = tag.partition("/")
    if not slash:
        return f"docker.io/library/{tag}"
    return tag if "." in first or ":" in first or first == "localhost" else f"docker.io/{tag}"


def push_archive(args):
    with tarfile.open(args.archive) as archive:
        def read(wanted):
            return archive.extractfile("blobs/" + wanted.replace(":", "/")).read()

        index = json.load(archive.extractfile("index.json"))
        print(push_image(args.reference, index["manifests"][0]["digest"], read))


def mirror_layout(args):
    def read(wanted):
        return (args.layout / "blobs" / wanted.replace(":", "/")).read_bytes()

    for image in json.loads((args.layout / "index.json").read_text())["manifests"]:
        own = image["annotations"]["org.opencontainers.image.ref.name"]
        print(push_image(f"{args.host}/{own.partition('/')[2]}", image["digest"], read))


def push_image(reference, wanted, read):
    """Sends an image, whose parts `read` gives by their digests. Returns its reference by digest."""
    host, _, rest = reference.partition("/")
    name, colon, tag = rest.rpartition(":")
    if not colon:
        raise ValueError(f"the reference has no tag, or no host: {reference}")
    base = f"{'http' if is_plain(host) else 'https'}://{host}/v2/{name}"
    manifest = read(wanted)
    for part in (parts := json.loads(manifest))["layers"] + [parts["config"]]:
        push_blob(base, part["digest"], lambda wanted=part["digest"]: read(wanted))
    request("PUT", f"{base}/manifests/{tag}", manifest, parts.get("mediaType", MANIFEST))
    return f"{host}/{name}:{tag}@{digest(manifest)}"


def is_plain(host):
    """Whether a registry is spoken to without TLS: on this machine, or named by an address."""
    address = host.rpartition(":")[0] or host
    if address == "localhost":
        return True
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    return True


def push_blob(base, wanted, content):
    """Sends a blob that the registry has not."""
    try:
        request("HEAD", f"{base}/blobs/{wanted}")
        return
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
    begun = request("POST", f"{base}/blobs/uploads/", b"")
    place = urllib.parse.urljoin(base, begun.headers["Location"])
    place += ("&" if "?" in place else "?") + urllib.parse.urlencode({"digest": wanted})
    request("PUT", place, content(), "application/octet-stream")


def request(method, url, body=None, media_type=None):
    headers = {"Content-Type": media_type} if media_type else {}
    # Registries of tests are near: none is behind a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({} if url.startswith("http:") else None))
    with opener.open(urllib.request.Request(url, body, headers, method=method)) as answer:
        return answer


if __name__ == "__main__":
    main()
