"""The story that the demo tells, step by step; each step checks what it claims."""

import json
from datetime import UTC, datetime, timedelta

from .terminal import StepError, Terminal

_READ_SECRET = (
    "kubectl get secret hello-pull -n web -o go-template='{{index .data \".dockerconfigjson\" | base64decode}}'"
)


class Story:
    """A token from its first pull to its end; `registry` is host and port."""

    def __init__(self, terminal: Terminal, registry: str) -> None:
        self._terminal = terminal
        self._image = f"{registry}/team/hello:1"

    def tell(self) -> None:
        """All steps. Raises StepError at the first thing that is not as told."""
        self._rights()
        self._token()
        self._pull()
        self._no_right()
        self._rotation()
        self._end()

    def _rights(self) -> None:
        terminal = self._terminal
        terminal.step(
            "The platform team says what may be read, and by whom",
            "A ScopeMap lists actions on repositories, and the namespaces whose tokens may use it.",
        )
        terminal.run("kubectl create namespace web")
        terminal.run("kubectl create namespace elsewhere")
        terminal.run("kubectl apply -f demo/scope-map.yaml")

    def _token(self) -> None:
        terminal = self._terminal
        terminal.step(
            "An application team asks for a token",
            "A RegistryToken names the map. Its password goes into a pull secret, and that into the\n"
            "namespace's ServiceAccount.",
        )
        terminal.run("kubectl apply -f demo/registry-token.yaml")
        terminal.run("kubectl wait registrytoken/hello -n web --for=condition=Ready --timeout=60s")
        terminal.run("kubectl get registrytokens -n web")
        account = terminal.run("kubectl get serviceaccount default -n web -o jsonpath='{.imagePullSecrets}'")
        terminal.check("hello-pull" in account, "the ServiceAccount has the pull secret")

    def _pull(self) -> None:
        terminal = self._terminal
        terminal.step(
            "A pod pulls a private image",
            "demo/pod.yaml says nothing of pull secrets, and nobody has copied one.",
        )
        terminal.run("kubectl apply -f demo/pod.yaml")
        terminal.run("kubectl wait pod/hello -n web --for=condition=Ready --timeout=60s")
        logs = terminal.run("kubectl logs hello -n web")
        terminal.check(logs.startswith("hello"), "the container runs")

    def _no_right(self) -> None:
        terminal = self._terminal
        terminal.step("A pod of a namespace without a token gets nothing", "The event says why.")
        terminal.run("kubectl apply -f demo/pod-without-right.yaml")
        self._refused("elsewhere", "hello")

    def _rotation(self) -> None:
        terminal = self._terminal
        terminal.step(
            "The password rotates, and no pull fails",
            "A copy of the pull secret, which is a Docker configuration, lets us see what becomes of the old\n"
            "password. Ten seconds (`overlap`) it works beside the new one.",
        )
        uid = self._secret_uid()
        terminal.run(f"{_READ_SECRET} > old.json")
        before = terminal.quietly("cat old.json")
        terminal.wait("the password is replaced", lambda: terminal.quietly(_READ_SECRET) not in ("", before), 45)
        terminal.run(f"{_READ_SECRET} > new.json")
        terminal.run(self._inspect("old.json"))
        terminal.run(self._inspect("new.json"))
        terminal.check(self._secret_uid() == uid, "it is the same Secret: the pods know it already")
        terminal.run("kubectl get registrytokens -n web")
        terminal.wait("the overlap ends", lambda: not terminal.quietly(self._inspect("old.json")), 30)
        terminal.run(self._inspect("old.json"), succeeds=False)
        terminal.run(f"{_READ_SECRET} > new.json")
        terminal.run(self._inspect("new.json"))

    def _end(self) -> None:
        terminal = self._terminal
        end = (datetime.now(UTC) + timedelta(seconds=8)).replace(microsecond=0)
        text = end.strftime("%Y-%m-%dT%H:%M:%SZ")
        terminal.step("The token dies on time", "By the clock: nobody has to do anything, and nothing has to run.")
        patch = json.dumps({"spec": {"expiresAt": text}}, separators=(",", ":"))
        terminal.run(f"kubectl patch registrytoken hello -n web --type=merge --patch='{patch}'")
        terminal.run(f"{_READ_SECRET} > last.json")
        terminal.run(self._inspect("last.json"))
        terminal.wait(f"it is {text}", lambda: datetime.now(UTC) > end, 30)
        terminal.run(self._inspect("last.json"), succeeds=False)
        terminal.run("kubectl wait registrytoken/hello -n web --for=condition=Ready=False --timeout=30s")
        listed = terminal.run("kubectl get registrytokens -n web")
        terminal.check("TokenExpired" in listed, "the token says why")
        terminal.run("kubectl apply -f demo/pod-too-late.yaml")
        self._refused("web", "too-late")

    def _secret_uid(self) -> str:
        return self._terminal.quietly("kubectl get secret hello-pull -n web -o jsonpath='{.metadata.uid}'")

    def _inspect(self, authfile: str) -> str:
        form = "--format='{{.Name}} {{.Digest}}'"
        return f"skopeo inspect --tls-verify=false --authfile={authfile} {form} docker://{self._image}"

    def _refused(self, namespace: str, pod: str) -> None:
        selector = f"--field-selector=involvedObject.name={pod},reason=Failed"
        query = f"kubectl get events -n {namespace} {selector} -o custom-columns=MESSAGE:.message"
        self._terminal.wait(
            "the pod's image is pulled in vain", lambda: "Failed to pull" in self._terminal.quietly(query)
        )
        seen = self._terminal.run(query)
        refused = any(word in seen for word in ("401", "authorization failed", "denied"))
        if not refused:
            raise StepError(f"the event gives another reason:\n{seen}")
        running = self._terminal.quietly(f"kubectl get pod {pod} -n {namespace} -o jsonpath='{{.status.phase}}'")
        self._terminal.check(running == "Pending", "the pod does not run")
