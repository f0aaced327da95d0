"""Everything at once: the cluster, its clocks, one or two operators, and replicas of the token server."""

import itertools
import logging
from contextlib import ExitStack
from datetime import timedelta
from unittest import mock

import aiohttp

from pullpass.api import acceptance
from pullpass.api.acceptance import Acceptance, Issuing
from pullpass.credentials import password
from pullpass.kube.resources import ENDPOINT_SLICES, NAMESPACES, REGISTRY_TOKENS, SECRETS, SERVICE_ACCOUNTS
from pullpass.tokenserver.management import Management
from tests.unit.controller.fake_api import Body, Place
from tests.unit.controller.faults.operators import Operator, standing_in
from tests.unit.controller.faults.promises import Promises
from tests.unit.controller.faults.replicas import Replica
from tests.unit.controller.faults.still import StillLoop
from tests.unit.controller.world import SETTINGS, Cluster

PAGE = 3
"""Objects in a page of a list: few, so that lists have middles."""
MOVES = 2000
"""Steps after which nothing should move any more, many times over."""


class _Log(logging.Handler):
    """All that is logged, at any level, with all that a formatter could make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.defects: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {vars(record)}")
        if record.levelno >= logging.ERROR:
            self.defects.append(record.getMessage())


class Scene(Cluster):
    """What a test moves. `close` it at the end."""

    def __init__(self) -> None:
        self.loop = StillLoop()
        super().__init__()
        self.api.page = PAGE
        self.promises = Promises(self)
        self.operators: list[Operator] = []
        self.replicas: list[Replica] = []
        self.latest = self.now
        """The latest time that the wall clock has shown since all was settled."""
        self.set_back = False
        """Whether it was set back since then."""
        self.broken: dict[tuple[str, str], str] = {}
        """Kinds and namespaces in which all calls of the operator fail, and how (see FAULTS)."""
        self.log = _Log()
        self._numbers = itertools.count(1)
        self._begun = 0
        self._baseline: dict[Place, Body] = {}
        self._stack = ExitStack()
        self._stack.callback(self.loop.close)
        self._stack.enter_context(standing_in(self))
        # Chance must not make two runs of one example differ.
        number = itertools.count(1)
        self._stack.enter_context(mock.patch.object(password, "new_id", side_effect=lambda: f"{next(number):06x}"))
        self._stack.enter_context(mock.patch.object(password, "new_nonce", side_effect=lambda: f"{next(number):064x}"))
        logger = logging.getLogger("pullpass")
        before = logger.level, logger.propagate
        logger.addHandler(self.log)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        self._stack.callback(logger.removeHandler, self.log)
        self._stack.callback(logger.setLevel, before[0])
        self._stack.callback(setattr, logger, "propagate", before[1])
        self.namespace("ops")
        self.namespace("staging", "web, ops")
        self.account("ops", "default")
        self.begin()

    def close(self) -> None:
        """Ends all processes and the loop."""
        self.end_operators()
        self._stack.close()

    # clocks

    def forward(self, seconds: float) -> None:
        """Time passes on both clocks."""
        self._set(seconds)
        self.loop.forward(seconds)

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._set(seconds)
        self.set_back |= seconds < 0
        self.loop.run()

    def _set(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.latest = max(self.latest, self.now)

    # processes

    def start_operator(self) -> None:
        """Another process, which leads at once."""
        self.operators.append(Operator(self, f"pod-{next(self._numbers)}"))

    def end_operators(self, *, but: int = 0) -> None:
        """All processes end, but so many of the newest."""
        while len(self.operators) > but:
            self.operators.pop(0).kill()

    def restart_ended(self) -> None:
        """The Deployment starts anew what ended by itself."""
        for operator in [operator for operator in self.operators if operator.ended]:
            self.operators.remove(operator)
            operator.kill()
            self.start_operator()

    def start_replica(self) -> None:
        """Another token server, which is not ready yet."""
        self.replicas.append(Replica(self, f"10.0.0.{next(self._numbers)}:8081"))
        self.publish_replicas()

    def catch_up(self, *replicas: Replica) -> bool:
        """Replicas hear everything, and are ready from then on. Tells whether there was anything."""
        moved = False
        for replica in replicas:
            moved |= not replica.current
            replica.catch_up()
            if not replica.ready:
                replica.ready = True
                self.publish_replicas()
        return moved

    def publish_replicas(self) -> None:
        """The Service knows the replicas, and which of them are ready."""
        self.api.put(
            ENDPOINT_SLICES,
            {
                "metadata": {
                    "namespace": SETTINGS.namespace,
                    "name": "tokens-1",
                    "labels": {"kubernetes.io/service-name": SETTINGS.token_server_service},
                },
                "ports": [{"name": acceptance.PORT_NAME, "port": 8081}],
                "endpoints": [
                    {"addresses": [replica.address.partition(":")[0]], "conditions": {"ready": replica.ready}}
                    for replica in self.replicas
                ],
            },
        )

    def ask(self, address: str, token_uid: str, password: str, registry: str) -> Acceptance:
        """What a replica answers on its management port. Raises aiohttp.ClientConnectionError where there is none."""
        return self._management(address).evaluate(token_uid, password, registry)

    def issuing(self, address: str) -> Issuing:
        """Which registries a replica can issue for. Raises aiohttp.ClientConnectionError where there is none."""
        return self._management(address).issuing()

    def _management(self, address: str) -> Management:
        replica = next((replica for replica in self.replicas if replica.address == address), None)
        if replica is None:
            raise aiohttp.ClientConnectionError("no answer")
        return replica.management

    # how things go by themselves

    def flow(self, alone: Operator | None = None) -> None:
        """Nothing fails or lags until nothing moves any more. Time stands still meanwhile.

        Only the newest operator is left; but while one goes on `alone`, the others stand still.
        """
        if alone is None:
            self.end_operators(but=1)
        for _ in range(MOVES):
            if not self._move(alone):
                return
        raise AssertionError("the operator does not come to rest")

    def _move(self, alone: Operator | None) -> bool:
        self.restart_ended()
        moved = self.collect_garbage() | self.catch_up(*self.replicas)
        for operator in self.operators if alone is None else [alone]:
            moved |= operator.hear_all()
            self.loop.run()
            if operator.line.waiting:
                operator.answer(0)
                moved = True
        return moved

    def collect_garbage(self) -> bool:
        """Kubernetes deletes what belongs to an owner that is no more. Tells whether there was anything."""
        living = {body["metadata"]["uid"] for body in self.api.objects.values()}
        gone = [
            body["metadata"]
            for body in self.api.of(SECRETS)
            if (owners := body["metadata"].get("ownerReferences")) and not any(o["uid"] in living for o in owners)
        ]
        for metadata in gone:
            self.api.remove(SECRETS, metadata["namespace"], metadata["name"])
        return bool(gone)

    def finish_namespace(self, name: str) -> None:
        """A namespace that is being terminated goes with all that is in it."""
        for resource in (SECRETS, SERVICE_ACCOUNTS, REGISTRY_TOKENS):
            for body in self.api.of(resource):
                if body["metadata"].get("namespace") == name:
                    self.promises.foreign.pop((resource.plural, name, body["metadata"]["name"]), None)
                    self.api.remove(resource, name, body["metadata"]["name"])
        self.api.remove(NAMESPACES, "", name)

    # what has been

    def begin(self) -> None:
        """A time begins in which `since` remembers all that was."""
        self._begun = len(self.api.watched)
        self._baseline = dict(self.api.objects)
        self.latest = self.now
        self.set_back = False
        self.promises.reseeded = False
        self.promises.refused.clear()

    def since(self, plural: str, namespace: str, name: str) -> list[Body | None]:
        """All versions of an object since then, None where it was not there."""
        found = [self._baseline.get((plural, namespace, name))]
        for type_, kind, body in self.api.watched[self._begun :]:
            metadata = body["metadata"]
            if (kind, metadata.get("namespace", ""), metadata["name"]) == (plural, namespace, name):
                found.append(None if type_ == "DELETED" else body)
        return found
