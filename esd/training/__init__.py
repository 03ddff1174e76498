"""What a training call does: its plan, the loop, and what rank 0 keeps."""
