"""The RQ citizen: settings, requests and results, the queue, voices, the pipeline of threads, the CLI.

Knows nothing of tensors.
"""

import os

# GNU OpenMP reads this once, when torch is imported: a thread that spins while it waits starves the others of
# a small machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# oneDNN keeps what it has prepared for each shape, by default for 1024: with speech of any length that grows to
# gigabytes. So many are enough for the windows of the vocoder.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")
