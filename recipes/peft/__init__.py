"""Parameter-efficient fine-tuning: its methods beside each other."""
