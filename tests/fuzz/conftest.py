"""How long the properties of this folder are tried.

`make test` tries the same few hundred inputs each time. `make fuzz` sets FUZZ_EXAMPLES and tries others each time.
"""

import os

from hypothesis import HealthCheck, settings

_ASKED = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def _register(name: str, few: int, share: int) -> None:
    settings.register_profile(
        name,
        max_examples=max(_ASKED // share, 1) if _ASKED else few,
        derandomize=not _ASKED,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


_register("fuzz", 100, 1)
# Each example is a server with a socket of its own.
_register("fuzz-wire", 50, 10)
