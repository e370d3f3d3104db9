"""Language models that write: pretrain a GPT, let it go on with a text."""
