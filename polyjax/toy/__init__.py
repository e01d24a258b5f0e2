"""ONE toy model and ONE sample: models, their activations, the features' distributions, and how samples are drawn."""
