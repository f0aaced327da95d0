"""A runc for machines whose root lacks capabilities, as root in a sandbox may.

`docker run --privileged`, by which kind makes its nodes, asks for all capabilities, and runc fails at the first that
cannot be had. So those are taken off its list.
"""

from pathlib import Path

from . import toolchain

_NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
"""In the order of their numbers, see capabilities(7)."""

_WRAPPER = """\
#!/bin/sh
previous=
for argument; do
  case $previous in
    --bundle) file=$argument/config.json ;;
    --process) file=$argument ;;
    *) file= ;;
  esac
  [ -z "$file" ] || sed -i '{expressions}' "$file"
  previous=$argument
done
exec {runc} "$@"
"""


def missing(status: str) -> list[str]:
    """The capabilities that a process with this `/proc/PID/status` can never have."""
    (line,) = (line for line in status.splitlines() if line.startswith("CapBnd:"))
    bounding = int(line.split()[1], 16)
    return [f"CAP_{name}" for number, name in enumerate(_NAMES) if not bounding >> number & 1]


def runtime(directory: Path) -> Path:
    """The program that the engine starts containers with: runc, or what starts it, in this directory."""
    runc = toolchain.tool("runc")
    lacking = missing(Path("/proc/self/status").read_text())
    if not lacking:
        return runc
    wrapper = directory / "runc"
    wrapper.write_text(wrapping(runc, lacking))
    wrapper.chmod(0o755)
    return wrapper


def wrapping(runc: Path, lacking: list[str]) -> str:
    """A shell script that takes these capabilities out of the container's configuration, and becomes runc."""
    expressions = [f's/,"{name}"//g;s/"{name}",//g;s/"{name}"//g' for name in lacking]
    return _WRAPPER.format(expressions=";".join(expressions), runc=runc)
