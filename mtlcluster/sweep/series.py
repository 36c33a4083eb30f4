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
    validation/mean_loss        the mean of the tasks' losses
    validation/relative_loss    the mean of the tasks' losses, each over that of a constant output, see
                                training/relative_loss.py

With binary tasks also:

    validation/mean_f1, validation/exact_match, validation/hamming_score
                                values over all binary tasks, see training/binary_metrics.py
    validation/<task>/confusion counts [K, 2, 2]: rows are the truth, columns the decision, no before yes
    validation/<task>/threshold if it was chosen on the validation data
"""

TRAIN, VALIDATION, TEST = "train", "validation", "test"  # data
EVALUATIONS = (VALIDATION, TEST)

# Values of an evaluation
LOSS, MEAN_LOSS, RELATIVE_LOSS = "loss", "mean_loss", "relative_loss"
CONFUSION, THRESHOLD = "confusion", "threshold"
MEAN_F1, EXACT_MATCH, HAMMING_SCORE = "mean_f1", "exact_match", "hamming_score"
OVER_BINARY_TASKS = (MEAN_F1, EXACT_MATCH, HAMMING_SCORE)
CELLS = ("true_negatives", "false_positives", "false_negatives", "true_positives")  # of a confusion matrix, row by row

# Series that are not about single tasks
TOTAL_LOSS = "train/total_loss"
VALIDATION_MEAN_LOSS = "validation/mean_loss"
GRADIENT_NORM = "gradient_norm"
TRUNK_RATE, HEADS_RATE = "learning_rate/trunk", "learning_rate/heads"
CONFLICTING_STEPS = "conflicting_steps"
OVER_TASKS = {
    TOTAL_LOSS,
    *(f"{data}/{value}" for data in EVALUATIONS for value in (MEAN_LOSS, RELATIVE_LOSS, *OVER_BINARY_TASKS)),
}

OF_A_PAIR = ("cosine", "norm_ratio")
OF_A_TASK = ("weight", "active", "share", "gradient_weight")


# Making names


def training_loss(task: str) -> str:
    return f"train/{task}/{LOSS}"


def weight(task: str) -> str:
    return f"weight/{task}"


def active(task: str) -> str:
    return f"active/{task}"


def share(task: str) -> str:
    return f"share/{task}"


def gradient_weight(task: str) -> str:
    return f"gradient_weight/{task}"


def cosine(one: str, other: str) -> str:
    return f"cosine/{one}/{other}"


def norm_ratio(one: str, other: str) -> str:
    return f"norm_ratio/{one}/{other}"


def task_value(task: str, value: str) -> str:
    """Names a value of one task in an evaluation, such as `left/loss`."""
    return f"{task}/{value}"


def evaluated(data: str, value: str, task: str = "") -> str:
    """Names the series of a value of an evaluation.

    Args:
        data: `validation` or `test`.
        value: Such as `loss`, `accuracy` or `mean_f1`; or with its task, `left/loss`.
        task: Empty for a value over all tasks, or one that names its task itself.
    """
    return "/".join(filter(None, (data, task, value)))


def confusion_cell(confusion: str, cell: str) -> str:
    """Names one cell of the confusion matrix whose series is `confusion`."""
    return f"{confusion}/{cell}"


# Reading names


def kind(name: str) -> str:
    """The first part of a name, such as `train` or `weight`."""
    return name.partition("/")[0]


def value(name: str) -> str:
    """The last part of a name, such as `accuracy`."""
    return name.rpartition("/")[2]


def tasks(name: str) -> list[str]:
    """The tasks in the name of a series: one, two of a pair, none where the series is over all tasks or of no task."""
    first, *rest = name.split("/")
    if first in OF_A_PAIR:
        return rest
    return rest[:1] if first in OF_A_TASK or len(rest) > 1 else []


def task_and_value(name: str) -> tuple[str, str]:
    """Takes the name of a value of an evaluation apart: `left/loss` is of task `left`, `mean_loss` of the task ""."""
    task, slash, own = name.partition("/")
    return (task, own) if slash else ("", name)


def is_confusion(name: str) -> bool:
    """True if it is the series of a confusion matrix."""
    return kind(name) in EVALUATIONS and name.count("/") == 2 and value(name) == CONFUSION
