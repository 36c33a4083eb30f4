"""The shared training-validation loop, with exact resume."""

import math
import re
import resource
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

import torch

from mtlcluster.config.run import RunConfig, run_hash
from mtlcluster.config.units import seconds
from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.problem import Problem
from mtlcluster.sweep.history import write_history
from mtlcluster.sweep.status import UNDEFINED
from mtlcluster.training.batch_check import BatchError, broken_batches, checked, sample_names
from mtlcluster.training.batches import batches, epoch_batches, groups, lengths_of, ordered_batches
from mtlcluster.training.callbacks import Control, StopRequested
from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.early_checks import Foreseen, batches_per_epoch, foresee, untouched
from mtlcluster.training.gradients.backward import Backward
from mtlcluster.training.gradients.forward import autocast
from mtlcluster.training.gradients.rehearsal import has_lazy_layers
from mtlcluster.training.info import describe, device_name
from mtlcluster.training.metrics import MetricError
from mtlcluster.training.nonfinite.diagnosis import Diagnosis, diagnose, random_before_step
from mtlcluster.training.nonfinite.guard import Guard, NonFinite
from mtlcluster.training.optimizer import LearningRate, base_rates, make_optimizer
from mtlcluster.training.recorder import Recorder, Step
from mtlcluster.training.resume.buffers import Buffers
from mtlcluster.training.resume.checkpoint import Checkpoints, State, Unfit, Unreadable, refuse_unreadable
from mtlcluster.training.resume.number_attributes import notes_on_changes, numbers_in
from mtlcluster.training.resume.own_generators import generator_states, own_generators, set_generator_states
from mtlcluster.training.resume.sample_counts import refuse_other_samples, samples
from mtlcluster.training.seeding import mix_seed, random_state, seed_everything, set_random_state
from mtlcluster.training.validation import AfterBatch, Evaluation, Undefined, check_best, evaluate

NORM_EVERY = 10
CHECKED = 3  # batches, the first of every epoch and validation
FELT_BY_A_STEP = ("buffers", "model", "schedule", "weighting", "gradient", "update")  # what its gradients depend on
BEST = ("buffers", "model")
RESTORED = (*FELT_BY_A_STEP, "optimizer", "rate", "scaler", "recorder")
MISFIT = re.compile(r"Error\(s\) in loading state_dict")


