"""The watch's compiled loop, and where everything stands in its memory."""
