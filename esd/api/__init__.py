"""The public Python API; ``esd`` itself offers its names."""
