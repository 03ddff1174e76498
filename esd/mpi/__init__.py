"""What crosses between ranks: scalars, and nothing else (law 3)."""
