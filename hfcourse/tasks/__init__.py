"""What is learned: labels + head + metric. One file a kind of task; members of a kind are rows of data."""
