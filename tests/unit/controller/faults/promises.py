"""The promises of the design, looked at after each write and each time that a replica hears something."""

import base64
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from pullpass.api import names
from pullpass.credentials import password as passwords
from pullpass.credentials.record import Record, Requests, Slot
from pullpass.kube.resources import REGISTRY_TOKENS
from tests.unit.controller.fake_api import Body, Place
from tests.unit.controller.faults import wishes
from tests.unit.controller.faults.line import FAULTS, Fault
from tests.unit.controller.faults.stored import SEED, bare, entries, marks, read, record_place, slot_of, token_uid
from tests.unit.controller.world import SETTINGS, password_in

if TYPE_CHECKING:
    from tests.unit.controller.faults.replicas import Replica
    from tests.unit.controller.faults.scene import Scene


@dataclass
class Issued:
    """A password that was made once."""

    token_uid: str
    username: str
    id: str
    text: str = field(repr=False)
    retires: datetime | None = None
    """When it was to end after its replacement: never later than was said first."""
    dropped: bool = False
    """Whether it has left the record, for good."""
    excused: bool = False
    """Whether it left when its time was over, or when nobody could finish its publication as the seed was lost."""


class Promises:
    """Collects in `broken` what does not hold, as most of it is noticed in the middle of the operator's work."""

    def __init__(self, scene: "Scene") -> None:
        self._scene = scene
        self.broken: list[AssertionError] = []
        self.ours: set[str] = set()
        """UIDs of the Secrets that operators made."""
        self.stripped: set[str] = set()
        """UIDs of those that lost their labels and annotations since."""
        self.foreign: dict[Place, Body] = {}
        """Secrets of others under names of pull secrets."""
        self.tampered: set[Place] = set()
        """What somebody changed or deleted by hand since all was settled: records and pull secrets."""
        self.issued: dict[str, Issued] = {}
        """Passwords by nonce."""
        self.reseeded = False
        """Whether there was more than one seed since all was settled, and maybe operators with different ones."""
        self.seeds: dict[str, bytes] = {}
        self.refused: set[Place] = set()
        """Pull secrets that an operator was not let write since all was settled."""
        self.writes: list[tuple[str, Place]] = []

    # after a write of an operator

    def fault(self, place: Place) -> Fault | None:
        """What becomes of all calls to a place that is broken."""
        name = self._scene.broken.get(place[:2])
        return FAULTS[name] if name is not None else None

    def denied(self, place: Place) -> None:
        """An operator was not let write."""
        self.refused.add(place)

    def wrote(self, verb: str, place: Place, old: Body | None, new: Body | None) -> None:
        """Looks at what a write of an operator has changed."""
        self.writes.append((verb, place))
        try:
            match place:
                case ("secrets", SETTINGS.credentials_namespace, name) if name.startswith("rt-"):
                    self._record(place, old, new)
                case ("secrets", SETTINGS.namespace | SETTINGS.credentials_namespace, _):
                    self._key(place, old, new)
                case ("secrets", _, _):
                    self._pull_secret(verb, place, old, new)
                case ("serviceaccounts", _, _):
                    self._account(place, old, new)
                case ("registrytokens", _, _):
                    self._status(place, old, new)
                case ("events" | "configmaps", _, _):
                    pass
                case _:
                    raise AssertionError(f"{place} is not the operator's to {verb}")
        except AssertionError as error:
            self.broken.append(error)

    def _key(self, place: Place, old: Body | None, new: Body | None) -> None:
        assert new is not None, f"{place} was deleted"
        if place == SEED:
            assert old is None, "the seed was replaced"
            self.reseeded = bool(self.seeds)
            seed = base64.b64decode(new["data"]["seed"])
            self.seeds[passwords.seed_id(seed)] = seed
            self._scene.texts |= {seed.hex(), new["data"]["seed"], repr(seed)}
        elif "tls.key" in new["data"]:
            pem = base64.b64decode(new["data"]["tls.key"]).decode()
            self._scene.texts |= {new["data"]["tls.key"], *pem.splitlines()[1:3]}

    def _status(self, place: Place, old: Body | None, new: Body | None) -> None:
        assert old is not None, f"{place} was made"
        assert new is not None, f"{place} was deleted"
        differing = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        assert differing <= {"status", "metadata"}, f"{place}: more than the status was written"
        before, after = ({**body["metadata"], "resourceVersion": ""} for body in (old, new))
        assert before == after, f"{place}: the metadata were written"

    def _account(self, place: Place, old: Body | None, new: Body | None) -> None:
        assert old is not None, f"{place} was made"
        assert new is not None, f"{place} was deleted"
        before, after = entries(old), entries(new)
        marked, marked_after = marks(old), marks(new)
        assert [e for e in before if e not in marked] == [e for e in after if e not in marked_after], (
            f"{place}: entries of others changed from {before} to {after}"
        )
        assert bare(old) == bare(new), f"{place}: more than our entries was written"
        for name in set(before) - set(after):
            token = self._token(marked[name])
            assert (
                token is None or wishes.secret_name(token) != name or not wishes.always_named(self._scene, token, place)
            ), f"{place}: entry {name} of a living token was taken away"

    def _pull_secret(self, verb: str, place: Place, old: Body | None, new: Body | None) -> None:
        if old is not None:
            assert old["metadata"]["uid"] in self.ours | self.stripped, f"{place} is foreign and was written"
        if new is None:
            assert old is not None
            self.ours.discard(old["metadata"]["uid"])
            token = self._token(token_uid(old))
            assert token is None or not wishes.always_wanted(self._scene, token, place), (
                f"{place} is wanted and was deleted"
            )
            return
        self.ours.add(new["metadata"]["uid"])
        self.tampered.discard(place)
        text = password_in(new)
        self._scene.texts |= {text, text[15:47]}
        uid = token_uid(new)
        record = self.record(uid)
        if record is None or record_place(uid) in self.tampered:
            return
        slot = slot_of(record, text)
        if self.reseeded and slot is None:
            return  # operators with different seeds are in each other's way
        assert slot is not None, f"{place}: a password that the record does not have was written"
        if verb == "create" and slot.valid_until is not None and len(self._scene.operators) > 1:
            # It came late, out of a process that stood still, and no version holds a creation back. Such a process does
            # not send it, as it is no leader any more; that is not part of this model. The next pass sets it right.
            self.tampered.add(place)
            return
        assert slot.valid_until is None, f"{place}: a password that is replaced already was written"
        self._standing_at(place, new)

    def _record(self, place: Place, old: Body | None, new: Body | None) -> None:
        uid = place[2].removeprefix("rt-")
        before = read(old) or Record(uid, "", "")
        after = read(new) or Record(uid, "", "")
        if new is None:
            assert self._token(uid) is None, f"{place}: the record of a living token was deleted"
        else:
            self.ours.add(new["metadata"]["uid"])
        slots = {slot.nonce: slot for slot in after.slots.values()}
        self._kept(place, before, slots)
        for nonce, slot in slots.items():
            self._collect(after, slot)
            issued = self.issued[nonce]
            assert not issued.dropped, f"{place}: password {slot.id} has come back"
            if issued.retires is not None:
                assert slot.valid_until is not None, f"{place}: password {slot.id} does not end any more"
                assert slot.valid_until <= issued.retires, f"{place}: password {slot.id} ends later than was said"
            elif slot.valid_until is not None:
                issued.retires = slot.valid_until
                self._overlaps(place, slot, after.slots[after.published] if after.published else None)
        for slot in before.slots.values():
            if slot.nonce not in slots and slot.nonce in self.issued:
                self.issued[slot.nonce].dropped = True
                self.issued[slot.nonce].excused = self._excused(uid, before, slot)
        if new is not None and place not in self.tampered:
            self._made(place, before, slots)
        self._in_use(uid, before, slots)

    def _kept(self, place: Place, before: Record, after: dict[str, Slot]) -> None:
        """A password that waits for its publication is not thrown away while it can still be published."""
        if before.pending is None or place in self.tampered:
            return
        pending = before.slots[before.pending]
        token = self._token(before.token_uid)
        if token is None or self._lost(pending) or not pending.valid_at(self._scene.latest):
            return
        if not any(pending.id in wishes.revoked(spec) for spec in wishes.specs(self._scene, token)):
            assert pending.nonce in after, f"{place}: a second password was made for one rotation"

    def _made(self, place: Place, before: Record, after: dict[str, Slot]) -> None:
        """No password is made before one is due, where nothing but time has passed."""
        known = {slot.nonce for slot in before.slots.values()}
        token = self._token(before.token_uid)
        if not after.keys() - known or before.published is None or token is None:
            return
        current = before.slots[before.published]
        specs = wishes.specs(self._scene, token)
        due = [wishes.rotation_due(spec, current) for spec in specs]
        by_hand = wishes.asked(self._scene, token, current) != Requests()
        revoked = any(current.id in wishes.revoked(spec) for spec in specs)
        assert (
            self._lost(current) or by_hand or revoked or any(d is not None and d <= self._scene.latest for d in due)
        ), f"{place}: a password was made, and none was due"

    def _overlaps(self, place: Place, old: Slot, successor: Slot | None) -> None:
        """A replaced password stays valid through the overlap: a node may be pulling with it at this moment."""
        token = self._token(place[2].removeprefix("rt-"))
        if token is None or successor is None or old.valid_until is None:
            return
        if place in self.tampered or self._scene.set_back:
            return
        overlap = min(wishes.overlap(spec) for spec in wishes.specs(self._scene, token))
        assert old.valid_until >= successor.created_at + overlap, f"{place}: {old.id} ends before its overlap is over"

    def _in_use(self, uid: str, before: Record, after: dict[str, Slot]) -> None:
        """What stands in a pull secret does not begin to retire, nor is it dropped before its end."""
        token = self._token(uid)
        if token is None or record_place(uid) in self.tampered:
            return
        for place, secret in self._scene.pull_secrets().items():
            where = ("secrets", *place)
            if token_uid(secret) != uid or where in self.tampered:
                continue
            if not wishes.always_wanted(self._scene, token, where):
                continue
            slot = slot_of(before, password_in(secret))
            if slot is None or slot.valid_until is not None or self._over(token, before, slot):
                continue
            if where in self.refused and wishes.asked(self._scene, token, slot).regenerate:
                continue  # after a leak the old password has to go, wherever it still stands
            left = after.get(slot.nonce)
            assert left is not None, f"{where}: its password {slot.id} was dropped"
            assert left.valid_until is None, f"{where}: its password {slot.id} begins to retire"
            if all(wishes.rotates(spec) for spec in wishes.specs(self._scene, token)):
                assert left.valid_at(self._scene.now), f"{where}: its password {slot.id} was ended"

    def _excused(self, uid: str, record: Record, slot: Slot) -> bool:
        token = self._token(uid)
        if token is None or self.reseeded or self._over(token, record, slot):
            return True
        return bool(self.refused) and bool(wishes.asked(self._scene, token, slot).regenerate)

    def _over(self, token: Body, record: Record, slot: Slot) -> bool:
        """Whether a password is not to be kept: it has ended, was revoked, or was half published when the seed was
        lost."""
        half = record.published is None or record.slots[record.published] is not slot
        revoked = any(slot.id in wishes.revoked(spec) for spec in wishes.specs(self._scene, token))
        return revoked or not slot.valid_at(self._scene.latest) or (half and self._lost(slot))

    # at any time

    def look(self) -> None:
        """Looks at all replicas, and raises what did not hold since the last look."""
        for replica in self._scene.replicas:
            self.look_at(replica)
        assert not self._scene.log.defects, self._scene.log.defects[0]
        if self.broken:
            raise self.broken[0]

    def look_at(self, replica: "Replica") -> None:
        """Published passwords work there, and dead ones do not once it knows that they are dead."""
        try:
            if replica.ready:
                for place, secret in self._scene.pull_secrets().items():
                    self._stands(("secrets", *place), secret, replica)
            if replica.current:
                for issued in self.issued.values():
                    self._dead(issued, replica)
        except AssertionError as error:
            self.broken.append(error)

    def _standing_at(self, place: Place, secret: Body) -> None:
        for replica in self._scene.replicas:
            if replica.ready:
                self._stands(place, secret, replica)

    def _stands(self, place: Place, secret: Body, replica: "Replica") -> None:
        """Promise 1: what stands in a pull secret is accepted."""
        uid, now = token_uid(secret), self._scene.now
        token = self._token(uid)
        if token is None or place in self.tampered or record_place(uid) in self.tampered:
            return
        if not wishes.alive(self._scene, token, now) or not wishes.wanted(self._scene, token, place):
            return
        text = password_in(secret)
        record = self.record(uid)
        if any(issued.text == text and issued.excused for issued in self.issued.values()):
            return
        slot = slot_of(record, text) if record is not None else None
        assert slot is not None, f"{place}: no record has what stands there"
        if not slot.valid_at(now) or slot.id in wishes.revoked(token["spec"]):
            return  # time has passed; that no write ended it is looked at with the write
        known = replica.cache.credential(uid)
        there = known.slot(slot.id) if known is not None else None
        assert there is not None, f"{place}: {replica.address} does not know what stands there"
        assert there.ends_at is None or now < there.ends_at, f"{place}: to {replica.address} that is over"
        versions = replica.watches
        people = [
            ("registrytokens", token["metadata"]["namespace"], token["metadata"]["name"]),
            ("scopemaps", "", token["spec"]["scopeMapRef"]["name"]),
            ("namespaces", "", token["metadata"]["namespace"]),
        ]
        if all(
            versions[plural].versions.get((namespace, name))
            == self._scene.api.objects[plural, namespace, name]["metadata"]["resourceVersion"]
            for plural, namespace, name in people
        ):
            refusal = replica.refusal(self.issued[slot.nonce].username, text)
            assert refusal is None, f"{place}: {replica.address} refuses it: {refusal}"

    def _dead(self, issued: Issued, replica: "Replica") -> None:
        """Promise 2: what is dead is refused by whoever knows it."""
        token, now = self._token(issued.token_uid), self._scene.now
        record = self.record(issued.token_uid)
        slot = slot_of(record, issued.text) if record is not None else None
        dead = (
            token is None
            or not wishes.alive(self._scene, token, now)
            or issued.id in wishes.revoked(token["spec"])
            or issued.dropped
            or (issued.retires is not None and issued.retires <= now)
            or slot is None
            or not slot.valid_at(now)
        )
        if dead:
            assert replica.refusal(issued.username, issued.text) is not None, (
                f"{replica.address} accepts the dead password {issued.id} of {issued.username}"
            )

    # what people have broken

    def lost(self, place: Place) -> None:
        """A record is deleted by hand, and all its passwords with it."""
        self.tampered.add(place)
        record = read(self._scene.api.objects[place])
        for slot in record.slots.values() if record is not None else ():
            self.issued[slot.nonce].dropped = True

    def forgive(self) -> None:
        """What was tampered with has been set right. Only what belongs to a dead token may wait for its revival, and
        anything for a policy to end."""
        for place in sorted(self.tampered) if not self._scene.broken else []:
            there = self._scene.api.objects.get(place)
            if place[1] == SETTINGS.credentials_namespace:
                waits = there is None
            else:
                waits = there is not None and place not in self.foreign and not self._readable(there)
            if not waits:
                self.tampered.discard(place)

    def _readable(self, secret: Body) -> bool:
        try:
            text = password_in(secret)
        except KeyError:
            return False
        record = self.record(token_uid(secret))
        return record is not None and slot_of(record, text) is not None

    # what is so

    def record(self, uid: str) -> Record | None:
        """The record of a token, as the API server has it."""
        return read(self._scene.api.objects.get(record_place(uid)))

    def derivable(self, record: Record) -> bool:
        """Whether the published password can still be derived, so that pull secrets can be repaired."""
        return record.published is not None and not self._lost(record.slots[record.published])

    def _lost(self, slot: Slot) -> bool:
        """Whether an operator may lack the seed of a password."""
        there = self._scene.api.objects.get(SEED)
        seed = base64.b64decode(there["data"]["seed"]) if there is not None else b""
        return self.reseeded or slot.seed != passwords.seed_id(seed)

    def _token(self, uid: str) -> Body | None:
        return next((t for t in self._scene.api.of(REGISTRY_TOKENS) if t["metadata"]["uid"] == uid), None)

    def _collect(self, record: Record, slot: Slot) -> None:
        if slot.nonce in self.issued or slot.seed not in self.seeds:
            return
        text = passwords.derive(self.seeds[slot.seed], record.token_uid, slot.nonce, slot.id).text
        username = names.username(record.namespace, record.name)
        self.issued[slot.nonce] = Issued(record.token_uid, username, slot.id, text)
        auth = base64.b64encode(f"{username}:{text}".encode()).decode()
        self._scene.texts |= {slot.hash, slot.nonce, text, text[15:47], auth}
