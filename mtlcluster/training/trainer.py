"""The training loop of every run, with exact resume."""

import math
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

import torch

from mtlcluster.config.run import RunConfig, run_hash
from mtlcluster.config.units import seconds
from mtlcluster.methods.answers import active_tasks, sample_shares
from mtlcluster.methods.base import Context
from mtlcluster.methods.build import build_method
from mtlcluster.problem import Problem
from mtlcluster.sweep.history import write_history
from mtlcluster.sweep.series import TEST, VALIDATION
from mtlcluster.training.batch_check import BatchError, sample_names
from mtlcluster.training.batches import groups
from mtlcluster.training.best_validation import BestValidation
from mtlcluster.training.callbacks import Callbacks, StopRequested
from mtlcluster.training.data_feed import DataFeed
from mtlcluster.training.distributed import ALONE, Ranks
from mtlcluster.training.early_checks import batches_per_epoch, foresee
from mtlcluster.training.evaluator import Evaluator
from mtlcluster.training.gradients.backward import Backward, StepResult
from mtlcluster.training.gradients.forward import autocast
from mtlcluster.training.hardly_moved import hardly_moved
from mtlcluster.training.info import describe, device_name, peak_memory
from mtlcluster.training.late_changes import LateChanges
from mtlcluster.training.nonfinite.diagnosis import Diagnosis, diagnose, random_before_step
from mtlcluster.training.nonfinite.guard import Guard, NonFinite
from mtlcluster.training.nonfinite.refusal import refuse_step
from mtlcluster.training.nonfinite.validation import check_validation
from mtlcluster.training.optimizer import LearningRate, base_rates, clip, make_optimizer
from mtlcluster.training.predictions import PredictionCollector
from mtlcluster.training.recorder import Recorder, StepRecord, empty_record
from mtlcluster.training.relative_loss import RelativeLoss
from mtlcluster.training.reporter import Reporter
from mtlcluster.training.resume.buffers import Buffers
from mtlcluster.training.resume.checkpoint import Checkpoints, State, Unfit, refuse_unreadable
from mtlcluster.training.resume.own_generators import own_generators
from mtlcluster.training.resume.parts import Parts, restore, states_of
from mtlcluster.training.resume.random_generators import RandomGenerators
from mtlcluster.training.resume.sample_counts import refuse_other_samples, samples
from mtlcluster.training.seeding import mix_seed, random_state, set_random_state
from mtlcluster.training.validation import Evaluation, Undefined, check_best

NORM_EVERY = 10  # steps between two norms of the gradient where it is not clipped


