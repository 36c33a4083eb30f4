"""The exit codes of the command line, and the errors that lead to them.

0: all went well. 130: the user pressed Ctrl-C, which never stops a submitted run. The others are named below.
"""

import errno
from typing import Any, NoReturn

import click
from click.exceptions import Exit

from mtlcluster import printable
from mtlcluster.errors import ClusterError, SchedulerError, UserError
from mtlcluster.terminal import say

FAILED = 1  # a run failed (`submit --wait`, `train`), Slurm refused, a cluster can't be reached, the user said no
MISTAKE = 2  # in the call or in a file
INTERRUPTED = 130


class ErrorsToExitCodes(click.Group):
    """Shows an error that the user can mend as one message, and exits with its code.

    Any other error is a bug and shows its traceback.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            _exit(str(error), MISTAKE)
        except (SchedulerError, ClusterError) as error:
            _exit(str(error), FAILED)
        except OSError as error:
            if not error.filename and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _exit(f"{error.filename or 'disk'}: {error.strerror}", MISTAKE)
        except (KeyboardInterrupt, click.Abort):  # click.Abort: Ctrl-C at a question
            raise Exit(INTERRUPTED) from None


def _exit(message: str, code: int) -> NoReturn:
    say(f"mtlcluster: {printable.text(message)}", err=True)
    raise Exit(code)
