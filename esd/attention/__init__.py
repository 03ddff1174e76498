"""What the Reformer remembers with: LSH attention and reversible blocks."""
