"""Parameter-efficient fine-tuning under the `peft` library's own interface: our methods beside its own."""
