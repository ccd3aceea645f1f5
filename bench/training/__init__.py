"""The one training loop (``loop``), what it keeps of each seed (``member``), how several seeds take a step together
(``ensemble``), and how a GPU replays it (``recording``)."""

from bench.training.loop import Outcome, Trainer, Training, save_state

__all__ = ["Outcome", "Trainer", "Training", "save_state"]
