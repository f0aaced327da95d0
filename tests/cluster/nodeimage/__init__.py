"""A node image for kind out of package registries, for where kind's own cannot be pulled.

The userland is Debian's, with what kind's `images/base` puts into it; containerd and Kubernetes are built from their
modules. kind itself is not changed. What is not there of kind's own image: its network (`network.yaml` has another,
without NetworkPolicy) and its provisioner of volumes. The images of Kubernetes' components have the names that kubeadm
asks for, and are made here: they say so in their labels.
"""

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
from pathlib import Path

from .. import debian, images, oci, places, processes, progress, toolchain
from ..engine import LABEL, Engine

REPOSITORY = "localhost/pullpass-node"
_HERE = Path(__file__).resolve().parent
_PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "conntrack",
    "iptables",
    "nftables",
    "iproute2",
    "ethtool",
    "kmod",
    "libseccomp2",
    "pigz",
    "e2fsprogs",
    "ca-certificates",
    "curl",
    "jq",
    "procps",
    "runc",
    "containernetworking-plugins",
]
"""What kind's own has too. It has runc and the plugins from elsewhere."""
_RELEASE = "bookworm"
"""Its systemd starts on both versions of control groups; later ones do not on the first."""
_DEFAULT = "pkg/apis/config/defaults/image.go"
"""Where kind's sources name its own image."""
_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
_CHANGES = (
    'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
    "ENV container=docker",
    f"LABEL {LABEL}=node",
)
_NOTE = {LABEL: "a stand-in, built from the sources of the original"}


def named_image() -> str | None:
    """The image that `$PULLPASS_NODE_IMAGE` names instead, such as kind's own of another version of Kubernetes."""
    return os.environ.get("PULLPASS_NODE_IMAGE") or None


def ensure(engine: Engine) -> str:
    """Have an image for nodes in the engine, and return its name.

    It is the one that is named, else kind's own for its version, else one that is built here. Raises RuntimeError where
    the named one is not there and cannot be pulled.
    """
    if named := named_image():
        if not _is_present(engine, named):
            with progress.step(f"pulling {named}"):
                engine.docker("pull", "--quiet", named)
        return named
    own = kinds_own()
    if engine.ours:
        kept = _kept(engine, own)
        return kept if kept is not None else build_image(engine)
    return own if _is_present(engine, own) or _pulled(engine, own) else build_image(engine)


def _pulled(engine: Engine, image: str) -> bool:
    with progress.step(f"looking for {image.partition('@')[0]}"):
        return engine.docker("pull", "--quiet", image, check=False).returncode == 0


def _kept(engine: Engine, image: str) -> str | None:
    """The name of an image in our own engine, which forgets it when it ends: it is pulled once, and kept in the cache.

    None where it cannot be pulled.
    """
    name, _, digest = image.partition("@")
    archive = places.cache() / "images" / f"pulled-{hashlib.sha256(image.encode()).hexdigest()[:12]}.tar"
    if _is_present(engine, name):
        return name
    if archive.exists():
        with progress.step(f"loading {name}"):
            engine.docker("load", "--input", archive)
        return name
    if not _pulled(engine, image):
        return None
    if digest:
        engine.docker("tag", image, name)
    archive.parent.mkdir(parents=True, exist_ok=True)
    scratch = archive.with_name(archive.name + ".new")
    engine.docker("save", "--output", scratch, name)
    scratch.rename(archive)
    return name


def kinds_own() -> str:
    """The image that this version of kind takes by itself."""
    (image,) = re.findall(r'const Image = "(.+)"', (_sources_of_kind() / _DEFAULT).read_text())
    return str(image)


def build_image(engine: Engine) -> str:
    """The image that is built here. It is built once; its file system is in the cache."""
    toolchain.install_debian(["mmdebstrap"])  # or say now, and not after minutes, that there can be none
    tree = archive()
    name = f"{REPOSITORY}:{tree.stem.rpartition('-')[2]}"
    if not _is_present(engine, name):
        with progress.step("loading the node image"):
            changes = [f"--change={change}" for change in _CHANGES]
            engine.docker("import", *changes, tree, name)
    return name


def _is_present(engine: Engine, image: str) -> bool:
    return engine.docker("image", "inspect", image, check=False).returncode == 0


def archive() -> Path:
    """The file system of the image, built where it is not there yet."""
    target = places.cache() / "images" / f"node-{_key()}.tar"
    if target.exists():
        return target
    context = places.cache() / "node"
    with toolchain.locked("node.lock"):
        if target.exists():
            return target
        shutil.rmtree(context, ignore_errors=True)
        _prepare(context)
        with progress.step(f"building a node image with Kubernetes {toolchain.kubernetes_version()}"):
            scratch = target.with_name(target.name + ".new")
            hook = f'{shlex.quote(str(_HERE / "setup.sh"))} "$1" {shlex.quote(str(context))}'
            debian.tree(scratch, _RELEASE, _PACKAGES, hook=hook)
            scratch.rename(target)
        shutil.rmtree(context)
        places.forget_old(target.parent, "node-*.tar")
    return target


