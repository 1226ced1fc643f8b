"""`python -m patchscale` is the `patchscale` command."""

from patchscale.cli import main

main()
