"""The only training loop (on accelerate): fit, evaluate, checkpoint, optim, progress."""
