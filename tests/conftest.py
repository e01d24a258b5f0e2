"""One set of JAX settings for every test: double precision is chosen per test with `jax.enable_x64`, never globally.
The shapes in the signatures of public functions are checked in every call of them that a test makes.
Compiled programs are kept beside pytest's own cache, not in the user's folder, also by the commands that tests run."""

import os
import signal
from pathlib import Path

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import shapes

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_platforms", "cpu")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a job in the background, whose children would ignore it as well
    signal.signal(signal.SIGINT, signal.default_int_handler)

shapes.check_all()
