"""File systems made of Debian's packages, from the mirror that apt on this machine uses."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from . import places, processes, progress, toolchain

ENDING_WITH_US = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
"""Before a command: its mounts, and all that it starts, end with it, and it ends with us."""

_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")


def tree(target: Path, release: str, packages: Sequence[str], *, hook: str | None = None) -> None:
    """Write the file system of a small Debian with these packages as a tar archive.

    `hook` is a shell command that changes it before, with its root as `$1`. `RuntimeError` with what was said last
    where something fails.
    """
    command: list[str | Path] = [toolchain.tool("mmdebstrap"), "--quiet", "--format=tar", "--mode=root"]
    command += ["--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    if hook is not None:
        command.append(f"--customize-hook={hook}")
    # Beside the target, where the next one finds what is left of one that was killed.
    scratch = target.with_name(target.name + ".tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        processes.run([*ENDING_WITH_US, *command, release, target, mirror()], env={"TMPDIR": str(scratch)})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def base(release: str) -> Path:
    """The archive of a small Debian of this release with its Python, made where it is not there yet."""
    target = places.cache() / f"images/base-{release}.tar"
    with toolchain.locked(f"base-{release}.lock"):
        if not target.exists():
            with progress.step(f"making a Debian {release} with Python"):
                scratch = target.with_name(target.name + ".new")
                tree(scratch, release, ("ca-certificates", "python3-venv"))
                scratch.rename(target)
    return target


def mirror() -> str:
    """URL of the first Debian mirror of apt's configuration."""
    form = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]
    for line in processes.run(form).stdout.splitlines():
        site, _, suite = line.partition(" ")
        if suite == release():
            return site
    raise RuntimeError(f"apt has no mirror of {release()}")


def release() -> str:
    """The name of this machine's release."""
    words = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return words["VERSION_CODENAME"].strip('"')
