"""Training steps as CUDA graphs, with a way back to eager execution."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch

from train_demo_voice.codec_model import FUSION_VARIABLE

EAGER_VARIABLE = "TRAIN_DEMO_VOICE_EAGER"
"""Environment variable that, when set, keeps training steps out of CUDA graphs."""
USED_VARIABLE = "TRAIN_DEMO_VOICE_USED"
"""Seconds that this call used up before it started itself anew."""

WARM_UP_STEPS = 12
STEPS_IN_FLIGHT = 3


class CaptureError(RuntimeError):
    """A step could not be captured; CUDA may be unusable in this process."""


class GraphedStep:
    """Runs a function of static tensors: a few times as it is, then as one captured graph.

    The function must do the same work on the same tensors at every call, draw no conclusions on the host, and
    set gradients to None before its backward pass, so that they live in the graph's memory.
    """

    def __init__(self, function: Callable[[], None], *, capture: bool) -> None:
        self.function = function
        self.capture = capture
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        self.calls += 1
        if self.graph is not None:
            self.graph.replay()
        elif self.capture and self.calls > WARM_UP_STEPS:
            self.graph = self._captured()
        else:
            self.function()

    def _captured(self) -> torch.cuda.CUDAGraph:
        """The function's graph, run once."""
        try:
            graph = torch.cuda.CUDAGraph()
            # On the stream that training has run on all along: autograd's accumulation nodes belong to it.
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
                self.function()
            graph.replay()
            torch.cuda.synchronize()
        except Exception as error:
            raise CaptureError(str(error)) from error
        return graph


class Pacer:
    """Keeps the host at most a few steps ahead of the device, so that clocks mean something."""

    def __init__(self, device: torch.device) -> None:
        self.enabled = device.type == "cuda"
        self._events: deque[torch.cuda.Event] = deque()

    def __call__(self) -> None:
        if not self.enabled:
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._events.append(event)
        if len(self._events) > STEPS_IN_FLIGHT:
            self._events.popleft().synchronize()


@contextmanager
def training_stream(device: torch.device) -> Iterator[None]:
    """A stream of its own for everything on CUDA, with fast float32; nothing elsewhere."""
    if device.type != "cuda":
        yield
        return
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream(device)):  # type: ignore[no-untyped-call]
        yield
    torch.cuda.synchronize()


def use_graphs(device: torch.device) -> bool:
    return device.type == "cuda" and not os.environ.get(EAGER_VARIABLE)


def seconds_used() -> float:
    """What this call used before it started itself anew, told once."""
    return float(os.environ.pop(USED_VARIABLE, "0"))


def restart_simpler(error: CaptureError, used: float) -> NoReturn:
    """Start this program again, first without fused kernels, then without graphs."""
    variable = EAGER_VARIABLE if os.environ.get(FUSION_VARIABLE) else FUSION_VARIABLE
    print(f"no graph: {error}; starting again with {variable}=1", flush=True)
    os.environ |= {variable: "1", USED_VARIABLE: str(used)}
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
