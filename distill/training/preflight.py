"""Before a run: does a step fit into memory, and does the loss on one batch fall?"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from distill.errors import TooLittleMemory, WillNotLearn
from distill.training.batches import Data, first_batches
from distill.training.learner import Learner
from distill.training.report import Report
from distill.training.settings import MachineSettings

MUST_FALL_TO = 0.9  # of the first loss, over the last fifth of the steps
REMEDIES = "set train.accumulate higher, train.recompute=yes, a smaller batch, or train.precision=bfloat16"


def check(learner: Learner, data: Data, machine: MachineSettings, report: Report) -> None:
    """Raises TooLittleMemory and WillNotLearn. Leaves weights and optimisers as they were."""
    if not machine.preflight and not machine.overfit_steps:
        return
    if machine.preflight:
        probe_memory(learner, data, report)
    if machine.overfit_steps:
        overfit(learner, data, machine.overfit_steps, report)


def probe_memory(learner: Learner, data: Data, report: Report) -> None:
    """Gradients of every player on a batch of each kind, and room for what the optimisers will keep."""
    device = learner.ranks.device
    moments = 2 * sum(weight.numel() * 4 for weights in learner.weights.values() for weight in weights)
    try:
        room = _reserve(moments, device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        for shown in first_batches(data):
            for player in learner.stage.players:
                learner.gradients(player, shown, learner.draws(0, shown.numbers), 0.0)
                learner.forget_gradients()
        del room
    except torch.OutOfMemoryError as error:
        raise TooLittleMemory(f"a step does not fit into the memory of {device}: {REMEDIES}") from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # torch's words for the CPU, which has no error of its own
            raise
        raise TooLittleMemory(f"a step does not fit into memory: {REMEDIES}") from error
    if device.type == "cuda":
        peak, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        report.say(f"a step takes {peak / 2**30:.1f} of {total / 2**30:.1f} GiB")


def overfit(learner: Learner, data: Data, steps: int, report: Report) -> None:
    """The first player on the first batch with the same draws again and again."""
    shown = first_batches(data)[0]
    player = learner.outcome
    kept = {name: tensor.detach().clone() for name, tensor in learner.tensors().items()}
    losses = [learner.move(player, shown, learner.draws(0, shown.numbers), 0.0)[f"{player}/loss"] for _ in range(steps)]
    learner.load(kept)
    last = sum(losses[-max(steps // 5, 1) :]) / max(steps // 5, 1)
    report.say(f"one batch {steps} times: loss {losses[0]:.4g}, then {last:.4g}")
    if not last <= MUST_FALL_TO * losses[0]:
        raise WillNotLearn(
            f"the loss on one batch, seen {steps} times, went from {losses[0]:.4g} to {last:.4g}; it should fall to "
            f"{MUST_FALL_TO:.0%} of the first: look at the learning rate, or at the data"
        )


def _reserve(size_bytes: int, device: torch.device) -> Tensor | None:
    """Takes and holds that much memory; on Linux's CPU, where memory is promised and not given, looks what there is."""
    if device.type == "cuda":
        return torch.empty(size_bytes, dtype=torch.uint8, device=device)
    if sys.platform == "linux":
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        available = int(lines["MemAvailable"].split()[0]) * 1024
        if size_bytes > available:
            raise TooLittleMemory(
                f"the optimisers' state alone takes {size_bytes / 2**30:.1f} GiB; {available / 2**30:.1f} GiB are free"
            )
    return None
