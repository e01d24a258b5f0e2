"""The pictures of the README: what `make figures`, or `make bench`, left in results/, small, into docs/.

python -m figures.gallery [NAME ...]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

BEYOND = ("unequal", "critical_point", "boundaries", "definitions", "block_sizes", "elhage")
NAMES = (*(f"figure{n}" for n in range(1, 9)), "order_parameter", *BEYOND)
WIDTH = 1400  # pixels; figures 7 in wide are shown at 200 dpi
COLOURS = 256


def main(names: Sequence[str] = NAMES) -> None:
    for name in names:
        with Image.open(Path("results") / f"{name}.png") as image:
            width = min(WIDTH, image.width)
            size = (width, round(image.height * width / image.width))
            small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
            small.quantize(COLOURS, dither=Image.Dither.NONE).save(Path("docs") / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:] or NAMES)
