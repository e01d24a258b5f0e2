"""What a trained embedding W spends on each feature, and its geometry: capacities, blocks and decompositions."""

from polyjax.embedding.capacity import capacities, isotropic_capacities, trained_marginal
from polyjax.embedding.geometry import (
    Blocks,
    Covariances,
    Decomposition,
    blocks,
    covariances,
    decompose,
    embedding_with_capacities,
    explained_variance,
    is_efficient,
    tegum_product,
)

__all__ = [
    "Blocks",
    "Covariances",
    "Decomposition",
    "blocks",
    "capacities",
    "covariances",
    "decompose",
    "embedding_with_capacities",
    "explained_variance",
    "is_efficient",
    "isotropic_capacities",
    "tegum_product",
    "trained_marginal",
]
