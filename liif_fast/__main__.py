"""``python -m liif_fast`` is the command ``liif-fast``."""

import sys

from .cli.main import main

sys.exit(main())
