from mtlcluster.config.run import Best, EarlyStopping
from mtlcluster.training.best_validation import BestValidation
from mtlcluster.training.validation import Evaluation


def test_early_stopping_counts_small_gains_together():
    """Each validation is better by less than min_delta, but not all of them together."""
    validations, waited = BestValidation(Best(), EarlyStopping(patience=3, min_delta=0.01)), []
    for number in range(6):
        assert validations.observe(Evaluation({"relative_loss": 1 - 0.006 * number}, {}, {}), number + 1, number)
        waited.append(validations.bad_validations)
    assert waited == [0, 1, 0, 1, 0, 1]


def test_it_waits_for_the_patience_to_end_and_keeps_the_best_of_either_direction():
    validations = BestValidation(Best(value="a/accuracy", direction="max"), EarlyStopping(patience=2))
    numbers, better, over = [0.5, 0.7, 0.6, 0.7, 0.9], [], []
    for number in numbers:
        better.append(validations.observe(Evaluation({"a/accuracy": number}, {}, {}), 1, 1))
        over.append(validations.is_out_of_patience())
    assert better == [True, True, False, False, True]
    assert over == [False, False, False, True, False]
