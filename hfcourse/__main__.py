"""``python -m hfcourse``: also ``torchrun --nproc_per_node 2 -m hfcourse run bert/pretrain``."""

from hfcourse.cli import main

if __name__ == "__main__":
    main()
