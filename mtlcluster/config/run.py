"""The configuration of one run: its keys, how it is read, and its identity."""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from mtlcluster.config.job_file import JobFile, find_job
from mtlcluster.config.units import Duration, GpuType, Line, Size
from mtlcluster.config.yaml_file import YamlFile
from mtlcluster.defaults import CHANGED, FIRST, NEWEST, defaults_before, first_defaults
from mtlcluster.errors import UserError, nearest, shown
from mtlcluster.methods.catalog import check_method, named_tasks, placed_method, sparse_method
from mtlcluster.methods.combinations import refuse_compiled
from mtlcluster.pydantic_errors import Checked, first_mistake
from mtlcluster.sweep import names
from mtlcluster.sweep.folder import Sweep


class GroupOptions(Checked):
    """Options of the trunk or of the heads alone. None: as in `optimizer`."""

    lr: float | None = Field(default=None, ge=0)
    weight_decay: float | None = Field(default=None, ge=0)


class Groups(Checked):
    """The optimizer's groups of parameters."""

    trunk: GroupOptions = GroupOptions()
    heads: GroupOptions = GroupOptions()


class Optimizer(Checked):
    """The optimizer. The comment after an option names the optimizers that use it."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)  # never on biases and norms
    momentum: float = Field(default=0.9, ge=0, lt=1)  # sgd
    betas: list[float] = Field(default=[0.9, 0.999], min_length=2, max_length=2)  # adam, adamw
    groups: Groups = Groups()


class Scheduler(Checked):
    """The learning-rate schedule. `warmup` and `every` are shares of the whole training."""

    name: Literal["constant", "cosine", "step", "plateau"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    every: float = Field(default=0.33, gt=0, le=1)  # step: after each such share, `factor` multiplies the rate
    factor: float = Field(default=0.1, gt=0, lt=1)  # step, plateau
    patience: int = Field(default=3, ge=1)  # plateau: validations without a better `best` value


class Best(Checked):
    """The validation value that decides which checkpoint is the best.

    `value` is `relative_loss`, `mean_loss`, `<task>/loss` or `<task>/<metric>`. `relative_loss` is the mean over tasks
    of the loss over that of a constant output; in `mean_loss` the task with the largest loss decides. If there are
    binary tasks, it may also be `mean_f1`, `exact_match` or `hamming_score`; for these, `direction` should be max.
    """

    value: str = "relative_loss"
    direction: Literal["min", "max"] = "min"


class EarlyStopping(Checked):
    """Ends a run before its last epoch, when the `best` value does not get better any more."""

    patience: int = Field(ge=1)  # validations without a better `best` value
    min_delta: float = Field(default=0.0, ge=0)  # a value that is better by no more than this does not count as better


class Gpus(Checked):
    """GPUs of one type."""

    type: GpuType
    count: int = Field(gt=0)


class Resources(Checked):
    """The resources that one run needs on each of its nodes. They are not part of its identity."""

    nodes: int = Field(default=1, ge=1)
    gpus: Annotated[int, Field(ge=0)] | Gpus = 0  # a count, or a type and a count
    cpus: int = Field(default=1, ge=1)
    memory: Size = "2G"
    time: Duration = "1h"
    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None

    @pydantic.field_validator("gpus", mode="wrap")
    @classmethod
    def _either_form(cls, value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> int | Gpus:
        try:
            gpus: int | Gpus = check(value)
        except pydantic.ValidationError:  # its message would tell one mistake for each form
            forms = "a count, such as 2, or a type and a count, such as {type: a100, count: 2}"
            raise ValueError(f"should be {forms}, found {shown(value)}") from None
        return gpus

    @property
    def gpu_count(self) -> int:
        return self.gpus.count if isinstance(self.gpus, Gpus) else self.gpus

    @property
    def gpu_type(self) -> str | None:
        """None: any type."""
        return self.gpus.type if isinstance(self.gpus, Gpus) else None

    @property
    def ranks(self) -> int:
        """The number of processes that train the run together: one per GPU, or one per node without GPUs."""
        return self.nodes * max(1, self.gpu_count)


class RunConfig(Checked):
    """One run, with every default filled in. `method` has its full form: three slots, each with name and options.

    The validation context {"defaults": version} fills in the defaults of an older version.
    """

    job: str = Field(min_length=1)
    data: dict[str, Any] = {}
    model: dict[str, Any] = {}
    tasks: list[str] | None = Field(default=None, min_length=1)
    method: dict[str, dict[str, Any]] = Field(default="equal", validate_default=True)
    seed: int = Field(default=0, ge=0, lt=2**63)
    epochs: int | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)  # instead of epochs
    batch_size: int = Field(default=64, gt=0)  # of one forward pass; an optimizer step takes `accumulate` batches
    last_batch: Literal["keep", "drop"] = "keep"  # the last batch of an epoch, if it is smaller than the others
    optimizer: Optimizer = Optimizer()
    scheduler: Scheduler = Scheduler()
    gradient_clip: float | None = Field(default=1.0, gt=0)
    accumulate: int = Field(default=1, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    deterministic: bool = False
    best: Best = Best()
    early_stopping: EarlyStopping | None = None
    validate_every: int = Field(default=1, gt=0)  # epochs
    checkpoint_every: Duration = "10m"
    resources: Resources = Resources()

    @pydantic.field_validator("method", mode="before")
    @classmethod
    def _full_method(cls, value: Any, info: pydantic.ValidationInfo) -> dict[str, dict[str, Any]]:
        method, tasks = check_method(value, _version(info)), info.data.get("tasks") or []
        for name in named_tasks(method):
            if tasks and name not in tasks:
                raise ValueError(f"method names the task '{name}', which is not in tasks{nearest(name, tasks)}")
        return method

    @pydantic.field_validator("compile")
    @classmethod
    def _compiled_method(cls, value: bool, info: pydantic.ValidationInfo) -> bool:
        if value and "method" in info.data:
            refuse_compiled(info.data["method"])
        return value

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any, info: pydantic.ValidationInfo) -> Any:
        """Fills in the length, and the defaults of an older version."""
        if not isinstance(values, dict):
            return values
        if values.get("epochs") is None and values.get("steps") is None:
            values = {**values, "epochs": 20}
        for section in CHANGED.keys() & cls.model_fields.keys():
            given = values.get(section, {})
            if isinstance(given, dict) and (older := defaults_before(section, _version(info))):
                values = {**values, section: {**older, **given}}
        return values

    @pydantic.model_validator(mode="after")
    def _agree(self) -> "RunConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give either epochs or steps, not both")
        if self.tasks is not None and len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks names the same task twice: {', '.join(self.tasks)}")
        return self


def _version(info: pydantic.ValidationInfo) -> int:
    """The version of the defaults to fill in."""
    version: int = (info.context or {}).get("defaults", NEWEST)
    return version


class Origin(Checked):
    """The sweep, the code and the cluster of a run."""

    sweep: str
    code: str  # the hash in the name of its folder code/<hash>/
    cluster: str
    varied: dict[str, Any]  # the values that the grid varied, by dotted key

    @pydantic.field_validator("code")
    @classmethod
    def _inside_code(cls, code: str) -> str:
        if not names.fits(names.SWEEP, code):
            raise ValueError(f"should be the name of a folder in code/, found {shown(code)}")
        return code


class SweepRunConfig(RunConfig):
    """config.yaml of a run in a sweep folder."""

    origin: Origin


NOT_IDENTITY = {"resources", "checkpoint_every", "origin"}
PLACED = {"data", "model"}  # their options may be paths


def run_hash(config: RunConfig) -> str:
    """The identity of a run: a hash of all options that decide its result, as ten hexadecimal digits.

    Options that have their first default are left out. So a new option with a neutral default changes no identity, and
    a changed default does (see defaults.py). Only the last part of a path counts: the same file in another folder is
    the same data.
    """
    decisive = config.model_dump(exclude=NOT_IDENTITY, exclude_defaults=True)
    for section in CHANGED.keys() & RunConfig.model_fields.keys():
        chosen, first = getattr(config, section).model_dump(), first_defaults(section)
        others = {key: value for key, value in decisive.pop(section, {}).items() if key not in first}
        if others := others | {key: chosen[key] for key in first if chosen[key] != first[key]}:
            decisive[section] = others
    decisive["method"] = sparse_method(config.method)
    decisive["epochs"], decisive["steps"] = config.epochs, config.steps
    decisive.setdefault("data", {})
    for section in PLACED & decisive.keys():
        decisive[section] = {key: without_place(value) for key, value in decisive[section].items()}
    text = json.dumps(decisive, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def without_place(value: Any) -> Any:
    """Keeps only the last part of every path in an option or in a list of options."""
    if isinstance(value, list):
        return [without_place(inner) for inner in value]
    return Path(value).name if is_path(value) else value


def is_path(value: Any) -> bool:
    """True if an option is a path: it begins with /, ~, ./, ../ or $."""
    return isinstance(value, str) and value.startswith(("/", "~", "./", "../", "$"))


def placed(value: Any, folder: Path) -> Any:
    """Makes paths absolute that begin with ./ or ../, because jobs run in another folder.

    Args:
        value: An option, a list of options, or a section.
        folder: The folder of the file that holds `value`. The paths are relative to it.

    Returns:
        The same with absolute paths.
    """
    if isinstance(value, list):
        return [placed(inner, folder) for inner in value]
    if isinstance(value, dict):
        return {key: placed(inner, folder) for key, inner in value.items()}
    if isinstance(value, str) and value.startswith(("./", "../")):
        return os.path.normpath(folder.absolute() / value)
    return value


def read_run_config(path: Path, version: int = NEWEST) -> RunConfig:
    """Reads the configuration of one run: a user's file, or config.yaml in a sweep folder.

    The paths of the user's own methods are relative to the folder of the user's file. In a sweep they are relative to
    the run's folder code/<hash>/.

    Args:
        path: The file.
        version: The version of the defaults for what a user's file leaves out.

    Raises:
        UserError: The file is missing, is a grid, or has a mistake. The message names file and line.
    """
    return _checked(YamlFile(path), version)


def read_sweep_run_config(path: Path) -> SweepRunConfig:
    """Reads config.yaml of a sweep's run.

    Raises:
        UserError: See `read_run_config`; also if the run belongs to no sweep.
    """
    config = read_run_config(path)
    if not isinstance(config, SweepRunConfig):
        raise UserError(f"{path}: there is no key 'origin', so this is not a run of a sweep")
    return config


def read_run_and_job(path: Path, version: int = NEWEST) -> tuple[RunConfig, JobFile]:
    """Reads the configuration of one run and finds its job.

    Args:
        path: The file.
        version: See `read_run_config`.

    Raises:
        UserError: See `read_run_config`; also if the job is missing, or does not know an option of `data` or `model`.
    """
    file = YamlFile(path)
    config = _checked(file, version)
    job = find_job(config.job, path.parent)
    if mistake := job.first_mistake(config.data, config.model):
        file.refuse(*mistake)
    return config, job


def _checked(file: YamlFile, version: int) -> RunConfig:
    if "grid" in file.data:
        raise UserError(
            f"{file.path}: this is a grid, not the configuration of one run; train it with `mtlcluster submit`"
        )
    folder = file.path.parent
    model = SweepRunConfig if "origin" in file.data else RunConfig
    # config.yaml of a sweep holds every option. One that is missing was not there when the run was submitted.
    version = FIRST if "origin" in file.data else version
    sections = {section: placed(file.data[section], folder) for section in PLACED & file.data.keys()}
    if "method" in file.data:
        origin = file.data.get("origin")
        code = origin.get("code") if isinstance(origin, dict) else None
        home = folder if code is None else Sweep(folder.parent).code / str(code)
        sections["method"] = placed_method(file.data["method"], home)
    try:
        return model.model_validate(file.data | sections, context={"defaults": version})
    except pydantic.ValidationError as error:
        file.refuse(*first_mistake(error, model))
