"""The RQ citizen: settings, requests and results, the queue, voices, the pipeline of threads, the CLI.

Knows nothing of tensors.
"""

import os

# GNU OpenMP reads this once, when torch is imported: a thread that spins while it waits starves the others of
# a small machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
