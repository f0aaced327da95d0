"""Every action has a word of its own, and `*` is none."""

from typing import get_args

from pullpass.access import actions
from pullpass.api.scopemap import Action


def test_every_action_has_its_own_word() -> None:
    assert set(actions.WORDS) == set(get_args(Action))
    assert actions.ORDER == ("pull", "push", "delete", "metadata_read", "metadata_write")
    assert actions.ANY not in actions.ORDER
