"""`make bench`: prints every figure, and ends with 1 if one does not reach its goal."""

import sys

from tests.bench import idle, issuing


def main() -> int:
    """Runs all benchmarks, one after the other."""
    reached = True
    for bench in (issuing, idle):
        for figure in bench.run():
            figure.show()
            reached = reached and figure.ok
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
