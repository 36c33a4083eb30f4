"""One optimization step: forwards, the tasks' gradients, and what the gradient method makes of them."""
