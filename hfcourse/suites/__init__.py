"""Tables of tasks that are run and averaged together."""
