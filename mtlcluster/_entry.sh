#!/bin/sh
# Starts the worker with USR2 and TERM blocked. So a signal that comes while Python is still importing waits until the
# worker has its handlers. If `env` can't block signals (coreutils before 8.31), they are ignored until then.
trap '' USR2 TERM
# The Python of a virtual environment finds its packages by itself; PYTHONHOME would send it to those of another one.
[ ! -e "$(dirname "$1")/../pyvenv.cfg" ] || unset PYTHONHOME
if env --block-signal=USR2 --block-signal=TERM true 2>/dev/null; then
    exec env --block-signal=USR2 --block-signal=TERM "$@"
fi
exec "$@"
