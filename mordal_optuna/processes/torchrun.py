"""torchrun with the exit status of its processes: `python -m mordal_optuna.processes.torchrun`.

torchrun itself ends with status 1 whatever its processes ended with, so that a scheduler cannot
tell "try again" from what a person must mend. This program takes torchrun's options and does the
same, but ends with the status of the process that failed first; with 128 plus the signal's number
if a signal ended that one; and with 75 ("try again") if torchrun itself was asked to end, once all
its processes have left.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from mordal_optuna.processes.restarting import AGAIN

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Run processes as torchrun does, to the end of all.

    Args:
        arguments: torchrun's options, program and its arguments.

    Returns:
        0 if all ended well; otherwise the exit status that the module describes.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        torchrun.run(torchrun.parse_args(list(arguments)))
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code
    except SignalException as error:  # torchrun has passed the signal on and waited
        return 128 + error.sigval if error.sigval == signal.SIGINT else AGAIN
    return 0


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
