"""Conversion of checkpoints: `python -m mfm.convert` is the same as `mfm convert`."""

import sys

from mfm.commands.convert import main
from mfm.errors import exits_on_user_error

if __name__ == "__main__":
    exits_on_user_error(main)(sys.argv[1:])
