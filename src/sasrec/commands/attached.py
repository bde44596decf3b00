"""`python -m sasrec.commands.attached SCRATCH COMMAND ...`: a command that ends with whoever started it.

Standard input is a pipe that the other process holds and writes nothing to. It ends when that process does, however
that came: no signal tells of it on every system.
"""

import os
import runpy
import shutil
import sys
import threading


def end_with_the_pipe(scratch: str) -> None:
    """Wait until nobody holds the other end of standard input, then leave at once.

    Args:
        scratch: A folder of the process that is gone, which is removed for it.
    """
    # Not by `sys.stdin`, whose lock a thread that waits would still hold when the program ends.
    while os.read(0, 1024):
        pass
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    folder, *sys.argv[1:] = sys.argv[1:]
    threading.Thread(target=end_with_the_pipe, args=(folder,), daemon=True).start()
    runpy.run_module("sasrec", run_name="__main__")
