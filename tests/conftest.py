"""One set of JAX settings for every test: double precision is chosen per test with `jax.enable_x64`, never globally."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_platforms", "cpu")
