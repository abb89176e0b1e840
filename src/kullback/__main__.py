"""``python -m kullback`` runs the command line, as the command ``kullback`` does."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
