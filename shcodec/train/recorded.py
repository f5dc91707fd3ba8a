"""The smooth step as one CUDA graph: launching its two thousand kernels one by one takes longer than they do."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from torch import Tensor

from shcodec.train.data import Crops
from shcodec.train.device_crops import DeviceCrops
from shcodec.train.objective import Outcome, State
from shcodec.train.step import Stepper

WARM_UP = 4  # steps on a side stream before recording: libraries choose their kernels, caches are filled


class RecordedSteps:
    """Steps of the smooth phase from fixed buffers; on an accelerator recorded once and replayed.

    Learning rate, the average's weight and the batch lie in tensors that are filled before every step, so that a
    replayed step is a new one. Noise comes from the device's generator, whose seed is read at every replay. The next
    batch is cut on a second stream while a step runs.
    """

    def __init__(self, stepper: Stepper, crops: Crops | DeviceCrops, *, record: bool) -> None:
        config, device = stepper.run.config, stepper.run.device
        self.stepper, self.crops, self.record = stepper, crops, record
        self.size, self.number = config.crop, config.batch
        self.crop_in = torch.zeros(self.number, self.size, self.size, 3, dtype=torch.uint8, device=device)
        self.beta_in = torch.zeros(self.number, dtype=torch.int64, device=device)
        self.recorded: tuple[torch.cuda.CUDAGraph, Outcome] | None = None
        self.key: tuple[State, bool] | None = None  # what was recorded
        self.coming: tuple[int, Any, Any] | None = None
        if record:
            self.cutter, self.cut = torch.cuda.Stream(), torch.cuda.Event()  # type: ignore[no-untyped-call]

    def step(self, state: State, rate: float) -> Outcome:
        """Do one step of the run; the caller counts it.

        Args:
            state: of the smooth phase.
            rate: learning rate.
        """
        run = self.stepper.run
        key = (state, run.config.model.has_hyper and run.learner.net.class_map.fake_integer)
        if self.record and key != self.key:
            self.key, self.recorded = key, None
            self._record(state)
        self._load(run.step)
        self.stepper.set(rate)
        if self.recorded is None:
            return self._body(state)
        graph, outcome = self.recorded
        graph.replay()
        self._cut_ahead(run.step + 1)
        return outcome

    def _body(self, state: State) -> Outcome:
        pixels: Tensor = self.crop_in.permute(0, 3, 1, 2).float()
        return self.stepper.body(pixels, self.beta_in, state)

    def _load(self, step: int) -> None:
        if self.coming is not None and self.coming[0] == step:
            torch.cuda.current_stream().wait_event(self.cut)
            _, crops, beta_bytes = self.coming
        else:
            crops, beta_bytes = self.crops.batch(step, self.size, self.number)
        self.crop_in.copy_(torch.as_tensor(crops))
        self.beta_in.copy_(torch.as_tensor(beta_bytes))
        for tensor in (crops, beta_bytes):
            if self.record:
                tensor.record_stream(torch.cuda.current_stream())

    def _cut_ahead(self, step: int) -> None:
        with torch.cuda.stream(self.cutter):
            self.coming = (step, *self.crops.batch(step, self.size, self.number))
            self.cut.record(self.cutter)

    def _record(self, state: State) -> None:
        """Record the step; where that fails, steps run as they are and one line says why.

        The steps before the recording train as well: they are undone, so that a run does not depend on how often it
        was recorded.
        """
        started, run = time.monotonic(), self.stepper.run
        kept = _Kept(self.stepper)
        try:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._load(run.step)
                self.stepper.set(0.0)
                for _ in range(WARM_UP):
                    self._body(state)
                run.learner.zero_grad(set_to_none=True)
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outcome = self._body(state)
            torch.cuda.synchronize()
            self.recorded = graph, outcome
            print(f"step recorded in {time.monotonic() - started:.0f} s", file=sys.stderr)
        except Exception as error:  # of many kinds; whichever it is, training goes on without the recording
            torch.cuda.synchronize()
            line = str(error).partition("\n")[0]
            print(f"step not recorded, goes on without: {type(error).__name__}: {line}", file=sys.stderr)
        kept.restore()


class _Kept:
    """A copy of what a step changes, to undo steps in place."""

    def __init__(self, stepper: Stepper) -> None:
        run = stepper.run
        own = (stepper.losses, run.guard.usual, run.guard.left_out)
        self.live = [*run.learner.parameters(), *run.average.values(), *own]
        self.copies = [tensor.detach().clone() for tensor in self.live]
        self.optimiser = run.optimiser
        self.moments = {id(t): t.clone() for t in self._moments()}

    def _moments(self) -> list[Tensor]:
        return [t for entry in self.optimiser.state.values() for t in entry.values() if isinstance(t, Tensor)]

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, copy in zip(self.live, self.copies, strict=True):
            tensor.copy_(copy)
        for tensor in self._moments():  # those that the first steps made were 0 before
            before = self.moments.get(id(tensor))
            tensor.copy_(torch.zeros_like(tensor) if before is None else before)
