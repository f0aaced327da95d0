"""`python -m demo`: pullpass on a cluster of its own, from the first token to its end, in one terminal."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests import cluster
from tests.cluster import images, progress, provider, toolchain
from tests.cluster.install import Release

from .story import Story
from .terminal import StepError, Terminal

NAME = "demo"
_FILES = Path(__file__).resolve().parent
_REGISTRY = "localhost:30500"
"""The registry as the YAML files call it; another port is put in its place where that one is taken."""


def main() -> int:
    """Tell the story; 0 if everything was as told."""
    signal.signal(signal.SIGTERM, _interrupt)
    keep = os.environ.get("KEEP") == "1"
    kept = False
    try:
        with tempfile.TemporaryDirectory(prefix="pullpass-demo-") as directory:
            running = cluster.start(NAME)
            terminal = _set_up(running, Path(directory))
            try:
                Story(terminal, f"localhost:{running.registry_port}").tell()
            except StepError as error:
                print(f"\nThe demo failed in step {terminal.title}\n{error}\n\n{_situation(terminal)}", file=sys.stderr)
                return 1
            print("\nAll of it was as told.")
            kept = keep
            _try_out(running, keep)
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except (RuntimeError, OSError) as error:
        print(f"\nThe demo could not be set up: {error}", file=sys.stderr)
        return 1
    finally:
        if not kept:
            _uninterrupted(_stop)


def _set_up(running: cluster.KindCluster, directory: Path) -> Terminal:
    """Install pullpass and publish the image that the story pulls."""
    release = Release(running)
    release.install()
    story = directory / "demo"
    story.mkdir()
    for file in _FILES.glob("*.yaml"):
        (story / file.name).write_text(file.read_text().replace(_REGISTRY, release.registry))
    programs = [toolchain.tool("kubectl"), toolchain.tool("skopeo")]
    terminal = Terminal(directory, running.kubeconfig, programs)
    with progress.step("publishing the demo's image"):
        _publish(running, release, directory)
    return terminal


def _publish(running: cluster.KindCluster, release: Release, directory: Path) -> None:
    # Of an earlier run that was kept.
    running.kubectl("delete", "namespace", "web", "elsewhere", "--ignore-not-found")
    running.kubectl("apply", "-f", str(directory / "demo/publisher.yaml"))
    running.kubectl("wait", "registrytoken/ci", "-n", "publisher", "--for=condition=Ready", "--timeout=60s")
    form = 'go-template={{index .data ".dockerconfigjson" | base64decode}}'
    login = running.kubectl("get", "secret", "ci-pull", "-n", "publisher", "-o", form).stdout
    authfile = directory / "publisher.json"
    authfile.write_text(login)
    target = f"docker://{release.registry}/team/hello:1"
    options = ["--quiet", "--dest-tls-verify=false", f"--authfile={authfile}"]
    command: list[str | Path] = [toolchain.tool("skopeo"), "copy", *options]
    command += [f"oci-archive:{images.hello('1')}", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"skopeo copy: {done.stderr}")


def _situation(terminal: Terminal) -> str:
    """What a person would look at first after a failure."""
    objects = terminal.quietly("kubectl get scopemaps,registrytokens,pods --all-namespaces")
    form = "-o custom-columns=NAMESPACE:.metadata.namespace,REASON:.reason,MESSAGE:.message"
    events = terminal.quietly(f"kubectl get events --all-namespaces --field-selector=type=Warning {form}")
    return f"{objects}\n\n{events}"


def _try_out(running: cluster.KindCluster, keep: bool) -> None:
    """Leave it running, or stay until Ctrl-C where somebody can press it."""
    in_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not keep and not in_terminal:
        return
    print(
        f"\nIt is all still there:\n\n"
        f"  export KUBECONFIG={running.kubeconfig} PATH={toolchain.tool('kubectl').parent}:$PATH\n"
        f"  kubectl get scopemaps,registrytokens --all-namespaces\n\n"
        f"The token of the story is dead; this gives it back:\n\n"
        f'  kubectl patch registrytoken hello -n web --type=merge --patch=\'{{"spec":{{"expiresAt":null}}}}\'\n'
    )
    if keep:
        print(f"To stop it:\n\n  {sys.executable} -m tests.cluster down --name {NAME}\n")
        return
    print("Ctrl-C stops everything.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def _stop() -> None:
    with progress.step("stopping the cluster"):
        provider.stop(NAME)


def _uninterrupted(action: Callable[[], None]) -> None:
    """Run it to its end, however often somebody presses Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    action()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
