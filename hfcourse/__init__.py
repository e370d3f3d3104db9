"""hfcourse: pretrain, fine-tune, prompt and judge BERT, GPT, seq2seq and speech models.

Importing the package is cheap on purpose: torch and transformers load where they are used.
"""

__version__ = "0.1.0"
