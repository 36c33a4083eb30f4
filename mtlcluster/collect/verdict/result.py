"""What a verdict says, as data. The page shows it, and verdict.json holds it for programs."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Baseline:
    """The baseline of one task: every other value of the task is relative to it.

    Attributes:
        run_hashes: The runs that it is the mean of.
        mean: By leading metric: the mean over these runs.
        sd: By leading metric: their standard deviation; NaN for a single run.
    """

    run_hashes: list[str]
    mean: dict[str, float]
    sd: dict[str, float]


@dataclass(frozen=True)
class Versus:
    """A method compared with the reference.

    Attributes:
        difference: In points of z; positive is better than the reference.
        low, high: The interval: simultaneous 95 % over all comparisons; NaN where there is none.
        half_seeds: The seeds' part of half the interval.
        half_samples: The part of the test data's own error; None where it is left out.
        p_better: The estimated probability that a run of the method is better than the reference's with the same seed.
        words: "better", "worse", "the same within δ", "not told apart" or "not tested".
    """

    difference: float
    low: float
    high: float
    half_seeds: float
    half_samples: float | None
    p_better: float
    words: str


@dataclass(frozen=True)
class FrontPoint:
    """One setting of the static weights.

    Attributes:
        name: Such as "static trial 3".
        values: Its values, by dotted key.
        validation, test: The mean task value of each task, in points; empty without such data.
        on_front: True if no other static weights are better on all tasks of the data that the verdict is from.
    """

    name: str
    values: dict[str, Any]
    validation: dict[str, float]
    test: dict[str, float]
    on_front: bool


@dataclass(frozen=True)
class Beaten:
    """How a method stands to the front of the static weights, over seeds that both have.

    Attributes:
        on_validation: How many static weights beat it on all tasks on the validation data.
        again_on_test: How many of these do so on the test data, too.
        place: "below", "on" or "above" the front; "on": fixed weights do the same.
    """

    on_validation: int
    again_on_test: int
    place: str


@dataclass(frozen=True)
class Front:
    """The trade-offs that static weights offer.

    Attributes:
        tasks: The tasks.
        points: The settings of the static weights that were tried.
        methods: The methods that are held against them, by name.
        sentences: What it says, in words.
    """

    tasks: list[str]
    points: list[FrontPoint]
    methods: dict[str, Beaten]
    sentences: list[str]


@dataclass(frozen=True)
class MethodResult:
    """A row of the main table: a method with its chosen setting; without a search, a setting of the grid.

    Attributes:
        name: The method's name, or the setting's label.
        single: True for single-task training, which is a reference and takes no part in the comparison.
        chosen: The number of the chosen trial; None without a search, or where nothing is chosen yet.
        values: The values of the chosen setting, by dotted key.
        n: The number of seeds that count.
        z: The mean over seeds; NaN if there is none.
        z_by_seed: z of each seed.
        per_task: The mean task value of each task, in points.
        per_task_by_seed: The task value of each seed, by task.
        leading: Mean and standard deviation over the seeds of each leading metric, by "task/metric".
        trials: The number of trials.
        seeds: The number of tuning seeds of each trial.
        backwards: Backward passes that were really spent, by all trials and confirming runs.
        seconds: Seconds of training, likewise.
        failed, pruned: The numbers of such runs.
        versus_reference: None for the reference itself and where nothing is compared.
        in_best_group: True if it is not told apart from the best; also where no method is told apart.
        missing: Why it takes no part in the comparison, such as "2 of 5 confirming runs have not ended"; else "".
        worst_put_in: The seeds whose run failed: the worst z of any finished run with that seed stands for them in z.
        expected_best: The expected best value of its search with as many trials as the method with the fewest has,
            in the unit of `tune.value`; None without a search, or where the trials are not random.
    """

    name: str
    single: bool = False
    chosen: int | None = None
    values: dict[str, Any] = field(default_factory=dict)
    n: int = 0
    z: float = float("nan")
    z_by_seed: dict[int, float] = field(default_factory=dict)
    per_task: dict[str, float] = field(default_factory=dict)
    per_task_by_seed: dict[str, dict[int, float]] = field(default_factory=dict)
    leading: dict[str, tuple[float, float]] = field(default_factory=dict)
    trials: int = 1
    seeds: int = 0
    backwards: int = 0
    seconds: float = 0.0
    failed: int = 0
    pruned: int = 0
    versus_reference: Versus | None = None
    in_best_group: bool = False
    missing: str = ""
    worst_put_in: list[int] = field(default_factory=list)
    expected_best: float | None = None


@dataclass(frozen=True)
class Verdict:
    """The verdict of a sweep.

    Attributes:
        complete: False while confirming runs have not ended. Then nothing is in bold.
        tuned: True if the settings were chosen by a search of the grid (`tune`).
        fresh_seeds: True if the chosen settings were trained with seeds that took no part in the choice.
        data: "test" or "validation": the data that the values are from.
        seeds: The seeds that all compared methods have.
        reference: The name of the method that the others are compared with; None if there is none.
        relative_to: "single-task training", "the plain sum" or "" where z could not be made.
        baseline: The baseline of each task.
        methods: The rows of the main table: single-task training first, then the reference, then by z.
        best_group: The names of all methods that are not told apart from the best; all where none is told apart.
        strict: True if `best_group` leaves out a compared method: only then it is shown in bold.
        better, worse: The names of the methods that are better, or worse, than the reference.
        smallest_difference: The smallest difference, in points of z, that these seeds could tell.
        seeds_needed: How many seeds the difference between the best and the next would take; None if unknown.
        p_range: The p-value of the permutation test that all methods are equal; None where it can't reject.
        delta: Differences below it are too small to matter.
        test: "pooled" (Dunnett and Tukey), "paired" (paired t with Holm, for noisy methods) or "none".
        missing: What is asked for, such as a tuned plain sum, each with the lines to add to the grid.
        sentences: The verdict in words, three to six sentences.
        warnings: What limits the verdict, such as a noisy method.
        value: The validation value that chose the settings; "" if the runs differ in it.
        front: The trade-offs of the static weights; None with fewer than eight of them.
    """

    complete: bool
    tuned: bool
    fresh_seeds: bool
    data: str
    seeds: list[int]
    reference: str | None
    relative_to: str
    baseline: dict[str, Baseline]
    methods: list[MethodResult]
    best_group: list[str]
    strict: bool
    better: list[str]
    worse: list[str]
    smallest_difference: float
    seeds_needed: int | None
    p_range: float | None
    delta: float
    test: str = "none"
    missing: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    value: str = ""
    front: Front | None = None
