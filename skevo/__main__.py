"""``python -m skevo`` is the command line; without arguments, the main job."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
