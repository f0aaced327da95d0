"""An API server with an admission policy that takes labels and annotations away from Secrets."""

from tests.unit.controller.fake_api import Body, FakeApi, Place


class StrippingApi(FakeApi):
    """Stores Secrets of one namespace without what is named in `kinds`."""

    def __init__(self, namespace: str, *kinds: str) -> None:
        super().__init__()
        self.namespace = namespace
        self.kinds = kinds

    def _store(self, place: Place, body: Body) -> bool:
        if place[:2] == ("secrets", self.namespace):
            body["metadata"].update({kind: {} for kind in self.kinds})
        return super()._store(place, body)
