"""The product's image, built from its own Dockerfile.

With Docker from the base image that the Dockerfile names. Without it by buildah from a base made of Debian
packages, as no image can be had where there are package mirrors only.
"""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import kind, oci, places, progress, toolchain

NAME = "localhost/pullpass:dev"

_BASE_PACKAGES = "ca-certificates,python3-venv"
_BASE = "localhost/pullpass-base:1"
_SOURCES = ("operator", "crds", "pyproject.toml", "requirements.lock", "README.md", "LICENSE")
"""What the image is made of; the key of the cache."""


def product(root: Path = places.ROOT) -> Path:
    """The archive of `localhost/pullpass:dev`, built anew when what it is made of has changed."""
    docker = kind.available()
    builder = "docker" if docker else "buildah"
    target = places.cache() / "images" / f"pullpass-{builder}-{_digest(root)}.tar"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with toolchain.locked("product.lock"), progress.step(f"building {NAME}"):
        if target.exists():
            return target
        (_by_docker if docker else _by_buildah)(root, target)
        _forget_old(target)
    return target


def _forget_old(newest: Path, keep: int = 3) -> None:
    """Delete archives of earlier contents: there is one per change, and each is large."""
    archives = newest.parent.glob("pullpass-*.tar")
    for archive in sorted(archives, key=lambda archive: archive.stat().st_mtime, reverse=True)[keep:]:
        archive.unlink()


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for source in _SOURCES:
        top = root / source
        for file in [top, *sorted(top.rglob("*"))]:
            if file.is_file() and "__pycache__" not in file.parts:
                mode = file.stat().st_mode & 0o111
                digest.update(f"{file.relative_to(root)} {mode:o}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _by_docker(root: Path, target: Path) -> None:
    _run(["docker", "build", "--tag", NAME, "--file", root / "operator/Dockerfile", root])
    scratch = target.with_name(target.name + ".new")
    _run(["docker", "save", "--output", scratch, NAME])
    scratch.rename(target)


def _by_buildah(root: Path, target: Path) -> None:
    toolchain.install_debian(["buildah", "debootstrap"])
    _base()
    dockerfile: list[str | Path] = [
        "--file",
        root / "operator/Dockerfile",
        "--build-arg",
        f"BASE={_BASE}",
        "--pull-never",
    ]
    _buildah("bud", *dockerfile, *_pip_mounts(), "--tag", NAME, root)
    layout = places.cache() / "buildah/layout"
    shutil.rmtree(layout, ignore_errors=True)
    _buildah("push", "--quiet", NAME, f"oci:{layout}:dev")
    oci.from_layout(target, NAME, layout)
    shutil.rmtree(layout)
    _buildah("rmi", "--prune", check=False)  # the image that had the name before


def _base() -> None:
    """Make the base image once: a small Debian with Python, of apt's release and from apt's mirror."""
    if _buildah("images", "--quiet", _BASE, check=False).returncode == 0:
        return
    mirror, release = _mirror()
    tree = places.cache() / "buildah/base"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    options = ["--variant=minbase", f"--include={_BASE_PACKAGES}"]
    _run([toolchain.tool("debootstrap"), *options, release, tree, mirror])
    shutil.rmtree(tree / "var/cache/apt/archives", ignore_errors=True)
    container = _buildah("from", "scratch").stdout.strip()
    _buildah("copy", "--quiet", container, tree, "/")
    _buildah("commit", "--quiet", "--rm", container, _BASE)
    shutil.rmtree(tree)


def _mirror() -> tuple[str, str]:
    """The first Debian mirror of apt's configuration, and this machine's release."""
    words = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    release = words["VERSION_CODENAME"].strip('"')
    form = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]
    for line in _run(form).stdout.splitlines():
        site, _, suite = line.partition(" ")
        if suite == release:
            return site, release
    raise RuntimeError(f"apt has no mirror of {release}")


def _pip_mounts() -> list[str]:
    """Let pip in the build find packages as pip on this machine does, and leave none of it in the image.

    So it is given as a file, mounted for the time of the build: an environment variable would stay in the
    image. The paths that the settings name (a CA bundle, a directory of wheels) are mounted as well.
    """
    listed = _run([sys.executable, "-m", "pip", "config", "list"]).stdout
    settings = pip_settings(listed)
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle:
        settings.setdefault("cert", bundle)
    config = places.cache() / "buildah/pip.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {value.replace(chr(10), chr(10) + '  ')}" for key, value in sorted(settings.items())]
    config.write_text("\n".join(["[global]", *lines, ""]))
    paths = {word for value in settings.values() for word in value.split() if word.startswith("/")}
    mounts = [f"{path}:{path}:ro" for path in sorted(paths) if Path(path).exists()]
    return [word for mount in (f"{config}:/etc/pip.conf:ro", *mounts) for word in ("--volume", mount)]


def pip_settings(listed: str) -> dict[str, str]:
    """What `pip config list` says that holds for `pip install`; the environment wins over the files."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.partition(".")
        if section in found and option not in ("config-file", "require-virtualenv"):
            found[section][option] = str(ast.literal_eval(value))
    return {**found["global"], **found["install"], **found[":env:"]}


def _buildah(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """buildah with its storage in the cache, and no need of a kernel or user that allow real containers."""
    storage = places.cache() / "buildah"
    command = ["buildah", "--root", storage / "root", "--runroot", storage / "run", *arguments]
    environment = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
    return _run(command, env=environment, check=check)


def _run(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, argv)), env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise RuntimeError(f"{argv[0]}: exit status {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    return done
