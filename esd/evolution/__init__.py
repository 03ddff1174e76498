"""The mathematics: noise, algorithms, optimizers, shaping, state and records."""
