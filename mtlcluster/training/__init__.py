"""One run: the training-validation loop, validation, exact resume, and the history of it all."""
