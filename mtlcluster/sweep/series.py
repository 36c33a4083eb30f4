"""Names of the series of a history: how they are made, and how they are read.

By step (each value is the mean of the steps since the value before):

    train/<task>/loss           the task's loss, NaN where the task was not active
    train/total_loss            the weighted sum that was minimized
    weight/<task>               the weight of the task's loss
    active/<task>               the share of the steps at which the task was active
    share/<task>                the share of a batch that was drawn for the task, if the schedule draws samples
    learning_rate/trunk         the learning rate of the shared parameters
    learning_rate/heads         the learning rate of the heads
    gradient_norm               the norm of the gradient before clipping

By step, where a gradient method looks at the tasks' gradients (before their weights):

    cosine/<task>/<task>        the cosine between two tasks' gradients
    norm_ratio/<task>/<task>    the norm of the first task's gradient over that of the second
    conflicting_steps           the share of the steps at which some cosine is negative
    gradient_weight/<task>      the factor of the task's gradient, on top of the task's weight; absent for methods that
                                give a direction instead

By epoch, of an evaluation on the validation data; those of the test data begin with `test` and have one value:

    validation/<task>/loss
    validation/<task>/<metric>
    validation/mean_loss        the mean over the tasks

With binary tasks also:

    validation/mean_f1, validation/exact_match, validation/hamming_score
                                values over all binary tasks, see training/binary_metrics.py
    validation/<task>/confusion counts [K, 2, 2]: rows are the truth, columns the decision, no before yes
    validation/<task>/threshold if it was chosen on the validation data
"""

TRAIN, VALIDATION, TEST = "train", "validation", "test"
WEIGHT, ACTIVE, SHARE, LEARNING_RATE = "weight", "active", "share", "learning_rate"
COSINE, NORM_RATIO, GRADIENT_WEIGHT = "cosine", "norm_ratio", "gradient_weight"
OF_TASKS = (WEIGHT, ACTIVE, SHARE, COSINE, NORM_RATIO, GRADIENT_WEIGHT)  # kinds whose names are `<kind>/<task>…`

# Values of an evaluation
LOSS, CONFUSION, THRESHOLD = "loss", "confusion", "threshold"
MEAN_LOSS = "mean_loss"
BINARY_VALUES = ("mean_f1", "exact_match", "hamming_score")  # over all binary tasks

# Series that are not about a task
TOTAL_LOSS = "train/total_loss"
VALIDATION_MEAN_LOSS = "validation/mean_loss"
GRADIENT_NORM = "gradient_norm"
LEARNING_RATES = ("learning_rate/trunk", "learning_rate/heads")
CONFLICTING_STEPS = "conflicting_steps"


def name_of(*parts: str) -> str:
    """The name of a series or a value, from the general to the particular.

    Example:
        name_of(COSINE, "left", "right") is "cosine/left/right"; name_of(VALIDATION, "left", LOSS) is
        "validation/left/loss"; name_of("left", LOSS) is "left/loss", a value of an evaluation.
    """
    return "/".join(parts)


def kind_of(name: str) -> str:
    """What a series is about: the first part of its name, such as "train", "cosine" or "gradient_norm"."""
    return name.partition("/")[0]


def tasks_of(name: str) -> tuple[str, ...]:
    """The tasks that a series is about: one, two for a pair of tasks, none for a series about all tasks."""
    kind, *rest = name.split("/")
    if kind in OF_TASKS:
        return tuple(rest)
    return (rest[0],) if kind in (TRAIN, VALIDATION, TEST) and len(rest) > 1 else ()


def task_and_value(value: str) -> tuple[str, str]:
    """Takes the name of a value of an evaluation apart: ("left", "loss") for "left/loss", ("", "mean_loss") for one
    over all tasks.
    """
    task, slash, own = value.partition("/")
    return (task, own) if slash else ("", value)
