"""`pullpass operator` and `pullpass token-server`: flags become settings, and the process runs; and `pullpass keys`.

Each command imports only what it needs: a token server never loads Kopf.
"""

import argparse
import asyncio
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from pullpass.api import registries
from pullpass.api.registries import Registries, RegistriesError
from pullpass.cli import flags, keys, logs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0 when told to stop, 1 when it could not go on."""
    options = _parser().parse_args(arguments)
    logs.configure(options.log_level, options.log_format)
    run = {"operator": _operator, "token-server": _token_server, "keys": keys.run}[options.command]
    try:
        return run(options, registries.load(options.registries))
    except RegistriesError as error:
        print(f"pullpass {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _operator(options: argparse.Namespace, registries: Registries) -> int:
    from pullpass.controller import process
    from pullpass.controller.settings import OperatorSettings, ServerCertificate
    from pullpass.kube.client import KubeError

    settings = OperatorSettings(
        namespace=options.namespace,
        credentials_namespace=options.credentials_namespace,
        identity=options.identity,
        registries=registries,
        token_server_service=options.token_server_service,
        seed_secret=options.seed_secret,
        server_certificates=tuple(ServerCertificate(*wanted) for wanted in options.server_certificate),
        server_ca_secret=options.server_ca_secret,
        server_trust_configmap=options.server_trust_configmap,
        bcrypt_cost=options.bcrypt_cost,
        writes_per_second=options.writes_per_second,
        health_port=options.health_port,
        metrics_port=options.metrics_port,
        kubeconfig=options.kubeconfig,
    )
    try:
        asyncio.run(process.run(settings))
    except (KubeError, process.OperatorEndedError, OSError) as error:
        print(f"pullpass operator: {error}", file=sys.stderr)
        return 1
    return 0


def _token_server(options: argparse.Namespace, registries: Registries) -> int:
    import uvloop

    from pullpass.kube.client import KubeError
    from pullpass.tokenserver import process
    from pullpass.tokenserver.settings import TokenServerSettings

    try:
        settings = TokenServerSettings(
            credentials_namespace=options.credentials_namespace,
            registries=registries,
            port=options.port,
            management_port=options.management_port,
            tls_directory=options.tls_directory,
            max_staleness=timedelta(seconds=options.max_staleness) if options.max_staleness else None,
            bcrypt_cost=options.bcrypt_cost,
            trusted_proxies=tuple(options.trusted_proxy),
            drain_seconds=options.drain_seconds,
            kubeconfig=options.kubeconfig,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(process.run(settings))
    except (KubeError, ValueError, OSError) as error:
        print(f"pullpass token-server: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pullpass", description="Repository-scoped registry tokens for Kubernetes.")
    parser.add_argument("--version", action="version", version=f"pullpass {version('pullpass')}")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    flags.add_locations(common)
    add(
        "--bcrypt-cost",
        type=_cost,
        default=6,
        metavar="N",
        help="cost of password hashes, 4 to 12 (%(default)s)",
    )
    add(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="least level of the lines that are written (%(default)s)",
    )
    add("--log-format", choices=("text", "json"), default="text", help="form of the lines (%(default)s)")

    operator = commands.add_parser("operator", parents=[common], help="reconcile ScopeMaps and RegistryTokens")
    add = operator.add_argument
    flags.add_namespace(operator)
    add("--identity", default=os.environ.get("POD_NAME") or socket.gethostname(), help="who holds the Lease")
    add(
        "--token-server-service",
        required=True,
        metavar="NAME",
        help="headless Service of the token servers' management ports",
    )
    add("--seed-secret", default="pullpass-seed", metavar="NAME", help="Secret of the seed (%(default)s)")
    add(
        "--server-certificate",
        type=_server_certificate,
        action="append",
        default=[],
        metavar="SECRET=HOST,...",
        help="keep a server's certificate for these names in that Secret; may be given again (none)",
    )
    add("--server-ca-secret", default="pullpass-server-ca", metavar="NAME", help="Secret of their CA (%(default)s)")
    add(
        "--server-trust-configmap",
        default="pullpass-server-trust",
        metavar="NAME",
        help="ConfigMap with their CA's certificate, for clients (%(default)s)",
    )
    add(
        "--writes-per-second",
        type=_rate,
        default=100,
        metavar="N",
        help="how many API writes to make at most in a second, in the long run (%(default)s)",
    )
    add("--health-port", type=int, default=8081, help="port of /healthz (%(default)s)")
    add("--metrics-port", type=int, default=8082, help="port of /metrics (%(default)s)")

    server = commands.add_parser("token-server", parents=[common], help="answer registries' clients with access tokens")
    add = server.add_argument
    add("--port", type=int, default=8080, help="port of tokens (%(default)s)")
    add(
        "--management-port",
        type=int,
        default=8081,
        help="port of /healthz, /readyz, /metrics and the operator's questions, plain HTTP (%(default)s)",
    )
    add(
        "--tls-directory",
        type=Path,
        metavar="DIR",
        help="serve HTTPS, with the certificate and key of this directory (tls.crt, tls.key); they may change",
    )
    add(
        "--max-staleness",
        type=int,
        default=0,
        metavar="SECONDS",
        help="refuse to answer when the API server was last heard of longer ago; 0: never (%(default)s)",
    )
    add(
        "--trusted-proxy",
        type=_network,
        action="append",
        default=[],
        metavar="CIDR",
        help="proxies whose X-Forwarded-For headers say who sent a request; may be given again (none)",
    )
    add(
        "--drain-seconds",
        type=int,
        default=5,
        help="how long to go on answering, unready, after SIGTERM (%(default)s)",
        metavar="SECONDS",
    )
    keys.add_to(commands)
    return parser


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _server_certificate(text: str) -> tuple[str, tuple[str, ...]]:
    secret, _, hosts = text.partition("=")
    if not secret or not hosts or "" in hosts.split(","):
        raise argparse.ArgumentTypeError("a server's certificate is given as SECRET=HOST,HOST,...")
    return secret, tuple(dict.fromkeys(hosts.split(",")))


def _cost(text: str) -> int:
    cost = int(text)
    if not 4 <= cost <= 12:
        raise argparse.ArgumentTypeError("a bcrypt cost is 4 to 12")
    return cost


def _rate(text: str) -> float:
    rate = float(text)
    if not 1 <= rate <= 10_000:
        raise argparse.ArgumentTypeError("writes per second are 1 to 10000")
    return rate


if __name__ == "__main__":
    sys.exit(main())
