"""From gradients to new parameters: optimizers, learning-rate schedules, gradient clipping."""

from .adagrad import Adagrad
from .adam import Adam, AdamW
from .clip import clip_grad_norm_, clip_grad_value_
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearWarmup,
    OneCycleLR,
    Scheduler,
    StepLR,
)
from .sgd import SGD

__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "CosineAnnealingLR", "LambdaLR", "LinearWarmup",
    "OneCycleLR", "Optimizer", "RMSprop", "Scheduler", "StepLR", "clip_grad_norm_",
    "clip_grad_value_",
]  # fmt: skip
