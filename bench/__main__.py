"""``python -m bench`` is the ``relaxbench`` command."""

from bench.cli import main

main()