class Trainer:
    """Trains one problem as one configuration says, in one folder (checkpoints/, history.pkl).

    The position in the training is (epoch, batch): `batch` batches of epoch `epoch` are done, both counted from 0.
    Between the last batch of an epoch and its validation, it is (epoch, number of batches).
    """

    def __init__(
        self,
        config: RunConfig,
        problem: Problem,
        folder: Path,
        device: torch.device,
        callbacks: Callbacks,
        ranks: Ranks = ALONE,
    ) -> None:
        """
        Args:
            config: The run's configuration.
            problem: The problem that the job's `build` returns.
            folder: Gets the checkpoints and the history; where it has checkpoints, `run` goes on from there.
            device: The device to train on.
            callbacks: Gets the reports, and says whether to stop.
            ranks: The processes that train the run.
        """
        self.config, self.problem, self.device, self.callbacks, self.ranks = config, problem, device, callbacks, ranks
        folder.mkdir(parents=True, exist_ok=True)
        self.history_path, self.predictions_path = folder / "history.pkl", folder / "predictions.npz"
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.tasks = problem.chosen(config.tasks)
        self.model = problem.model.to(device)
        self.buffers = Buffers(self.model)
        self.late_changes = LateChanges(self.model)
        self.batches_per_epoch = batches_per_epoch(len(problem.train), config)  # type: ignore[arg-type]
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / config.accumulate)
        self.total_steps = config.steps or (config.epochs or 0) * self.steps_per_epoch
        self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self._build_method()
        self._build_optimization()
        self._build_rest()

        self.epoch = self.batch = self.step = 0
        self.backwards = 0  # backward passes through the trunk so far
        self.indices: list[torch.Tensor] = []  # of the samples of every batch of this epoch
        self.saved_at, self.save_every = time.monotonic(), seconds(config.checkpoint_every)
        self.attempts: list[dict[str, Any]] = []
        self.measured: dict[str, float] = {}

    def _build_method(self) -> None:
        """The three slots of the method, and the tasks that they train."""
        config = self.config
        self.generator = torch.Generator().manual_seed(mix_seed("methods", config.seed))
        context = Context(self.tasks, self.generator, self.total_steps, self.steps_per_epoch)
        self.schedule, self.weighting, self.gradient = build_method(config.method, context, self.device)
        if config.compile:
            if self.gradient.needs != "nothing" or self.weighting.needs_gradient_norms:
                torch._functorch.config.donated_buffer = False  # several backwards go through one graph
            self.model.compile()
        # Not the data's own generators: those are seeded before every batch.
        methods = (self.schedule, self.weighting, self.gradient)
        owned = own_generators(*self.model.modules(), *self.problem.tasks, *methods)
        self.random = RandomGenerators(config.seed, self.generator, owned, self.ranks)
        self.trained = [self.tasks[i] for i in self.schedule.trained()]
        check_best(config.best, self.trained)

    def _build_optimization(self) -> None:
        """The optimization step and its parts."""
        config, model, device = self.config, self.model, self.device
        self.optimizer = make_optimizer(config.optimizer, model, self.weighting)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.base_rates = base_rates(config.optimizer)
        self.rate = LearningRate(config.scheduler, self.optimizer, self.total_steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.scaler.scale(torch.zeros((), device=device))  # it has a scale of its own only from its first use on
        visible = config.precision == "fp32" and not config.compile
        self.update = Backward(
            model, self.tasks, self.weighting, self.gradient, self._autocast, device, visible, self.ranks
        )
        self.guard = Guard(model, config.precision == "fp16", self.ranks)

    def _build_rest(self) -> None:
        """Data, evaluation, records, and what checkpoints hold."""
        config, problem, ranks = self.config, self.problem, self.ranks
        self.feed = DataFeed(problem, config, self.trained, ranks)
        self.evaluate = Evaluator(self.model, self.feed, self._autocast, self.device, self.callbacks, ranks)
        self.recorder = Recorder(self.tasks, self.total_steps, self.gradient.needs, self.schedule.shares(0) is not None)
        self.reporter = Reporter(self.callbacks, self.total_steps)
        self.relative_loss = RelativeLoss(self.trained, self.batches_per_epoch, self.device, ranks)
        self.validations = BestValidation(config.best, config.early_stopping)
        # The buffers come before the model: it needs them in the saved shapes.
        self.model_parts: Parts = {"buffers": self.buffers, "model": self.model}
        self.step_parts: Parts = {  # all that the gradients of a step depend on
            **self.model_parts, "schedule": self.schedule, "weighting": self.weighting, "gradient": self.gradient,
            "update": self.update,
        }  # fmt: skip
        self.all_parts: Parts = {
            **self.step_parts, "optimizer": self.optimizer, "rate": self.rate, "scaler": self.scaler,
            "recorder": self.recorder, "relative_loss": self.relative_loss,
        }  # fmt: skip

    # The loop ------------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Trains to the end, from the newest checkpoint if there is one.

        Returns:
            The history, see sweep/history.py.

        Raises:
            StopRequested: It was asked to stop, and has saved a checkpoint.
            NonFinite: A loss, an output or a gradient is not finite. It has not reached the weights.
            BatchError: A batch breaks the contract.
            Undefined: The labels allow no value of `best`.
            Unfit: The checkpoints belong to another configuration, other data or another model.
        """
        self.foresee(self.ranks.size)
        self._restore()
        if not self.step:
            self.evaluate.try_out(self.problem.validation)
        self.saved_at = time.monotonic()
        self.reporter.begin(self.step)
        self.attempts.append({"host": socket.gethostname(), "started": time.time(), "step": self.step})
        totals = {"epochs": self.epochs, "steps": self.total_steps}
        self._report("started", **totals, device=device_name(self.device), last_validation=self._last_validation())
        try:
            while not self._is_over():
                self._train_epoch()
                self._end_epoch()
            return self._finish()
        except (NonFinite, BatchError, Undefined):
            self._write_history(finished=False)
            raise

    def try_one_step(self) -> None:
        """Makes one training step, saves, and resumes from there.

        Raises:
            Exception: Whatever goes wrong with that, or is bound to go wrong later.
        """
        self.foresee(self.config.resources.ranks)
        self.model.train()
        self._train_step(next(groups(self._batches(), self.config.accumulate)))
        self.recorder.flush()
        self.late_changes.refuse_parameters()
        self.evaluate.try_out(self.problem.validation)
        self.checkpoints.save(self.step, self._state())
        self._restore()

    def foresee(self, ranks: int) -> None:
        """Raises ValueError for what training in so many ranks is bound to fail at."""
        foresee(self.problem, self.trained, self.config, self.device, ranks)

    def _is_over(self) -> bool:
        return not self.batch and (self.step >= self.total_steps or self.validations.is_out_of_patience())

    def _train_epoch(self) -> None:
        """Trains on the epoch's batches that are left."""
        self.model.train()
        began, first, first_batch = time.monotonic(), self.step, self.batch
        for step_batches in groups(self._batches(), self.config.accumulate):
            if self.step >= self.total_steps:
                break
            self._train_step(step_batches)
            if not self.epoch:
                self._keep_labels(step_batches)
            self.batch += len(step_batches)
            self._between_steps()
        taken = time.monotonic() - began
        if self.step > first:
            count = sum(len(batch) for batch in self.indices[first_batch : self.batch])
            self.measured = {"samples_per_second": count / taken, "epoch_seconds": taken}
        self.batch = self.batches_per_epoch

    def _batches(self) -> Iterator[Any]:
        """The epoch's batches that are left."""
        self.indices = self.feed.epoch_indices(self.epoch)
        return self.feed.load_epoch(self.epoch, self.indices, self.batch)

    def _train_step(self, step_batches: list[Any]) -> None:
        active, shares = active_tasks(self.schedule, self.step), sample_shares(self.schedule, self.step)
        factor = self.rate.set(self.step)
        self.optimizer.zero_grad()
        random = random_before_step(self.device, self.generator)
        sizes = [len(batch) for batch in self._next_indices(len(step_batches))]
        found = self.update(step_batches, active, self.scaler.get_scale(), shares, sizes) if active else None
        if found is None:
            self.recorder.add(empty_record(self.step, self.device))
        else:
            norm = self._unscale_and_clip()
            if not self.guard.is_sound(found, norm):
                self._refuse_step({**random, "active": active, "shares": shares}, step_batches)
            self._descend(found)
            self.backwards += found.backwards
            rates = (self.base_rates["trunk"] * factor, self.base_rates["heads"] * factor)
            self.recorder.add(
                StepRecord(
                    self.step,
                    found.active,
                    found.losses,
                    found.weights,
                    found.total,
                    norm,
                    found.aggregation,
                    rates,
                    shares,
                )
            )
        self.step += 1

    def _keep_labels(self, step_batches: list[Any]) -> None:
        """Keeps the labels of the first epoch, which the relative loss depends on."""
        for (_, targets), indices in zip(step_batches, self._next_indices(len(step_batches)), strict=True):
            if not self.ranks.is_idle(len(indices)):
                self.relative_loss.keep(targets)

    def _next_indices(self, count: int) -> list[torch.Tensor]:
        """The indices of the samples of the next `count` batches, of all ranks together."""
        return self.indices[self.batch : self.batch + count]

    def _unscale_and_clip(self) -> torch.Tensor | None:
        """Makes the gradients those of the optimizer; returns their norm before clipping, where it is computed."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        limit = self.config.gradient_clip
        if limit is None and self.step % NORM_EVERY:  # a norm costs a pass over all gradients
            return None
        return clip(self.parameters, limit)

    def _descend(self, found: StepResult) -> None:
        """Moves the parameters, and shows the methods what the step found."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if not self.guard.overflows:  # else the scaler has skipped the step
            self.update.learn(found)
        self.schedule.observe_losses(found.losses, found.index)

    def _between_steps(self) -> None:
        """Saves, stops and reports where it is time to."""
        if self.step == self.reporter.first_step + 1:
            self._check_first_step()
        first = self.ranks.rank == 0  # it decides for all
        due = first and time.monotonic() - self.saved_at >= self.save_every
        stop, save = self.ranks.total([first and self.callbacks.should_stop(), due])
        if stop:
            self._stop()
        if save:
            self._save()
        if self.reporter.is_progress_due():
            self._report("progress")

    def _end_epoch(self) -> None:
        """Validates if a validation is due, and passes the result on to all parts that use it."""
        due = (self.epoch + 1) % self.config.validate_every == 0 or self.step >= self.total_steps
        found = self._validate() if due else None
        self.weighting.observe_epoch(torch.from_numpy(self.recorder.end_epoch()))
        self.recorder.add_epoch(
            self.epoch + 1, {**self.measured, "peak_memory": peak_memory(self.device)}, measured=True
        )
        if found is not None:
            self.reporter.note([*found.notes(VALIDATION), *self.relative_loss.notes(), *self.validations.notes(found)])
            self.recorder.add_epoch(self.epoch + 1, found.series(VALIDATION))
            self.schedule.observe_validation(found.values)
            self.rate.observe_validation(self._keep_best(found))
        self.epoch, self.batch = self.epoch + 1, 0
        self._report("epoch", last_validation=self._last_validation(), gradient_layer=self.update.gradient_layer)

    def _last_validation(self) -> dict[str, int] | None:
        """The numbers of finished epochs and steps at the last validation; None if the training is over."""
        if self._is_over():
            return None
        epoch = self.epoch - self.epoch % self.config.validate_every
        return {"epoch": epoch, "step": epoch * self.steps_per_epoch}

    def _validate(self) -> Evaluation:
        before, data = random_state(), self.problem.validation
        try:
            self.relative_loss.fit(lambda: self.evaluate.output_shapes(data))
            constant = self.relative_loss.measure(VALIDATION)
            return self.relative_loss.complete(VALIDATION, self.evaluate(data, None, constant.add), constant)
        except StopRequested:
            set_random_state(before)  # after a resume the whole validation is made again
            self._stop()

    def _keep_best(self, found: Evaluation) -> bool:
        """Saves the model if it is the best so far, and returns whether it is."""
        check_validation(found, self.epoch + 1, self.problem, self.trained, self.config.batch_size)
        if not self.validations.observe(found, self.epoch + 1, self.step):
            return False
        self._report("saving")
        if not self.ranks.rank:
            self.checkpoints.save_best(self.step, states_of(self.model_parts))
        return True

    def _finish(self) -> dict[str, Any]:
        """Saves the last checkpoint, then evaluates the best one on the test data, if there are any."""
        self._save()
        best = self.validations.best
        if self.problem.test is not None and best is not None:
            with self.ranks.in_turn():  # rank 0 has written it by then
                self.load_best(best["step"])
            found = self._test(best.get("thresholds", {}))
            self.reporter.note(found.notes(TEST))
            self.recorder.add_epoch(best["epoch"], found.series(TEST))
        self.reporter.note(hardly_moved(self.config.method["weighting"]["name"], self.weighting))
        if not self.ranks.rank:
            self.checkpoints.remove_failure()
        history = self._write_history(finished=True)
        self._report("done")
        return history

    def _test(self, thresholds: dict[str, float]) -> Evaluation:
        """Evaluates the model on the test data, and keeps its predictions."""
        data = self.problem.test
        kept = PredictionCollector(self.trained, len(data), thresholds)  # type: ignore[arg-type]
        constant = self.relative_loss.measure(TEST)

        def after_batch(outputs: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> None:
            kept.add(outputs, targets)
            constant.add(outputs, targets)

        try:
            found = self.evaluate(data, thresholds, after_batch)
        except StopRequested:
            self._report("stopped")
            raise
        kept.write(self.predictions_path, data, self.feed.evaluation_indices(data), self.ranks)
        return self.relative_loss.complete(TEST, found, constant)

    # Checks ----------------------------------------------------------------------------------------------------------

    def _check_first_step(self) -> None:
        """Checks after the first step of every attempt what would else fail at the first save, hours later."""
        self.late_changes.refuse_parameters()
        refuse_unreadable(self._state())
        self.reporter.note(self.late_changes.notes())

    def _refuse_step(self, moment: State, step_batches: list[Any]) -> NoReturn:
        """Adds to `moment` all that is needed to repeat this step, and raises NonFinite."""
        own = [self.ranks.take(batch) for batch in self._next_indices(len(step_batches))]
        moment |= {
            "step": self.step, "batches": step_batches, "scale": self.scaler.get_scale(),
            "names": [sample_names(self.problem.train, batch) for batch in own], **states_of(self.step_parts),
        }  # fmt: skip
        self.update.leave_ranks()
        refuse_step(moment, self.diagnose(moment), self.ranks, self.checkpoints)

    def diagnose(self, moment: State) -> Diagnosis | None:
        """Makes the step of `moment` once more. Model and methods must be in their states of that step.

        Returns:
            What was found, or None if the batches, which are those of one rank, have no label.
        """
        return diagnose(self.update, self.tasks, self.generator, moment, self.config.precision)

    def failed_step(self) -> State:
        """Puts model and methods into their states of the step that was refused, and returns its moment.

        Raises:
            ValueError: No step was refused, or it cannot be read.
        """
        moment = self.checkpoints.load_failure()
        restore(self.step_parts, moment)
        return moment

    # Reports ---------------------------------------------------------------------------------------------------------

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.config.precision, self.device)

    def _report(self, event: str, **more: Any) -> None:
        latest, best = self.recorder.latest(), self.validations.best
        self.reporter.report(event, self.step, epoch=self.epoch, latest=latest, best=best, **more)

    def _write_history(self, finished: bool) -> dict[str, Any]:
        info = describe(self.config, self.history_path.parent.name, self.model, self.trained, self.device)
        info |= {"best": self.validations.best, "finished": finished, "attempts": self.attempts}
        info |= {"ranks": self.ranks.size, "relative_to": self.relative_loss.relative_to, "backwards": self.backwards}
        if self.update.gradient_layer is not None:
            info["gradient_layer"] = self.update.gradient_layer
        history = {**self.recorder.history(), "info": info}
        if not self.ranks.rank:
            write_history(self.history_path, history)
        return history

    # Checkpoints -----------------------------------------------------------------------------------------------------

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
        """All that a checkpoint holds: the same on every rank."""
        return {
            "epoch": self.epoch, "batch": self.batch, "step": self.step,
            "identity": run_hash(self.config), "samples": samples(self.problem),
            "attempts": self.attempts, "overflows": self.guard.overflows, "backwards": self.backwards,
            **self.validations.state_dict(), **states_of(self.all_parts), **self.random.state_dict(),
        }  # fmt: skip

    def _restore(self) -> None:
        """Goes to the position of the newest checkpoint, if there is one.

        Raises:
            Unfit: It belongs to another configuration, other data or another model.
        """
        with self.ranks.in_turn():  # rank 0 removes what is broken
            state, self.reporter.notes = self.checkpoints.newest()
        if state is None:
            return
        if state["identity"] != run_hash(self.config):
            raise Unfit(f"{self.checkpoints.folder} holds the checkpoints of another configuration")
        refuse_other_samples(state.get("samples", {}), samples(self.problem))
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.attempts = state["attempts"]
        self.guard.overflows = state.get("overflows", 0)  # older checkpoints lack it
        self.backwards = state.get("backwards", self.step)  # they lack this, too: each step made at least one
        self.validations.load_state_dict(state)
        self.relative_loss.is_left_out = "relative_loss" not in state  # a checkpoint of a version without it
        restore(self.all_parts, state)
        self.reporter.notes += self.random.restore(state, self.step)

    def load_best(self, step: int) -> None:
        """Makes the model what it was after the best validation, at step `step`.

        Raises:
            ValueError: There is no such checkpoint, or it cannot be read.
            Unfit: It holds another model.
        """
        restore(self.model_parts, self.checkpoints.load_best(step))
