"""What the fused kernel should need on an H100, from its machine code: `python -m benchmarks.prediction`.

No GPU is needed, and none is used: the kernel is compiled for one, and the instructions of its two loops are counted.
The seconds assume that a share of the issue slots is used; nothing was run. It takes Linux, jax 0.11 or newer, and
`pip install "jax[cuda13]" nvidia-cuda-nvdisasm`.
"""

import os
import re
import site
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path(tempfile.mkdtemp())
TOOLS = [str(path) for root in site.getsitepackages() for path in Path(root).glob("nvidia/*/bin")]
# Before jax is loaded.
os.environ |= {"MOSAIC_GPU_DUMP_TO": str(FOLDER), "MOSAIC_GPU_DUMP_PTX": "1", "JAX_PLATFORMS": "cpu"}
os.environ |= {"PATH": os.pathsep.join([os.environ["PATH"], *TOOLS])}

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import AbstractDevice, AbstractMesh, SingleDeviceSharding  # noqa: E402

from polyjax.engine.fused import training as fused  # noqa: E402
from polyjax.engine.fused.kernels import UNROLLED, Kernel  # noqa: E402
from polyjax.sweep import Sweep  # noqa: E402
from polyjax.toy.model import Model, one_model  # noqa: E402
from polyjax.toy.models import Anthropic, Redwood  # noqa: E402

MULTIPROCESSORS, SCHEDULERS, CLOCK = 132, 4, 1.755e9  # an H100 SXM issues one instruction a scheduler and cycle
MODELS, STEPS, SAMPLES = 1000 * 1000 * 4, 2000, 64  # the full figure 4
SHARES = (1.0, 0.4, 0.2)  # of the issue slots

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84978434048
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def kernel_ptx(model: Model, device: Any) -> Path:
    """Compiles the training of one block for the device."""
    fixed = Sweep(model, [0.1], [1.0], steps=STEPS, batch=SAMPLES, sampler="enumerated", engine="fused").training
    number = partial(jax.ShapeDtypeStruct, dtype=np.float32, sharding=SingleDeviceSharding(device))
    start = jax.tree.map(lambda a: number((1, 128, *a.shape)), one_model(model))
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=SingleDeviceSharding(device))
    abstract = AbstractDevice(device_kind=device.device_kind, num_cores=MULTIPROCESSORS, platform="gpu")
    with jax.sharding.use_abstract_mesh(AbstractMesh((), (), axis_types=(), abstract_device=abstract)):
        run = jax.jit(partial(fused.train, fixed, kernel=Kernel("gpu")))
        lowered = run.trace(start, {"importance": number((1, 128))}, {"density": number((1,))}, key).lower()
    lowered.compile()
    return max(FOLDER.glob("*.ptx"), key=os.path.getmtime)


def machine_code(ptx: Path) -> tuple[str, list[int]]:
    """Assembler text, and how many registers a thread has and bytes it spills."""
    code = ptx.with_suffix(".cubin")
    assembler = ["ptxas", "-arch=sm_90a", "-O3", "-v", str(ptx), "-o", str(code)]
    report = subprocess.run(assembler, check=True, capture_output=True, text=True).stderr
    text = subprocess.run(["nvdisasm", "-c", str(code)], check=True, capture_output=True, text=True).stdout
    numbers = [re.search(pattern, report) for pattern in (r"Used (\d+) registers", r"(\d+) bytes spill stores")]
    return text, [int(n[1]) for n in numbers if n]


def loops(text: str) -> list[int]:
    """How many instructions each loop has, the innermost first."""
    labels: dict[str, int] = {}
    found, n = [], 0
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_\S+):", line):
            labels[label[1]] = n
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            n += 1
            target = re.search(r"BRA.*`\((\.L_\S+)\)", instruction[1])
            found += [n - labels[target[1]]] if target and target[1] in labels else []
    return sorted(size for size in found if size > 1)  # the code ends in a loop of one, which is never reached


def main() -> None:
    topology = topologies.get_topology_desc("", platform="cuda", target_config=H100, topology="1x1x1")
    print(f"predicted for an H100: {MODELS:,} models x {STEPS} steps x {SAMPLES} samples, jax {jax.__version__}")
    print(
        "6 in 3 | registers | spilled | instructions a sample | a step besides | "
        + " | ".join(f"at {s:.0%}" for s in SHARES)
    )
    for model in (kind(6, 3, f) for kind in (Redwood, Anthropic) for f in ("square", "relu", "gelu")):
        text, (registers, spilled) = machine_code(kernel_ptx(model, topology.devices[0]))
        inner, outer = loops(text)
        sample, besides = inner / UNROLLED, outer - inner
        cycles = MODELS / 32 * STEPS * (SAMPLES * sample + besides) / (MULTIPROCESSORS * SCHEDULERS)
        seconds = [f"{cycles / CLOCK / share:.1f} s" for share in SHARES]
        name = f"{type(model).__name__} {model.activation}"
        print(" | ".join([name, str(registers), str(spilled), f"{sample:.1f}", str(besides), *seconds]))


if __name__ == "__main__":
    main()
