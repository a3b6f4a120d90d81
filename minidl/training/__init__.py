"""Fitting, evaluating and predicting; callbacks, metrics and checkpoints."""

from .atomic import write_bytes
from .callbacks import BestCheckpoint, Callback, EarlyStopping, JsonLines
from .checkpoint import load, load_model, save, save_model
from .history import History
from .metrics import Mean, accuracy, confusion_matrix, f1_score, top_k_accuracy
from .trainer import Trainer

__all__ = [
    "BestCheckpoint",
    "Callback",
    "EarlyStopping",
    "History",
    "JsonLines",
    "Mean",
    "Trainer",
    "accuracy",
    "confusion_matrix",
    "f1_score",
    "load",
    "load_model",
    "save",
    "save_model",
    "top_k_accuracy",
    "write_bytes",
]
