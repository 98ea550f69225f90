"""The RQ citizen put together: settings, the service, the job's function; each room inside knows one thing."""

import os

__version__ = "0.1.0"

# GNU OpenMP reads this once, when torch is imported: a thread that spins while it waits starves the others of
# a small machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# oneDNN keeps what it has prepared for each shape, by default for 1024: with speech of any length that grows to
# gigabytes. So many are enough for the windows of the vocoder.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")
