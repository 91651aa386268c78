"""What a user would run instead, written as its users write it: contestants of the benchmarks, in PyTorch."""
