"""What bounds the training of large models on an H100, from its data sheet: `python -m benchmarks.roofline`.

Matrix code is bounded by arithmetic or by memory, whichever takes longer. Arithmetic is that of float32 outside the
tensor cores, which would round the inputs of products to TF32. Adam reads and writes the parameters and both of its
moments and reads the gradient, every step; activations go through memory where the compiler keeps nothing of them on
the chip. Nothing was run.
"""

from typing import NamedTuple

FLOAT32, MEMORY = 66.9e12, 3.35e12  # of an H100 SXM: operations and bytes a second
SIZES = ((20, 5), (100, 20))
SAMPLES = (64, 256)
ADAM = 7  # numbers a parameter: four are read, three are written
ACTIVATIONS = 6  # times that a sample's features go through memory: of the output, its error and the products between


class Bounds(NamedTuple):
    """Nanoseconds of a step of one model."""

    arithmetic: float
    adam: float
    activations: float

    @property
    def rate(self) -> float:
        """Return the most million model-steps a second."""
        return 1e3 / max(self.arithmetic, self.adam + self.activations)


def bounds(n_features: int, n_neurons: int, samples: int) -> Bounds:
    """Return those of the Anthropic ReLU model, 10 N D operations a sample."""
    weights = n_features * n_neurons
    adam, activations = ADAM * (weights + n_features), ACTIVATIONS * samples * (n_features + n_neurons)
    arithmetic = 10 * weights * samples / FLOAT32
    return Bounds(*(1e9 * seconds for seconds in (arithmetic, 4 * adam / MEMORY, 4 * activations / MEMORY)))


def main() -> None:
    print("Anthropic ReLU | samples | arithmetic, ns | Adam, ns | activations, ns | million model-steps/s at most")
    for size in SIZES:
        for samples in SAMPLES:
            found = bounds(*size, samples)
            each = " | ".join(f"{ns:.1f}" for ns in found)
            print(f"{size[0]} in {size[1]} | {samples} | {each} | {found.rate:.3g}")


if __name__ == "__main__":
    main()