def _key() -> str:
    digest = hashlib.sha256()
    for file in (*sorted(_HERE.iterdir()), Path(debian.__file__), Path(oci.__file__)):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    for name in ("kubelet", "containerd", "etcd", "coredns", "kind"):
        digest.update(str(toolchain.tool(name).parent.name).encode())
    return digest.hexdigest()[:12]


def _prepare(context: Path) -> None:
    """What comes beside Debian's packages: `files/`, as it is to lie there, and the components' images."""
    files = context / "files"
    for directory in ("usr/local/bin", "usr/bin", "kind/manifests", "opt/cni"):
        (files / directory).mkdir(parents=True)
    shutil.copytree(_sources_of_kind() / "images/base/files", files, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for name in _PROGRAMS:
        shutil.copy(toolchain.tool(name), files / "usr/local/bin" / name)
    shutil.copy(toolchain.tool("kubelet").resolve(), files / "usr/bin/kubernetes")
    for name in ("kubeadm", "kubelet", "kubectl"):
        (files / "usr/bin" / name).symlink_to("kubernetes")
    (files / "kind/version").write_text(toolchain.kubernetes_version())
    network = (_HERE / "network.yaml").read_text().replace("VERSION", toolchain.kubernetes_version())
    (files / "kind/manifests/default-cni.yaml").write_text(network)
    shutil.copy(_HERE / "storage.yaml", files / "kind/manifests/default-storage.yaml")
    _components(context / "components.tar")


def _sources_of_kind() -> Path:
    """The directory with the sources of the kind that is taken."""
    module = "sigs.k8s.io/kind@" + toolchain.TOOLS["kind"].rpartition("@")[2]
    done = processes.run([toolchain.go(), "mod", "download", "-json", module])
    return Path(json.loads(done.stdout)["Dir"])


def _components(target: Path) -> None:
    """The images that kubeadm starts, and the one that holds a pod's namespaces, in one archive."""
    kubernetes = oci.layer([oci.File("usr/local/bin/kubernetes", toolchain.tool("kubelet").resolve().read_bytes())])
    found = []
    for name in _names():
        short = name.rpartition(":")[0].rpartition("/")[2]
        if short.startswith("kube-"):
            link = oci.File(f"usr/local/bin/{short}", None, link="kubernetes")
            layers = [kubernetes, oci.layer([link, *(_network_tools() if short == "kube-proxy" else [])])]
        else:
            program = {"pause": "hello"}.get(short, short)
            layers = [oci.layer([oci.File(f"usr/local/bin/{short}", toolchain.tool(program).read_bytes())])]
        config = {"Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Labels": _NOTE}
        if short in ("pause", "coredns"):
            config["Entrypoint"] = [f"/usr/local/bin/{short}"]
        found.append(oci.Image(name, layers, config))
    oci.write(target, found, images.architecture())


def _names() -> list[str]:
    """The images that kubeadm of that version starts, by its own list, and the sandbox of kind's containerd."""
    kubeadm: list[str | Path] = [toolchain.tool("kubeadm"), "config", "images", "list"]
    version = f"--kubernetes-version={toolchain.kubernetes_version()}"
    listed = processes.run([*kubeadm, version]).stdout.split()
    config = (_sources_of_kind() / "images/base/files/etc/containerd/config.toml").read_text()
    (sandbox,) = re.findall(r'sandbox_image = "(.+)"', config)
    return [*(name for name in listed if "/pause:" not in name), sandbox]


def _network_tools() -> list[oci.File]:
    """What kube-proxy and the pods' network run: iptables and iproute2 of this machine, and busybox for a shell."""
    programs = [Path(toolchain.tool(name)).resolve() for name in ("iptables", "ip", "conntrack")]
    extensions = sorted(Path(f"/usr/lib/{platform.machine()}-linux-gnu/xtables").glob("*.so"))
    busybox = toolchain.tool("busybox")
    found = [oci.File(f"usr/sbin/{program.name}", program.read_bytes()) for program in programs]
    found.append(oci.File("usr/local/bin/kubectl", None, link="kubernetes"))
    for path in {*oci.libraries([*programs, *extensions, busybox]), *extensions}:
        found.append(oci.File(str(path).lstrip("/"), path.read_bytes()))
    for name in ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"):
        found.append(oci.File(f"usr/sbin/{name}", None, link=programs[0].name))
    found.append(oci.File("bin/busybox", busybox.read_bytes()))
    found += [oci.File(f"bin/{name}", None, link="busybox") for name in ("sh", "grep", "mv", "sleep")]
    return sorted(found, key=lambda file: file.path)
