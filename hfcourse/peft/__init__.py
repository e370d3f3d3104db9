"""Parameter-efficient fine-tuning under the peft library's interface."""
