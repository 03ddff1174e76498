"""``python -m esd`` is ``esd``."""

from esd.cli import main

main()
