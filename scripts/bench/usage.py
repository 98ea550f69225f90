"""What a worker process uses while it is measured: memory, CPU, and the GPU it runs on."""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

import psutil

MEGABYTE = 1e6
MEBIBYTE = 2**20
_INTERVAL_SECONDS = 0.1
_GPU_QUERY = "memory.used,utilization.gpu"


@dataclass(frozen=True)
class Gpu:
    """Of the whole device, as nvidia-smi sees it: percent of the time, and megabytes."""

    percent: float
    memory_mean_mb: float
    memory_peak_mb: float


@dataclass(frozen=True)
class Usage:
    """Over one stretch of time.

    Attributes:
        memory: (``time.perf_counter()`` seconds, resident megabytes) samples of the process.
        cpu_percent: 100 is one core.
        client_cpu_percent: Of the process that submits and waits, which Python holds to one core.
        gpu: None on a CPU.
    """

    memory: list[tuple[float, float]]
    cpu_percent: float
    client_cpu_percent: float
    gpu: Gpu | None


class Watch:
    """Samples a process from ``with`` to its end; then ``usage`` says what was seen.

    Args:
        pid: Of the worker.
        device: The worker's torch device; a CUDA device is watched too.
    """

    usage: Usage

    def __init__(self, pid: int, device: str) -> None:
        self._process = psutil.Process(pid)
        self._memory: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._gpu = gpu_index(device)

    def __enter__(self) -> "Watch":
        self._smi = None if self._gpu is None else _nvidia_smi(self._gpu, _GPU_QUERY, "-lms", "500")
        self._begin, self._cpu, self._own = time.perf_counter(), self._cpu_seconds(), time.process_time()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        lines = []
        if self._smi is not None:
            self._smi.terminate()
            lines = self._smi.communicate()[0].splitlines()
        if kind is None:
            wall, cpu = time.perf_counter() - self._begin, self._cpu_seconds() - self._cpu
            own = time.process_time() - self._own
            self.usage = Usage(self._memory, 100 * cpu / wall, 100 * own / wall, gpu_usage(lines))

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def _sample(self) -> None:
        while True:
            try:
                resident = self._process.memory_info().rss
            except psutil.NoSuchProcess:  # whoever waits for its jobs says so
                return
            self._memory.append((time.perf_counter(), resident / MEGABYTE))
            if self._over.wait(_INTERVAL_SECONDS):
                return


def gpu_index(device: str) -> str | None:
    """How nvidia-smi names a torch device; None for one that is no CUDA device."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return None
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[int(number or 0)] if visible else number or "0"


def gpu_name(device: str) -> str | None:
    """Product name of a CUDA device."""
    index = gpu_index(device)
    return None if index is None else _nvidia_smi(index, "name").communicate()[0].strip()


def gpu_usage(lines: Iterable[str]) -> Gpu | None:
    """Sum up lines of ``memory.used,utilization.gpu``; the last one may be cut off in the middle."""
    samples = [
        tuple(map(float, line.split(","))) for line in lines if line.count(",") == 1 and line[-1:].isdigit()
    ]
    if not samples:
        return None
    memory = [used * MEBIBYTE / MEGABYTE for used, _ in samples]
    return Gpu(statistics.fmean(percent for _, percent in samples), statistics.fmean(memory), max(memory))


def _nvidia_smi(index: str, query: str, *options: str) -> "subprocess.Popen[str]":
    command = ["nvidia-smi", "-i", index, f"--query-gpu={query}", "--format=csv,noheader,nounits", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
