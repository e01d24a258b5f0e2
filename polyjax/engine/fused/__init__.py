"""The engine that trains models in kernels which keep their weights in registers."""
