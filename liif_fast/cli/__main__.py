"""``python -m liif_fast.cli`` is the command ``liif-fast``, too."""

import sys

from .main import main

sys.exit(main())
