"""The shared task heads: each turns a backbone's states into a loss and an answer."""
