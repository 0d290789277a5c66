"""``python -m lit_dcem ...`` is the command ``lit-dcem ...``."""

from lit_dcem.cli.main import main

if __name__ == "__main__":
    main()
