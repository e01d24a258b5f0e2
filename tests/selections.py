"""A small selection with failed and unsettled cells, and which cells a drawing marks, for the tests of both."""

import numpy as np

from polyjax.selection import Selection


def selection(failed=0, unsettled=0):
    """3 x 4 cells, of which the first `failed` failed and the last `unsettled` are not settled."""
    loss, settled = np.ones(12), np.ones(12, bool)
    loss[:failed], settled[:failed] = np.nan, False
    settled[12 - unsettled :] = False
    capacity = np.where(np.isnan(loss)[:, None], np.nan, np.full((12, 6), 0.5))
    loss = loss.reshape(3, 4)
    return Selection(capacity.reshape(3, 4, 6), loss, loss, loss, settled.reshape(3, 4), None)


def marked(patch, density, importance):
    """[P, V] bool: the cells whose centres are within a patch of a diagram."""
    v, p = np.meshgrid(importance, density)
    return patch.get_path().contains_points(np.stack([v.ravel(), p.ravel()], axis=1)).reshape(v.shape)
