"""esd: distributed evolution strategies for networks that go on learning after training."""

__version__ = "0.1.0"
