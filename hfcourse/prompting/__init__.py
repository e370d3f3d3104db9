"""Language models asked by prompts: templates, draws of examples, and how likely a model finds each answer."""
