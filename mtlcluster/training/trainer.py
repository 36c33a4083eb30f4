"""The shared training-validation loop, with exact resume."""

import math
import platform
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

import mtlcluster
from mtlcluster.config.run import RunConfig, run_hash
from mtlcluster.config.units import seconds
from mtlcluster.errors import nearest
from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.methods.catalog import method_label
from mtlcluster.problem import Problem
from mtlcluster.sweep.history import write_history
from mtlcluster.training.checkpoint import Checkpoints, State
from mtlcluster.training.control import Control, StopRequested
from mtlcluster.training.data import batches, epoch_batches, groups, lengths_of, mix_seed, ordered_batches
from mtlcluster.training.optimization import LearningRate, base_rates, make_optimizer
from mtlcluster.training.recorder import NonFiniteLoss, Recorder, Step
from mtlcluster.training.seeding import random_state, set_random_state
from mtlcluster.training.update import Updater
from mtlcluster.training.validation import evaluate

NORM_EVERY = 10


class Trainer:
    """Trains one problem as one configuration says, in one folder (checkpoints/, history.pkl).

    The position is (epoch, batch): `batch` batches of epoch `epoch`, counted from 0, are behind it. An epoch whose
    batches are all behind it but whose validation is not stands at (epoch, number of batches).
    """

    def __init__(
        self, config: RunConfig, problem: Problem, folder: Path, device: torch.device, control: Control
    ) -> None:
        self.config, self.problem, self.device, self.control = config, problem, device, control
        folder.mkdir(parents=True, exist_ok=True)
        self.history_path = folder / "history.pkl"
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.tasks = chosen_tasks(problem, config.tasks)
        self.model = problem.model.to(device)
        context = Context(self.tasks, torch.Generator().manual_seed(mix_seed("methods", config.seed)))
        self.generator = context.generator
        self.schedule, self.weighting, self.gradient = build_method(config.method, context, device)
        if config.compile:
            if self.gradient.needs != "nothing" or self.weighting.needs_gradient_norms:
                torch._functorch.config.donated_buffer = False      # several backwards go through one graph
            self.model.compile()
        self.trained = [self.tasks[i] for i in self.schedule.trained()]
        check_best(config.best.value, config.best.direction, self.trained)

        self.batches_per_epoch = math.ceil(len(problem.train) / config.batch_size)  # type: ignore[arg-type]
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / config.accumulate)
        if not self.steps_per_epoch:
            raise ValueError("the training data are empty")
        self.total_steps = config.steps or (config.epochs or 0) * self.steps_per_epoch
        self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)

        self.optimizer = make_optimizer(config.optimizer, self.model, self.weighting)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.base_rates = base_rates(config.optimizer)
        self.rate = LearningRate(config.scheduler, self.optimizer, self.total_steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.scaler.scale(torch.zeros((), device=device))       # it has a scale of its own only from its first use on
        self.update = Updater(self.model, self.tasks, self.weighting, self.gradient, self._autocast, device)
        with_cosines = self.gradient.needs != "nothing"
        self.recorder = Recorder(self.tasks, self.total_steps, with_cosines, config.precision == "fp16")

        self.epoch = self.batch = self.step = 0
        self.parts: list[torch.Tensor] = []     # which samples are in which batch of this epoch
        self.best: dict[str, Any] | None = None
        self.to_beat: float | None = None   # for early stopping: the last value that was better by min_delta
        self.bad_validations = 0            # since then
        self.attempts: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.measured: dict[str, float] = {}

    # The loop ------------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Trains to the end, from the newest checkpoint if there is one; returns the history.

        Raises StopRequested after saving, when asked to stop; NonFiniteLoss for a loss that is no number any more.
        """
        self._restore()
        self.saved_at, self.save_every = time.monotonic(), seconds(self.config.checkpoint_every)
        self.told_at, self.began_at, self.began_step = 0.0, time.monotonic(), self.step
        self.attempts.append({"host": socket.gethostname(), "started": time.time(), "step": self.step})
        self._report("started", epochs=self.epochs, steps=self.total_steps, device=device_name(self.device))
        try:
            while not self._is_over():
                self._train_epoch()
                self._end_epoch()
            return self._finish()
        except NonFiniteLoss:
            self._write_history(finished=False)
            raise

    def try_one_step(self) -> None:
        """Makes one training step and keeps nothing of it. Raises whatever would be wrong with the first step."""
        self.model.train()
        self._train_step(next(groups(self._batches(), self.config.accumulate)))
        self.recorder.flush()

    def _is_over(self) -> bool:
        if self.batch:
            return False
        stopping = self.config.early_stopping
        return self.step == self.total_steps or (stopping is not None and self.bad_validations >= stopping.patience)

    def _train_epoch(self) -> None:
        self.model.train()
        began, first, first_batch = time.monotonic(), self.step, self.batch
        for step_batches in groups(self._batches(), self.config.accumulate):
            if self.step == self.total_steps:
                break
            self._train_step(step_batches)
            self.batch += len(step_batches)
            self._between_steps()
        taken = time.monotonic() - began
        if self.step > first:
            samples = sum(len(part) for part in self.parts[first_batch : self.batch])
            self.measured = {"samples_per_second": samples / taken, "epoch_seconds": taken}
        self.batch = self.batches_per_epoch

    def _batches(self) -> Iterator[Any]:
        """What is left of the epoch's batches."""
        data, seed, epoch = self.problem.train, self.config.seed, self.epoch
        length: int = len(data)  # type: ignore[arg-type]
        self.parts = epoch_batches(length, self.config.batch_size, seed, epoch, lengths_of(data))
        return self._loader(data, self.parts[self.batch :], self.batch, mix_seed("loading", seed, epoch))

    def _train_step(self, step_batches: list[Any]) -> None:
        active = list(self.schedule.active(self.step))
        factor = self.rate.set(self.step)
        self.optimizer.zero_grad()
        found = self.update(step_batches, active, self.scaler.get_scale()) if active else None
        if found is not None:
            if self.scaler.is_enabled():
                self.scaler.unscale_(self.optimizer)
            norm = self._clip()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            rates = (self.base_rates["trunk"] * factor, self.base_rates["heads"] * factor)
            self.recorder.add(
                Step(self.step, found.active, found.losses, found.weights, found.total, norm, found.cosines, rates)
            )
        else:
            nothing = torch.empty(0, device=self.device)
            nan = torch.full((), math.nan, device=self.device)
            self.recorder.add(Step(self.step, [], nothing, nothing, nan, None, None, (math.nan, math.nan)))
        self.step += 1

    def _clip(self) -> torch.Tensor | None:
        """The norm of the model's gradient before clipping. Without clipping it is computed, and recorded, at every
        tenth step only: it costs a pass over all gradients.
        """
        if self.config.gradient_clip is None and self.step % NORM_EVERY:
            return None
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.gradient_clip, norm)
        return norm

    def _between_steps(self) -> None:
        now = time.monotonic()
        if self.control.should_stop():
            self._stop()
        if now - self.saved_at >= self.save_every:
            self._save()
        if now - self.told_at >= 1:
            self.told_at = now
            self._report("progress")

    def _end_epoch(self) -> None:
        """Validates if it is time to, and lets everyone know who goes by what was found."""
        last = self.step == self.total_steps
        due = (self.epoch + 1) % self.config.validate_every == 0 or last
        values = self._validate() if due else None
        self.weighting.observe_epoch(torch.from_numpy(self.recorder.end_epoch()))
        self.recorder.add_epoch(self.epoch + 1, {**self.measured, "peak_memory": self._peak_memory()}, measured=True)
        if values is not None:
            self.recorder.add_epoch(self.epoch + 1, {f"validation/{name}": value for name, value in values.items()})
            self.schedule.observe_validation(values)
            self.rate.observe_validation(self._keep_best(values))
        self.epoch, self.batch = self.epoch + 1, 0
        self._report("epoch")

    def _validate(self) -> dict[str, float]:
        before = random_state()
        try:
            return self._evaluate(self.problem.validation)
        except StopRequested:
            set_random_state(before)        # so that this validation is made again as if for the first time
            self._stop()

    def _keep_best(self, values: dict[str, float]) -> bool:
        best, stopping = self.config.best, self.config.early_stopping
        number = values[best.value]
        if math.isnan(number):
            raise NonFiniteLoss(f"the validation's {best.value} is {number} after epoch {self.epoch + 1}")
        sign = 1 if best.direction == "max" else -1
        if self.to_beat is None or sign * (number - self.to_beat) > (stopping.min_delta if stopping else 0.0):
            self.to_beat, self.bad_validations = number, 0
        else:
            self.bad_validations += 1
        if self.best is not None and not sign * (number - self.best["number"]) > 0:
            return False
        self.best = {**best.model_dump(), "number": number, "epoch": self.epoch + 1, "step": self.step}
        self.checkpoints.save_best(self.step, self.model.state_dict())
        return True

    def _finish(self) -> dict[str, Any]:
        """The last checkpoint, then one evaluation of the best one on the test data, if there are any."""
        self._save()
        if self.problem.test is not None and self.best is not None:
            self.model.load_state_dict(self.checkpoints.load_best(self.best["step"]))
            try:
                values = self._evaluate(self.problem.test)
            except StopRequested:
                self._report("stopped")
                raise
            self.recorder.add_epoch(self.best["epoch"], {f"test/{name}": value for name, value in values.items()})
        history = self._write_history(finished=True)
        self._report("done")
        return history

    # Parts ---------------------------------------------------------------------------------------------------------

    def _loader(self, dataset: Any, parts: list[torch.Tensor], start: int = 0, seed: int = 0) -> Iterator[Any]:
        return batches(dataset, parts, start, seed, self.problem.collate, self.problem.workers)

    def _evaluate(self, dataset: Any) -> dict[str, float]:
        def between() -> None:
            if self.control.should_stop():
                raise StopRequested("stopped while it was evaluated; the last checkpoint is saved")

        loader = self._loader(dataset, ordered_batches(len(dataset), self.config.batch_size, lengths_of(dataset)))
        return evaluate(self.model, self.trained, loader, self._autocast, self.device, between)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "fp32":
            return nullcontext()
        kind = torch.bfloat16 if self.config.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, kind)

    def _peak_memory(self) -> float:
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device))
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def _report(self, event: str, **more: Any) -> None:
        done = self.step - self.began_step
        left = (time.monotonic() - self.began_at) / done * (self.total_steps - self.step) if done else None
        self.control.report(
            event, epoch=self.epoch, step=self.step, seconds_left=left, latest=self.recorder.latest(), best=self.best,
            notes=self.notes, **more,
        )  # fmt: skip

    # Saving and going on ---------------------------------------------------------------------------------------------

    def _stop(self) -> NoReturn:
        self._save()
        self._report("stopped")
        raise StopRequested(f"stopped at step {self.step} of {self.total_steps}, with a checkpoint")

    def _save(self) -> None:
        recorder = self.recorder.state_dict()       # first: it refuses to go on from a loss that is no number
        state: State = {
            "epoch": self.epoch, "batch": self.batch, "step": self.step,
            "identity": run_hash(self.config),
            "best": self.best, "to_beat": self.to_beat, "bad_validations": self.bad_validations,
            "attempts": self.attempts,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "rate": self.rate.state_dict(), "scaler": self.scaler.state_dict(),
            "schedule": self.schedule.state_dict(), "weighting": self.weighting.state_dict(),
            "gradient": self.gradient.state_dict(), "recorder": recorder,
            "random": random_state(), "generator": self.generator.get_state(),
        }  # fmt: skip
        self.checkpoints.save(self.step, state)
        self._write_history(finished=False)
        self.saved_at = time.monotonic()
        self._report("saved")

    def _restore(self) -> None:
        state, self.notes = self.checkpoints.newest()
        if state is None:
            return
        if state["identity"] != run_hash(self.config):
            raise ValueError(f"{self.checkpoints.folder} holds the checkpoints of another configuration")
        for name in ("epoch", "batch", "step", "best", "to_beat", "bad_validations", "attempts"):
            setattr(self, name, state[name])
        for name in ("model", "optimizer", "rate", "scaler", "schedule", "weighting", "gradient", "recorder"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        set_random_state(state["random"])

    def _write_history(self, finished: bool) -> dict[str, Any]:
        history = {**self.recorder.history(), "info": self._info(finished)}
        write_history(self.history_path, history)
        return history

    def _info(self, finished: bool) -> dict[str, Any]:
        config = self.config.model_dump()
        origin = config.pop("origin", {})
        shared = sum(p.numel() for p in self.model.shared_parameters())
        return {
            "sweep": origin.get("sweep", ""),
            "run": self.history_path.parent.name,
            "cluster": origin.get("cluster", ""),
            "varied": origin.get("varied", {}),
            "seed": self.config.seed,
            "method": method_label(self.config.method),
            "config": config,
            "tasks": [
                {"name": t.name, "kind": t.kind, "metrics": {name: t.direction(name) for name in t.metrics}}
                for t in self.trained
            ],
            "best": self.best,
            "finished": finished,
            "device": device_name(self.device),
            "parameters": {"trunk": shared, "heads": sum(p.numel() for p in self.model.parameters()) - shared},
            "versions": {
                "mtlcluster": mtlcluster.__version__, "python": platform.python_version(),
                "torch": str(torch.__version__), "numpy": np.__version__,
            },
            "threads": torch.get_num_threads(),
            "command": " ".join(sys.argv[:1]),
            "attempts": self.attempts,
        }  # fmt: skip


def chosen_tasks(problem: Problem, names: list[str] | None) -> list[Any]:
    """The problem's tasks that the configuration names, all if it names none. Raises ValueError for an unknown one."""
    known = {task.name: task for task in problem.tasks}
    for name in names or ():
        if name not in known:
            raise ValueError(f"there is no task '{name}'{nearest(name, known)}")
    return [task for task in problem.tasks if names is None or task.name in names]


def check_best(value: str, direction: str, tasks: list[Any]) -> None:
    """Raises ValueError where `best` names a value that no validation finds, or the wrong direction for it."""
    known = {f"{task.name}/{name}": task.direction(name) for task in tasks for name in ("loss", *task.metrics)}
    known["mean_loss"] = "min"
    if value not in known:
        raise ValueError(f"best: there is no validation value '{value}'{nearest(value, known)}")
    if known[value] != direction:
        raise ValueError(f"best: for '{value}' the better direction is {known[value]}, not {direction}")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
