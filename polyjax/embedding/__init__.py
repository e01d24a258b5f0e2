"""What trained embeddings W spend on each feature, and their geometry: capacities, blocks and decompositions."""
