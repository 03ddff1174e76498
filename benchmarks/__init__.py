"""esd beside its rivals and its limits; see docs/performance.md. Run as ``python -m benchmarks.NAME``.

Importing this package keeps every library to one thread, which has to be said before numpy, torch and jax are loaded.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
