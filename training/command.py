"""How the commands that train end: with what exit code, and what they say.

Knows nothing of what they do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from training.divergence import TrainingDiverged


def run_command(name: str, work: Callable[[], None]) -> int:
    """Do the work of the command `name`. Returns its exit code.

    0 on success, 2 for settings or files that do not work, 1 if training diverges, 130 if it is interrupted.
    """
    try:
        work()
    except (ValueError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except TrainingDiverged as error:
        print(f"{name}: {error}; the last good state is in --run-dir", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    return 0
