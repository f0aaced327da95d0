"""The product's image, built from its own Dockerfile by Docker.

Where the base image that the Dockerfile names cannot be pulled, one made of Debian's packages stands in for it.
"""

import ast
import hashlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from . import debian, engine, places, processes, progress, toolchain
from .engine import Engine

NAME = "localhost/pullpass:dev"

_BASE = "localhost/pullpass-base:1"
_BUILD_BASE = "localhost/pullpass-build-base:1"
_BASE_RELEASE = "trixie"
"""What the base image that the Dockerfile names is made of: Debian 13 with Python 3.13."""
_PIP_OPTIONS = (
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "trusted-host",
    "cert",
    "client-cert",
    "proxy",
)
_SOURCES = ("operator", "crds", "pyproject.toml", "requirements.lock", "README.md", "LICENSE")
"""What the image is made of; the key of the cache."""


def product(root: Path = places.ROOT) -> Path:
    """The archive of `localhost/pullpass:dev`, built anew when what it is made of has changed."""
    target = places.cache() / "images" / f"pullpass-{_digest(root)}.tar"
    if target.exists():
        return target
    with toolchain.locked("product.lock"), engine.use() as docker:
        if target.exists():
            return target
        bases = stand_ins(docker, root)
        with progress.step(f"building {NAME}"):
            arguments = [f"--build-arg={key}={value}" for key, value in bases.items()]
            file = root / "operator/Dockerfile"
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch, built = target.with_name(target.name + ".new"), target.with_name(target.name + ".id")
            arguments += [f"--label={engine.LABEL}=product", f"--iidfile={built}", "--tag", NAME]
            docker.docker("build", *arguments, "--file", file, root)
            docker.docker("save", "--output", scratch, NAME)
            if docker.docker("image", "inspect", "--format={{.Id}}", NAME).stdout.strip() != built.read_text().strip():
                raise RuntimeError(f"another build in this engine has taken the name {NAME} meanwhile; try again")
            built.unlink()
            scratch.rename(target)
        places.forget_old(target.parent, "pullpass-*.tar")
    return target


def base_image(root: Path = places.ROOT) -> str:
    """The base image that the Dockerfile names."""
    (base,) = re.findall(r"^ARG BASE=(\S+)$", (root / "operator/Dockerfile").read_text(), re.MULTILINE)
    return str(base)


def stand_ins(docker: Engine, root: Path = places.ROOT) -> dict[str, str]:
    """The arguments of the build that name base images; none where the Dockerfile's own can be had."""
    base = base_image(root)
    if docker.docker("pull", "--quiet", base, check=False).returncode == 0:
        return {}
    with progress.step(f"making a base image in place of {base}"):
        docker.docker("import", f"--change=LABEL {engine.LABEL}=base", debian.base(_BASE_RELEASE), _BASE)
        with tempfile.TemporaryDirectory() as context:
            _build_context(Path(context))
            docker.docker("build", f"--label={engine.LABEL}=base", "--tag", _BUILD_BASE, context)
    return {"BASE": _BASE, "BUILD_BASE": _BUILD_BASE}


def _build_context(context: Path) -> None:
    """Let pip in the build find packages as pip on this machine does, with the files that its settings name."""
    listed = processes.run([sys.executable, "-m", "pip", "config", "list"])
    settings = pip_settings(listed.stdout)
    if bundle := os.environ.get("SSL_CERT_FILE"):
        settings.setdefault("cert", bundle)
    root = context / "root"
    for path in {Path(word) for value in settings.values() for word in value.split() if word.startswith("/")}:
        there = root / path.relative_to("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, there, dirs_exist_ok=True)
        elif path.exists():
            shutil.copy(path, there)
    (root / "etc").mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {value.replace(chr(10), chr(10) + '  ')}" for key, value in sorted(settings.items())]
    (root / "etc/pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    (context / "Dockerfile").write_text(f"FROM {_BASE}\nCOPY root/ /\n")


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for source in _SOURCES:
        top = root / source
        for file in [top, *sorted(top.rglob("*"))]:
            if file.is_file() and "__pycache__" not in file.parts:
                mode = file.stat().st_mode & 0o111
                digest.update(f"{file.relative_to(root)} {mode:o}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def pip_settings(listed: str) -> dict[str, str]:
    """What `pip config list` says of where packages are found; the environment wins over the files."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.partition(".")
        if section in found and option in _PIP_OPTIONS:
            found[section][option] = str(ast.literal_eval(value))
    return {**found["global"], **found["install"], **found[":env:"]}
