"""Dataset builders: one file a dataset, reading the raw files a user has."""
