"""Self-supervised learning of text: pretrain a BERT, fine-tune it, see why it works."""
