"""``python -m initbench``."""

from initbench.cli.app import main

if __name__ == "__main__":
    main()
