"""`python -m tests.cluster`: the test clusters from the command line."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

from . import engine, images, nodeimage, provider, pythons, toolchain
from .kind import KindCluster


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        print("interrupted; what was started is stopped", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="Clusters to test on.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="build and install everything once")
    build.set_defaults(run=_build)

    up = commands.add_parser("up", help="start a cluster, or find the running one")
    size = up.add_mutually_exclusive_group()
    size.add_argument("--nodes", type=_positive, default=1, help="how many nodes it has (1)")
    size.add_argument("--control-plane", action="store_const", const=0, dest="nodes", help="without a node")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="end a cluster, or the leftovers of one")
    down.add_argument("--all", action="store_true", help="every cluster of ours, and what is left in Docker")
    down.set_defaults(run=_down)

    sweep = commands.add_parser("sweep", help="remove what is left of clusters that are not running")
    sweep.set_defaults(run=_sweep)

    kubeconfig = commands.add_parser("kubeconfig", help="print the path of its kubeconfig")
    kubeconfig.set_defaults(run=_kubeconfig)

    status = commands.add_parser("status", help="list the clusters")
    status.set_defaults(run=_status)

    for command in (up, down, kubeconfig):
        command.add_argument("--name", default="pullpass")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a number from 1 on")
    return int(text)


def _build(options: argparse.Namespace) -> None:
    for name in toolchain.EVERYTHING:
        toolchain.tool(name)
    toolchain.install_debian(list(toolchain.DEBIAN))
    if pythons.possible():
        for version in pythons.others():
            pythons.prepare(version)
    with engine.use() as docker:
        nodeimage.ensure(docker)
    for archive in (images.product(), images.registry()):
        print(archive)


def _up(options: argparse.Namespace) -> None:
    if not options.nodes:
        print(f"export KUBECONFIG={provider.start_control_plane(options.name).kubeconfig}")
        return
    cluster = provider.start(options.name, nodes=options.nodes)
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"# registry localhost:{cluster.registry_port}, token server localhost:{cluster.token_port}")


def _down(options: argparse.Namespace) -> int:
    stops: list[Callable[[], None]] = [
        partial(provider.stop, name) for name in (provider.names() if options.all else [options.name])
    ]
    if options.all:
        stops.append(engine.clean)
    failed = 0
    for stop in stops:
        try:
            stop()
        except RuntimeError as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


def _sweep(options: argparse.Namespace) -> None:
    for name in provider.sweep():
        print(f"{name}: removed")


def _kubeconfig(options: argparse.Namespace) -> int:
    cluster = provider.attach(options.name)
    if cluster is None:
        print(f"no running cluster {options.name}", file=sys.stderr)
        return 1
    print(cluster.kubeconfig)
    return 0


def _status(options: argparse.Namespace) -> None:
    for name in provider.names():
        cluster = provider.attach(name)
        if cluster is None:
            print(f"{name}: not running, with leftovers of an earlier run (`sweep` removes them)")
        elif isinstance(cluster, KindCluster):
            size = f"{len(cluster.nodes)} node{'s' if len(cluster.nodes) > 1 else ''}"
            print(f"{name}: running, {size}, registry {cluster.registry_port}, token server {cluster.token_port}")
        else:
            print(f"{name}: running, control plane only")


if __name__ == "__main__":
    sys.exit(main())
