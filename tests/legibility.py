"""Whether the text of a figure can be read in print: shared by the tests of all figures."""

import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from polyjax.draw.style import style

SMALLEST = 6.5  # points
SETTINGS = 5  # points, of the one line of settings below a caption
PALE = 30  # of 255 levels: less than this beside white is an area behind the text, not a line through it


def rendered(draw):
    """The figure that draw() makes, and what each text on it is and where ([left, bottom, right, top] in pixels)."""
    drawn = []
    original = Text.draw

    def record(self, renderer):
        if self.get_visible() and self.get_text().strip():
            drawn.append((self, self.get_window_extent(renderer).extents))
        original(self, renderer)

    with style(), pytest.MonkeyPatch.context() as patch:
        fig = draw()
        patch.setattr(Text, "draw", record)
        fig.set_dpi(300)
        FigureCanvasAgg(fig).draw()
    return fig, drawn


def sentences(fig):
    """How many sentences a page's caption has."""
    return len(re.findall(r"\.(?: |$)", re.sub(r"eq\. ", "", fig.caption)))


def words(drawn):
    return " ".join(text.get_text() for text, _ in drawn).replace("\n", " ")


def assert_legible(fig, drawn):
    """No text is cut off by the page's edge, overlaps another or is smaller than 6.5 points, but one line of
    settings."""
    small = [text for text, _ in drawn if text.get_gid() == "settings"]
    assert len(small) <= 1
    assert all(text.get_fontsize() >= SETTINGS and "\n" not in text.get_text() for text in small)
    assert min(text.get_fontsize() for text, _ in drawn if text not in small) >= SMALLEST
    for text, (left, bottom, right, top) in drawn:
        inside = left >= 0 and bottom >= 0 and right <= fig.bbox.width and top <= fig.bbox.height
        assert inside, f"{text.get_text()!r} is cut off"
    for (one, a), (other, b) in combinations(drawn, 2):
        overlap = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        assert min(overlap) <= 0, f"{one.get_text()!r} overlaps {other.get_text()!r}"


def assert_nothing_beneath(fig, drawn):
    """Every text without a rim of its own is on a plain ground: no line, arrow or edge runs through it."""
    for text, _ in drawn:
        text.set_visible(False)
    canvas = FigureCanvasAgg(fig)
    with style():
        canvas.draw()
    page = np.asarray(canvas.buffer_rgba())[::-1].astype(int)  # rows from the bottom up
    for text, extents in drawn:
        text.set_visible(True)
        left, bottom, right, top = np.round(extents).astype(int)
        if not text.get_path_effects():
            contrast = np.ptp(page[bottom:top, left:right], axis=(0, 1)).max()
            assert contrast < PALE, f"{text.get_text()!r} is on a line"
