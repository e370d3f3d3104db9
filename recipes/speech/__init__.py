"""Self-supervised learning of speech: pretrain a model on sound alone, judge what it has learned."""
