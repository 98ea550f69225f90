"""``python -m worker.cli.gpus`` prints how many GPUs torch would find, without torch.

In a process of its own, because what the driver allocates when it is asked stays as long as the process.
"""

import ctypes
import sys


def main() -> None:
    """Print the number, at least 1; else end with the reason on standard error."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        sys.exit(str(error))
    number = ctypes.c_int()
    code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(number))
    if not number.value:
        sys.exit(f"CUDA's driver finds none, error {code}")
    print(number.value)  # noqa: T201


if __name__ == "__main__":
    main()
