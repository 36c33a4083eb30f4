"""One run: the training-validation loop, validation, exact resume, and the history of it all.

train, own_loop, commands/              ways to start: from Python, in a user's own loop, as a process
trainer                                 the loop
gradients/                              one step: forwards, the tasks' gradients, the gradient method
optimizer, callbacks, reporter          learning rate; asking whether to stop; reporting progress
batches, data_feed, batch_check         the order of the samples; the batches of a run; refusing broken batches
validation, evaluator, best_validation  losses and metrics on validation data; the best epoch, early stopping
metrics, binary_metrics                 computing the metrics that a Task has (problem.py says which)
recorder, info                          what goes into history.pkl
resume/                                 checkpoints, and all state that they hold
nonfinite/                              steps and validations that are not finite: refusing and explaining them
early_checks, late_changes              mistakes that can be found before the first step, or after it
distributed, seeding, loader_sockets    several processes; random generators; names of the loaders' sockets
error_place                             an error as one line with the place in the user's code
"""
