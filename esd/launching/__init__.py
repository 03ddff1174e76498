"""What starts a training under mpirun, watches it, and starts it again when it dies."""