class Trainer:
    """Trains one problem as one configuration says, in one folder (checkpoints/, history.pkl).

    The position is (epoch, batch): `batch` batches of epoch `epoch`, counted from 0, are behind it. An epoch whose
    batches are all behind it but whose validation is not stands at (epoch, number of batches).
    """

    def __init__(
        self,
        config: RunConfig,
        problem: Problem,
        folder: Path,
        device: torch.device,
        control: Control,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config, self.problem, self.device, self.control, self.ranks = config, problem, device, control, ranks
        folder.mkdir(parents=True, exist_ok=True)
        self.history_path = folder / "history.pkl"
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.tasks = problem.chosen(config.tasks)
        self.model = problem.model.to(device)
        self.buffers = Buffers(self.model)
        self.attributes = numbers_in(self.model)
        self.batches_per_epoch = batches_per_epoch(len(problem.train), config)  # type: ignore[arg-type]
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / config.accumulate)
        self.total_steps = config.steps or (config.epochs or 0) * self.steps_per_epoch
        self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)

        self.generator = torch.Generator().manual_seed(mix_seed("methods", config.seed))
        context = Context(self.tasks, self.generator, self.total_steps, self.steps_per_epoch)
        self.schedule, self.weighting, self.gradient = build_method(config.method, context, device)
        if config.compile:
            if self.gradient.needs != "nothing" or self.weighting.needs_gradient_norms:
                torch._functorch.config.donated_buffer = False  # several backwards go through one graph
            self.model.compile()
        methods = (self.schedule, self.weighting, self.gradient)  # the data's generators are seeded by the batch
        self.own_generators = own_generators(*problem.model.modules(), *problem.tasks, *methods)
        self.trained = [self.tasks[i] for i in self.schedule.trained()]
        check_best(config.best, self.trained)

        self.optimizer = make_optimizer(config.optimizer, self.model, self.weighting)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.parameter_names = {name for name, _ in self.model.named_parameters()}
        self.base_rates = base_rates(config.optimizer)
        self.rate = LearningRate(config.scheduler, self.optimizer, self.total_steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.scaler.scale(torch.zeros((), device=device))  # it has a scale of its own only from its first use on
        visible = config.precision == "fp32" and not config.compile
        self.update = Backward(
            self.model, self.tasks, self.weighting, self.gradient, self._autocast, device, visible, ranks
        )
        self.guard = Guard(self.model, config.precision == "fp16", ranks)
        self.recorder = Recorder(self.tasks, self.total_steps, self.gradient.needs, self.schedule.shares(0) is not None)

        self.epoch = self.batch = self.step = 0
        self.told_at, self.began_at, self.began_step = 0.0, time.monotonic(), 0
        self.parts: list[torch.Tensor] = []  # which samples are in which batch of this epoch
        self.best: dict[str, Any] | None = None
        self.to_beat: float | None = None  # for early stopping: the last value that was better by min_delta
        self.bad_validations = 0  # since then
        self.attempts: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.measured: dict[str, float] = {}

    # The loop ------------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Trains to the end, from the newest checkpoint if there is one; returns the history.

        Raises StopRequested after saving, when asked to stop; NonFinite for a loss, an output or a gradient that is no
        number any more, before it has touched the weights; BatchError for a batch that breaks the contract.
        """
        self.foresee(self.ranks.size)
        self._restore()
        if not self.step:
            self._try_validation()
        self.saved_at, self.save_every = time.monotonic(), seconds(self.config.checkpoint_every)
        self.began_at, self.began_step = time.monotonic(), self.step
        self.attempts.append({"host": socket.gethostname(), "started": time.time(), "step": self.step})
        self._report("started", epochs=self.epochs, steps=self.total_steps, device=device_name(self.device))
        try:
            while not self._is_over():
                self._train_epoch()
                self._end_epoch()
            return self._finish()
        except (NonFinite, BatchError, Undefined):
            self._write_history(finished=False)
            raise

    def try_one_step(self) -> None:
        """Makes one training step, saves and goes on from there. Raises whatever would be wrong with that, and what is
        bound to go wrong later.
        """
        self.foresee(self.config.resources.ranks)
        self.model.train()
        self._train_step(next(groups(self._batches(), self.config.accumulate)))
        self.recorder.flush()
        self._refuse_late_parameters()
        self._try_validation()
        self.checkpoints.save(self.step, self._state())
        self._restore()

    def foresee(self, ranks: int) -> None:
        """Raises ValueError for what training in so many ranks is bound to fail at."""
        foresee(self.problem, self.trained, self.config, self.device, ranks)

    def _is_over(self) -> bool:
        if self.batch:
            return False
        stopping = self.config.early_stopping
        return self.step >= self.total_steps or (stopping is not None and self.bad_validations >= stopping.patience)

    def _train_epoch(self) -> None:
        self.model.train()
        began, first, first_batch = time.monotonic(), self.step, self.batch
        for step_batches in groups(self._batches(), self.config.accumulate):
            if self.step >= self.total_steps:
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
        drop = self.config.last_batch == "drop"
        self.parts = epoch_batches(length, self.config.batch_size, seed, epoch, lengths_of(data), drop)
        own = [self.ranks.take(part) for part in self.parts[self.batch :]]
        return self._loader(data, own, self.batch, mix_seed("loading", seed, epoch))

    def _train_step(self, step_batches: list[Any]) -> None:
        active, shares = list(self.schedule.active(self.step)), self.schedule.shares(self.step)
        factor = self.rate.set(self.step)
        self.optimizer.zero_grad()
        before = random_before_step(self.device, self.generator)
        sizes = [len(part) for part in self.parts[self.batch : self.batch + len(step_batches)]]
        found = self.update(step_batches, active, self.scaler.get_scale(), shares, sizes) if active else None
        if found is not None:
            if self.scaler.is_enabled():
                self.scaler.unscale_(self.optimizer)
            norm = self._clip()
            if not self.guard.is_sound(found, norm):
                self._refuse({**before, "active": active, "shares": shares, "losses": found.losses.cpu()}, step_batches)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if not self.guard.overflows:  # else the step has been left out
                self.update.learn(found)
            self.schedule.observe_losses(found.losses, found.index)
            rates = (self.base_rates["trunk"] * factor, self.base_rates["heads"] * factor)
            self.recorder.add(
                Step(
                    self.step, found.active, found.losses, found.weights, found.total, norm, found.aggregation, rates,
                    shares,
                )
            )  # fmt: skip
        else:
            nothing = torch.empty(0, device=self.device)
            nan = torch.full((), math.nan, device=self.device)
            self.recorder.add(Step(self.step, [], nothing, nothing, nan, None, None, (math.nan, math.nan)))
        self.step += 1

    def _refuse(self, moment: State, step_batches: list[Any]) -> NoReturn:
        """Adds to `moment` what it takes to see this step again, keeps it, and says where it stopped being finite: on
        the first rank that has a part in it.
        """
        parts = [self.ranks.take(part) for part in self.parts[self.batch : self.batch + len(step_batches)]]
        moment |= {
            "step": self.step, "batches": step_batches, "scale": self.scaler.get_scale(),
            "names": [sample_names(self.problem.train, part) for part in parts],
            **{name: getattr(self, name).state_dict() for name in FELT_BY_A_STEP},
        }  # fmt: skip
        self.update.leave_ranks()
        found = self.diagnose(moment)
        seen = self.ranks.all_of((bool(found and found.blamed), found.sentence() if found else ""))
        culprit = next((rank for rank, (blamed, _) in enumerate(seen) if blamed), 0)
        sentence = seen[culprit][1]
        try:
            if culprit == self.ranks.rank and found:
                self.checkpoints.save_failure({**moment, "losses": found.found.losses.cpu()})
        except (OSError, Unreadable) as error:
            raise NonFinite(f"step {self.step + 1}: {sentence}; it could not be kept: {error}") from error
        raise NonFinite(f"step {self.step + 1}: {sentence}", kept=True)

    def diagnose(self, moment: State) -> Diagnosis | None:
        """Makes the step of `moment` once more; model and methods are in the state that they had then. None where its
        batches, a rank's, have no label.
        """
        return diagnose(self.update, self.tasks, self.generator, moment, self.config.precision)

    def failed_step(self) -> State:
        """The moment of the step that was refused, model and methods set to their state then. Raises ValueError where
        there is none.
        """
        moment = self.checkpoints.load_failure()
        self._load(FELT_BY_A_STEP, moment)
        return moment

    def load_best(self, step: int) -> None:
        """Makes the model what it was after the best validation. Raises ValueError where that cannot be."""
        self._load(BEST, self.checkpoints.load_best(step))

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

    def _try_validation(self) -> None:
        """Evaluates the first batch and the last, without a trace: what is wrong with a metric, or with a model that
        gets one sample, shall not show after an epoch only.
        """
        if has_lazy_layers(self.model):
            return
        with untouched(self.model):
            data = self.problem.validation
            parts = self.evaluation_batches(data)
            loader = self._loader(data, [*parts[:1], *parts[1:][-1:]])
            try:
                evaluate(self.model, self.trained, loader, self._autocast, self.device, ranks=self.ranks)
            except MetricError as error:
                if error.always:  # else it may be that the batch has too few samples for it
                    raise

    def _refuse_late_parameters(self) -> None:
        """Raises Foreseen for a parameter that a forward has made: it would never be trained."""
        if late := [name for name, _ in self.model.named_parameters() if name not in self.parameter_names]:
            raise Foreseen(
                f"the model has made the parameter '{late[0]}' in its first step; the optimizer does not know it, and "
                "it would never be trained: make it in the job's build, or by a lazy layer such as nn.LazyLinear"
            )

    def _between_steps(self) -> None:
        now = time.monotonic()
        if self.step == self.began_step + 1:  # now, not after hours at the first save
            self._refuse_late_parameters()
            refuse_unreadable(self._state())
            self._note(notes_on_changes(self.attributes, numbers_in(self.model)))
        first = self.ranks.rank == 0  # which decides for all
        due = first and now - self.saved_at >= self.save_every
        stop, save = self.ranks.total([first and self.control.should_stop(), due])
        if stop:
            self._stop()
        if save:
            self._save()
        if now - self.told_at >= 1:
            self.told_at = now
            self._report("progress")

    def _end_epoch(self) -> None:
        """Validates if it is time to, and lets everyone know who goes by what was found."""
        last = self.step >= self.total_steps
        due = (self.epoch + 1) % self.config.validate_every == 0 or last
        found = self._validate() if due else None
        self.weighting.observe_epoch(torch.from_numpy(self.recorder.end_epoch()))
        self.recorder.add_epoch(self.epoch + 1, {**self.measured, "peak_memory": self._peak_memory()}, measured=True)
        if found is not None:
            self._note(found.notes("validation"))
            self.recorder.add_epoch(self.epoch + 1, found.series("validation"))
            self.schedule.observe_validation(found.values)
            self.rate.observe_validation(self._keep_best(found))
        self.epoch, self.batch = self.epoch + 1, 0
        self._report("epoch")

    def _note(self, notes: list[str]) -> None:
        """Each once, though its reason may be worded otherwise at every validation."""
        known = {note.partition(UNDEFINED)[0] for note in self.notes}
        self.notes += [note for note in notes if note.partition(UNDEFINED)[0] not in known]

    def _validate(self) -> Evaluation:
        before = random_state()
        try:
            return self.evaluate(self.problem.validation)
        except StopRequested:
            set_random_state(before)  # so that this validation is made again as if for the first time
            self._stop()

    def _keep_best(self, found: Evaluation) -> bool:
        best, stopping = self.config.best, self.config.early_stopping
        number = found.values[best.value]
        if not math.isfinite(found.values["mean_loss"]) and "mean_loss" not in found.undefined:
            losses = [name for task in self.trained if (name := f"{task.name}/loss") not in found.undefined]
            name = next((name for name in losses if not math.isfinite(found.values[name])), "mean_loss")
            raise NonFinite(
                f"the validation's {name} is {found.values[name]} after epoch {self.epoch + 1}{self._broken()}"
            )
        if not math.isfinite(number):
            raise Undefined(best, found.undefined.get(best.value, f"it is {number}, though all losses are finite"))
        sign = 1 if best.direction == "max" else -1
        if self.to_beat is None or sign * (number - self.to_beat) > (stopping.min_delta if stopping else 0.0):
            self.to_beat, self.bad_validations = number, 0
        else:
            self.bad_validations += 1
        if self.best is not None and not sign * (number - self.best["number"]) > 0:
            return False
        self.best = {
            **best.model_dump(), "number": number, "epoch": self.epoch + 1, "step": self.step,
            "thresholds": found.thresholds,
        }  # fmt: skip
        self._report("saving")
        if not self.ranks.rank:
            self.checkpoints.save_best(self.step, {name: getattr(self, name).state_dict() for name in BEST})
        return True

    def _broken(self) -> str:
        """What is wrong with the validation data, if it is they."""
        problem, config = self.problem, self.config
        found = broken_batches(problem.validation, self.trained, config.batch_size, problem.collate, problem.workers)
        if error := next((error for error in found if error), None):
            return f"; its data are broken: {error}"
        return ", with sound data: try a lower learning rate, gradient_clip or precision fp32"

    def _finish(self) -> dict[str, Any]:
        """The last checkpoint, then one evaluation of the best one on the test data, if there are any."""
        self._save()
        if self.problem.test is not None and self.best is not None:
            with self.ranks.in_turn():  # until rank 0 has written it
                self.load_best(self.best["step"])
            try:
                found = self.evaluate(self.problem.test, self.best.get("thresholds", {}))
            except StopRequested:
                self._report("stopped")
                raise
            self._note(found.notes("test"))
            self.recorder.add_epoch(self.best["epoch"], found.series("test"))
        if not self.ranks.rank:
            self.checkpoints.remove_failure()
        history = self._write_history(finished=True)
        self._report("done")
        return history

    # Parts ---------------------------------------------------------------------------------------------------------

    def _loader(self, dataset: Any, parts: list[torch.Tensor], start: int = 0, seed: int = 0) -> Iterator[Any]:
        found = batches(dataset, parts, start, seed, self.problem.collate, self.problem.workers)
        return checked(found, parts, dataset, self.trained, CHECKED)

    def evaluation_batches(self, dataset: Any) -> list[torch.Tensor]:
        """Which samples are in which of this rank's batches when the model is evaluated on `dataset`."""
        whole = ordered_batches(len(dataset), self.config.batch_size, lengths_of(dataset))
        return whole[self.ranks.rank :: self.ranks.size]

    def evaluate(
        self, dataset: Any, thresholds: dict[str, float] | None = None, after_batch: AfterBatch | None = None
    ) -> Evaluation:
        """See training/validation.py. Raises StopRequested, with nothing done, when asked to stop; several ranks, each
        with some of the batches, go through with it.
        """

        def then(outputs: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> None:
            if self.ranks.size == 1 and self.control.should_stop():
                raise StopRequested("stopped while it was evaluated; the last checkpoint is saved")
            if after_batch:
                after_batch(outputs, targets)

        loader = self._loader(dataset, self.evaluation_batches(dataset))
        self.ranks.align(self.model)
        return evaluate(self.model, self.trained, loader, self._autocast, self.device, thresholds, then, self.ranks)

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.config.precision, self.device)

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
        self._report("saving")
        state = self._state()
        if not self.ranks.rank:
            self.checkpoints.save(self.step, state)
        self._write_history(finished=False)
        self.saved_at = time.monotonic()
        self._report("saved")

    def _state(self) -> State:
        """What to go on from: the same on every rank."""
        return {
            "epoch": self.epoch, "batch": self.batch, "step": self.step,
            "identity": run_hash(self.config), "samples": samples(self.problem),
            "best": self.best, "to_beat": self.to_beat, "bad_validations": self.bad_validations,
            "attempts": self.attempts, "overflows": self.guard.overflows,
            "buffers": self.buffers.state_dict(), "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(), "rate": self.rate.state_dict(),
            "scaler": self.scaler.state_dict(),
            "schedule": self.schedule.state_dict(), "weighting": self.weighting.state_dict(),
            "gradient": self.gradient.state_dict(), "update": self.update.state_dict(),
            "recorder": self.recorder.state_dict(),
            "random": self.ranks.all_of(random_state()), "generator": self.generator.get_state(),
            "own_generators": self.ranks.all_of(generator_states(self.own_generators)),
        }  # fmt: skip

    def _restore(self) -> None:
        with self.ranks.in_turn():  # rank 0 clears away what is broken
            state, self.notes = self.checkpoints.newest()
        if state is None:
            return
        if state["identity"] != run_hash(self.config):
            raise Unfit(f"{self.checkpoints.folder} holds the checkpoints of another configuration")
        for name in ("epoch", "batch", "step", "best", "to_beat", "bad_validations", "attempts"):
            setattr(self, name, state[name])
        refuse_other_samples(state.get("samples", {}), samples(self.problem))
        self._load(RESTORED, state)
        self.guard.overflows = state.get("overflows", 0)  # older checkpoints lack it
        self.generator.set_state(state["generator"])
        if len(state["random"]) == self.ranks.size:
            set_random_state(state["random"][self.ranks.rank])
            if own := state.get("own_generators"):  # older checkpoints lack them
                set_generator_states(self.own_generators, own[self.ranks.rank])
            return
        seed_everything(mix_seed("rank", self.config.seed, self.ranks.rank, self.step))
        self.notes.append(
            f"step {self.step}: {len(state['random'])} ranks before, {self.ranks.size} from here on: dropout and "
            "augmentation draw other numbers, batch norm sees other parts of a batch; batches and learning rate stay"
        )

    def _load(self, names: Sequence[str], state: State) -> None:
        """Raises Unfit where the model is another one than in `state`."""
        try:
            for name in names:
                if name in state:  # older checkpoints lack the buffers
                    getattr(self, name).load_state_dict(state[name])
        except RuntimeError as error:
            if not MISFIT.match(str(error)):
                raise
            first = next(iter(str(error).splitlines()[1:]), "").strip()
            raise Unfit(
                f"the job makes another model than the one in the checkpoint: {first} Use the job that the run was "
                "started with, or begin anew: mtlcluster retry … --restart"
            ) from error

    def _write_history(self, finished: bool) -> dict[str, Any]:
        info = describe(self.config, self.history_path.parent.name, self.model, self.trained, self.device)
        info |= {"best": self.best, "finished": finished, "attempts": self.attempts, "ranks": self.ranks.size}
        history = {**self.recorder.history(), "info": info}
        if not self.ranks.rank:
            write_history(self.history_path, history)
        return history
