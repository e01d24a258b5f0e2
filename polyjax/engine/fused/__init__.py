"""The engine that trains models in kernels which keep their weights in registers."""

from polyjax.engine.fused.training import problem, train

__all__ = ["problem", "train"]
