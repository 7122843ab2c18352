"""``python -m skoots`` is the ``skoots`` command."""

import sys

from skoots.cli.main import main

if __name__ == "__main__":  # workers that are spawned import this module too
    sys.exit(main())
