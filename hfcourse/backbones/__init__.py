"""What turns text or sound into states: presets from scratch and any transformers model."""
