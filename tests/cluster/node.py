"""A node of a local cluster: namespaces of its own, and in them containerd, kubelet and kube-proxy."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from . import controlgroups, dns, images, network, processes, toolchain
from .controlgroups import ControlGroup
from .namespace import Namespace

SOCKET = "/run/containerd/containerd.sock"
"""Inside the node's own /run."""


class Node:
    """One node of a cluster, under the cluster's directory. The first one has the number 1."""

    PROGRAMS = ("namespace", "containerd", "kubelet", "kube-proxy")

    def __init__(self, cluster: Path, number: int) -> None:
        self.name = f"node-{number}"
        self.address = network.address(number)
        self.pod_range = network.pod_range(number)
        self._cluster = cluster
        self._directory = cluster / "nodes" / self.name
        self._group = ControlGroup(f"{controlgroups.of_cluster(cluster).path}/{self.name}")
        first = Node(cluster, 1).space if number > 1 else None
        self.space: Namespace = Namespace(self._directory, self.pid_file("namespace"), outer=first)

    def pid_file(self, program: str) -> Path:
        return self._cluster / "pids" / self.name / f"{program}.pid"

    def log(self, program: str) -> Path:
        return self._cluster / "logs" / self.name / f"{program}.log"

    def create(self) -> None:
        """Make what the node runs in, as yet without a link to anywhere."""
        self._group.create()
        self.space.create(self.log("namespace"))

    def start(self, pki: Path) -> None:
        """Start the node's programs and load what every node needs."""
        directory = self._directory
        for child in ("cni", "certs.d", "volume-plugins"):
            (directory / child).mkdir(parents=True, exist_ok=True)
        (directory / "containerd.toml").write_text(containerd_config(directory, self._snapshotter()))
        (directory / "kubelet.yaml").write_text(kubelet_config(directory, pki, self.name, self._group.path))
        (directory / "cni/10-pods.conflist").write_text(cni_config(self.pod_range))

        containerd = self._launch("containerd", "--config", directory / "containerd.toml")
        processes.wait_until(
            lambda: self.ctr("version").returncode == 0,
            "containerd answers",
            timeout=30,
            pid_files=[containerd],
            log=self.log("containerd"),
        )
        self.load_image(images.pause())
        self._launch(
            "kubelet",
            f"--config={directory / 'kubelet.yaml'}",
            f"--kubeconfig={pki}/{self.name}.kubeconfig",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            f"--cert-dir={pki}",
        )
        self._launch(
            "kube-proxy",
            f"--kubeconfig={pki}/kube-proxy.kubeconfig",
            f"--hostname-override={self.name}",
            # Of the modes that work everywhere it is the one that serves NodePorts on 127.0.0.1.
            "--proxy-mode=iptables",
            f"--cluster-cidr={network.POD_RANGE}",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        )
        self.load_image(images.coredns())

    def load_image(self, archive: Path) -> None:
        """Import an OCI archive under the name in it, where the kubelet looks for images."""
        done = self.ctr("images", "import", str(archive))
        if done.returncode:
            raise RuntimeError(f"{archive.name}: {done.stderr}")

    def trust(self, registry: str, ca: str) -> None:
        """Have containerd trust this CA (PEM) for the registry of this URL and where it sends it, from now on."""
        place = self._directory / "certs.d" / urlsplit(registry).netloc
        place.mkdir(parents=True, exist_ok=True)
        (place / "ca.crt").write_text(ca)
        (place / "hosts.toml").write_text(trusting(registry, place / "ca.crt"))

    def ctr(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run containerd's client on what belongs to Kubernetes."""
        command = [*self.space.enter(), toolchain.tool("ctr"), f"--address={SOCKET}", "--namespace=k8s.io", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def _launch(self, program: str, *flags: str | Path) -> Path:
        argv: Sequence[str | Path] = [*self.space.enter(), toolchain.tool(program), *flags]
        processes.start(argv, pid_file=self.pid_file(program), log=self.log(program))
        return self.pid_file(program)

    def _snapshotter(self) -> str:
        """overlayfs where the disk can do it, otherwise `native`, which copies layers and works everywhere."""
        trial = self._directory / "overlay-trial"
        for child in ("lower", "upper", "work", "merged"):
            (trial / child).mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={trial}/lower,upperdir={trial}/upper,workdir={trial}/work"
        script = f'mount -t overlay overlay -o "{options}" "{trial}/merged" && umount "{trial}/merged"'
        command = [*self.space.enter(), "/bin/sh", "-c", script]
        works = subprocess.run(command, capture_output=True, check=False).returncode == 0
        shutil.rmtree(trial, ignore_errors=True)
        return "overlayfs" if works else "native"


def containerd_config(directory: Path, snapshotter: str) -> str:
    """containerd's configuration; nothing of it outside `directory` but what is in the node's own /run."""
    return f"""\
version = 2
root = "{directory}/containerd"
state = "/run/containerd"
imports = []
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing"]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{images.PAUSE}"
# A negative score is refused where CAP_SYS_RESOURCE is missing, and then no sandbox starts.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{directory}/cni"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{directory}/certs.d"
"""


def trusting(registry: str, ca: Path) -> str:
    """containerd's `hosts.toml` for the registry of this URL: its certificate, or its token server's, is of this CA."""
    # containerd 1.6 wants a table for the host, although it is the server's own.
    return f'server = "{registry}"\n\n[host."{registry}"]\n  ca = "{ca}"\n'


def kubelet_config(directory: Path, pki: Path, name: str, cgroup_root: str) -> str:
    """kubelet's configuration: defaults but for paths and for what a test node must not do (eviction)."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{pki}/ca.crt"}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{pki}/{name}-server.crt",
            "tlsPrivateKeyFile": f"{pki}/{name}-server.key",
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "clusterDNS": [dns.ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": "/etc/resolv.conf",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup_root,
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            # The disk is the developer's: however full it is, pods stay, and loaded images are never
            # collected.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "volumePluginDir": f"{directory}/volume-plugins",
            "shutdownGracePeriod": "0s",
        },
        sort_keys=False,
    )


def cni_config(pod_range: str) -> str:
    """The pods' network: a bridge, addresses from the node's range, and host ports.

    No masquerading: every node knows the way to every pod, and there is nothing beyond them.
    """
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": pod_range}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}, indent=2)
