"""``python -m liif_fast.train CONFIG.yaml`` is ``liif-fast train``, as a module for torchrun::

torchrun --nproc-per-node 4 -m liif_fast.train configs/train_edsr-baseline-liif.yaml
"""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
