"""A Prometheus in the cluster, told what to scrape by the chart's ServiceMonitors and what to warn of by its rules.

The Prometheus operator turns such resources into a configuration, for as much of them as the chart uses that is done
here. Debian's Prometheus knows nothing of Kubernetes, so it is given the addresses that there are at the start.
"""

import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.cluster import images
from tests.cluster.install import CHART, NAME

from .tenant import Tenant
from .waiting import until

POD = "prometheus"
PORT = 9090


class Prometheus:
    """A pod in the namespace of a tenant."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._release = tenant.release

    def start(self) -> None:
        """Start it and wait until it has scraped something."""
        self._release.cluster.load_image(images.prometheus())
        self._tenant.apply(self._config(), self._pod())
        self._tenant.kubectl("wait", f"pod/{POD}", "--for=condition=Ready", "--timeout=60s")
        until(lambda: self.query("up"), "Prometheus has scraped")

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and value of each sample of an instant query."""
        found = self._get("query?" + urllib.parse.urlencode({"query": expression}))
        return [(sample["metric"], float(sample["value"][1])) for sample in found["result"]]

    def names(self) -> set[str]:
        """Names of all series that there have been."""
        return set(self._get("label/__name__/values"))

    def alerts(self) -> set[str]:
        """Names of the alerts whose expression is true now."""
        return {alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"]}

    def _get(self, path: str) -> Any:
        url = f"/api/v1/namespaces/{self._tenant.namespace}/pods/{POD}:{PORT}/proxy/api/v1/{path}"
        return json.loads(self._tenant.kubectl("get", "--raw", url).stdout)["data"]

    def _config(self) -> dict[str, Any]:
        values = self._release.helm("get", "values", NAME, "--output=yaml")
        flags = (
            "--set=serviceMonitor.enabled=true,serviceMonitor.interval=1s,prometheusRule.enabled=true",
            "--values=-",
        )
        rendered = yaml.safe_load_all(self._release.helm("template", NAME, str(CHART), *flags, input=values))
        manifests = [manifest for manifest in rendered if manifest]
        (rules,) = [one["spec"] for one in manifests if one["kind"] == "PrometheusRule"]
        monitors = [one for one in manifests if one["kind"] == "ServiceMonitor"]
        configuration = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                self._job(monitor, endpoint) for monitor in monitors for endpoint in monitor["spec"]["endpoints"]
            ],
        }
        data = {"prometheus.yml": yaml.safe_dump(configuration), "rules.yml": yaml.safe_dump(rules)}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": POD}, "data": data}

    def _job(self, monitor: Mapping[str, Any], endpoint: Mapping[str, Any]) -> dict[str, Any]:
        """What one endpoint comes to."""
        return {
            "job_name": monitor["metadata"]["name"],
            "metrics_path": endpoint["path"],
            "scrape_interval": endpoint["interval"],
            "static_configs": list(self._targets(monitor, endpoint["port"])),
        }

    def _targets(self, monitor: Mapping[str, Any], port_name: str) -> Iterator[dict[str, Any]]:
        """What is behind the port of that name of the Services that the monitor selects."""
        namespace = monitor["metadata"]["namespace"]
        selector = ",".join(f"{key}={value}" for key, value in monitor["spec"]["selector"]["matchLabels"].items())
        services = self._list("services", namespace, selector)
        for service in (one["metadata"]["name"] for one in services):
            for part in self._list("endpointslices", namespace, f"kubernetes.io/service-name={service}"):
                (port,) = [one["port"] for one in part["ports"] if one["name"] == port_name]
                for end in part["endpoints"]:
                    labels = {"namespace": namespace, "job": service, "pod": end["targetRef"]["name"]}
                    yield {"targets": [f"{end['addresses'][0]}:{port}"], "labels": labels}

    def _list(self, kind: str, namespace: str, selector: str) -> list[dict[str, Any]]:
        done = self._release.cluster.kubectl("get", kind, "-n", namespace, "-l", selector, "-o", "json")
        return list(json.loads(done.stdout)["items"])

    def _pod(self) -> dict[str, Any]:
        container = {
            "name": POD,
            "image": images.PROMETHEUS,
            "imagePullPolicy": "Never",
            "args": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data"],
            "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PORT}, "periodSeconds": 1},
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/prometheus"},
                {"name": "data", "mountPath": "/data"},
            ],
        }
        volumes = [{"name": "config", "configMap": {"name": POD}}, {"name": "data", "emptyDir": {}}]
        spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": spec}
