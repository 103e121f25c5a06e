"""Write every generated page: `python -m docs.generate`, or `make reference`."""

from __future__ import annotations

import sys

from docs.generate.pages import FOLDER, PAGES


def main() -> None:
    """Write the pages that differ from what the code gives now, and print their names."""
    for name, page in PAGES.items():
        file, text = FOLDER / name, page()
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
