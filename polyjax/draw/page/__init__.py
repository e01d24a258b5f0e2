"""A page on which results are looked at: one file of HTML that fetches nothing (extra `explore`)."""

try:
    import bokeh  # noqa: F401
except ImportError as error:
    raise ImportError("explore needs Bokeh: pip install 'polyjax[explore]'") from error

from polyjax.draw.page.document import Page, explore

__all__ = ["Page", "explore"]
