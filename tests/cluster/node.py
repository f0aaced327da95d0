"""The node of a local cluster: containerd, kubelet, kube-proxy, the pods' network and the cluster's DNS."""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from . import images, namespace, processes, toolchain

NAME = "node"
POD_RANGE = "10.244.0.0/24"
CLUSTER_DNS = "10.96.0.10"
SOCKET = "/run/containerd/containerd.sock"
"""Inside the node's own /run."""

_COREFILE = """\
cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {
  errors
  ready
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    pods insecure
  }
}
.:53 {
  errors
  template ANY ANY . {
    rcode NXDOMAIN
  }
}
"""


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


def kubelet_config(directory: Path, pki: Path, cgroup_root: str) -> str:
    """kubelet's configuration: defaults but for paths and for what a test node must not do (eviction)."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{pki}/ca.crt"}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{pki}/kubelet-server.crt",
            "tlsPrivateKeyFile": f"{pki}/kubelet-server.key",
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "clusterDNS": [CLUSTER_DNS],
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


def cni_config() -> str:
    """The pods' network: a bridge, addresses from one range, and host ports."""
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_RANGE}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}, indent=2)


def start(
    launch: Callable[[str, Sequence[str | Path]], Path],
    space: namespace.Namespace,
    directory: Path,
    pki: Path,
    log: Callable[[str], Path],
) -> list[Path]:
    """Start the node's programs, load what every node needs, and return their pid files."""
    for child in ("cni", "certs.d", "volume-plugins"):
        (directory / child).mkdir(parents=True, exist_ok=True)
    (directory / "containerd.toml").write_text(containerd_config(directory, _snapshotter(space, directory)))
    (directory / "kubelet.yaml").write_text(kubelet_config(directory, pki, space.cgroup_root))
    (directory / "cni/10-pods.conflist").write_text(cni_config())

    containerd = launch("containerd", [toolchain.tool("containerd"), "--config", directory / "containerd.toml"])
    processes.wait_until(
        lambda: _ctr(space, "version").returncode == 0,
        "containerd answers",
        timeout=30,
        pid_files=[containerd],
        log=log("containerd"),
    )
    load_image(space, images.pause())
    kubelet = launch(
        "kubelet",
        [
            toolchain.tool("kubelet"),
            f"--config={directory / 'kubelet.yaml'}",
            f"--kubeconfig={pki}/kubelet.kubeconfig",
            f"--hostname-override={NAME}",
            f"--node-ip={namespace.ADDRESS}",
            f"--cert-dir={pki}",
        ],
    )
    proxy = launch(
        "kube-proxy",
        [
            toolchain.tool("kube-proxy"),
            f"--kubeconfig={pki}/kube-proxy.kubeconfig",
            f"--hostname-override={NAME}",
            # Of the modes that work everywhere it is the one that serves NodePorts on 127.0.0.1.
            "--proxy-mode=iptables",
            f"--cluster-cidr={POD_RANGE}",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
    )
    load_image(space, images.coredns())
    return [containerd, kubelet, proxy]


def load_image(space: namespace.Namespace, archive: Path) -> None:
    """Import an OCI archive under the name in it, where the kubelet looks for images."""
    done = _ctr(space, "--namespace=k8s.io", "images", "import", str(archive))
    if done.returncode:
        raise RuntimeError(f"{archive.name}: {done.stderr}")


def _ctr(space: namespace.Namespace, *args: str) -> subprocess.CompletedProcess[str]:
    command = [*space.enter(), toolchain.tool("ctr"), f"--address={SOCKET}", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def _snapshotter(space: namespace.Namespace, directory: Path) -> str:
    """overlayfs where the disk can do it, otherwise `native`, which copies layers and works everywhere."""
    trial = directory / "overlay-trial"
    for child in ("lower", "upper", "work", "merged"):
        (trial / child).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={trial}/lower,upperdir={trial}/upper,workdir={trial}/work"
    script = f'mount -t overlay overlay -o "{options}" "{trial}/merged" && umount "{trial}/merged"'
    works = subprocess.run([*space.enter(), "/bin/sh", "-c", script], capture_output=True, check=False).returncode == 0
    shutil.rmtree(trial, ignore_errors=True)
    return "overlayfs" if works else "native"


def dns_manifests() -> str:
    """CoreDNS as a Deployment behind the `kube-dns` Service, as every distribution runs it.

    It knows the cluster's names and answers that any other does not exist: a test cluster asks nobody
    outside.
    """
    labels = {"k8s-app": "kube-dns"}
    meta = {"name": "coredns", "namespace": "kube-system"}
    container = {
        "name": "coredns",
        "image": images.COREDNS,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    role = {
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ]
    }
    rbac = "rbac.authorization.k8s.io"
    return yaml.safe_dump_all(
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "system:coredns"},
                **role,
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "system:coredns"},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:coredns"},
                "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
            },
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": _COREFILE}},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": meta,
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system"},
                "spec": {
                    "clusterIP": CLUSTER_DNS,
                    "selector": labels,
                    "ports": [
                        {"name": "dns", "port": 53, "protocol": "UDP"},
                        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                    ],
                },
            },
        ],
        sort_keys=False,
    )


def wait_ready(
    kubectl: Callable[..., "subprocess.CompletedProcess[str]"],
    pid_files: Sequence[Path],
    log: Path,
) -> None:
    """Wait until the node takes pods and the cluster's DNS answers."""

    def ready() -> bool:
        node = kubectl("wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=2s", check=False)
        return node.returncode == 0

    def dns() -> bool:
        available = ["wait", "--for=condition=Available", "deployment/coredns", "-n", "kube-system"]
        return bool(kubectl(*available, "--timeout=2s", check=False).returncode == 0)

    processes.wait_until(ready, "the node is ready", timeout=90, pid_files=pid_files, log=log)
    processes.wait_until(dns, "the cluster's DNS is ready", timeout=60, pid_files=pid_files, log=log)
