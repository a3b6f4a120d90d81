"""Distillation: a small student learns from a large teacher what the labels alone do not say.

A teacher that gives a shirt 70 % and a pullover 25 % knows more than the label "shirt". The student
learns the teacher's whole distribution, made softer by a temperature (Hinton, Vinyals & Dean 2015,
arXiv:1503.02531), and may imitate layers on the way (Romero et al. 2015, arXiv:1412.6550; Zagoruyko
& Komodakis 2017, arXiv:1612.03928).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .. import ops
from ..engine.graph import mismatch
from ..engine.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from ..nn import Module
from ..ops import check
from ..optim import Optimizer
from ..training import Callback, Trainer
from .models import in_use

Loss = Callable[[Any, Tensor], Tensor]


def soft_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch.

    Its gradient by the student's logits is T (p_student - p_teacher) / N. The difference of the two
    softened distributions shrinks as 1 / T, so the factor T^2 keeps the gradient's size, and with
    it the balance with the hard loss, whatever T is. The teacher's side is a constant.
    Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 2 and 2.1.
    Shapes: both (N, C) logits. Raises: ShapeError, DTypeError, ArgumentError.

    >>> import minidl
    >>> logits = minidl.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> soft_loss(logits, logits).item()
    0.0
    >>> soft_loss(logits, -logits, 1.0).item() > 0
    True
    """
    t = check.number("soft_loss", "temperature", temperature, 0, above=True)
    check.floating("soft_loss", student=student, teacher=teacher)
    if student.ndim != 2:
        raise ShapeError(f"soft_loss: student must be logits (N, C), got {student.shape}")
    check.shape_is("soft_loss", "teacher", teacher, student.shape)
    wanted = ops.log_softmax(teacher.detach() * (1 / t), 1)
    given = ops.log_softmax(student * (1 / t), 1)
    return ops.kl_div(given, wanted, "batchmean", log_target=True) * (t * t)


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two layers' outputs; the teacher's is a constant.

    Source: Romero et al. (2015), arXiv:1412.6550, equation 3; the regressor there is the
    `projection` of a `Hint`. Shapes: both alike. Raises: ShapeError, DTypeError.

    >>> import minidl
    >>> hint_loss(minidl.tensor([1.0, 2.0]), minidl.tensor([1.0, 4.0])).item()
    2.0
    """
    return ops.mse_loss(student, teacher.detach())


def attention_map(x: Tensor) -> Tensor:
    """Where a layer looks: the sum of squares over channels, scaled to length 1 for each sample.

    Source: Zagoruyko & Komodakis (2017), arXiv:1612.03928, section 3.1 (F_sum with p = 2) and
    equation 2. A sample of zeros has a map of zeros.
    Shapes: x (N, C, H, W) -> (N, H W). Raises: ShapeError, DTypeError.

    >>> import minidl
    >>> attention_map(minidl.tensor([[[[3.0, 0.0]], [[0.0, 2.0]]]]))
    Tensor([[0.9138, 0.4061]])
    """
    check.floating("attention_map", x=x)
    if x.ndim != 4:
        raise ShapeError(f"attention_map: x must be (N, C, H, W), got {x.shape}")
    energy = ops.flatten((x * x).sum(1), 1)
    length = (energy * energy).sum(1, keepdims=True)
    empty = length == 0
    return energy / ops.where(empty, 1.0, length).sqrt()


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of two attention maps, the mean over the batch; the channels may differ.

    Source: Zagoruyko & Komodakis (2017), arXiv:1612.03928, equation 2, squared.
    Shapes: student (N, C, H, W), teacher (N, K, H, W). Raises: ShapeError, DTypeError.

    >>> import minidl
    >>> x = minidl.randn(2, 3, 4, 4)
    >>> attention_loss(x, minidl.ops.concatenate([x, x], 1)).item() < 1e-10
    True
    """
    ours, theirs = attention_map(student), attention_map(teacher.detach())
    if ours.shape != theirs.shape:
        raise ShapeError(
            f"attention_loss: student {student.shape} and teacher {teacher.shape} must have the"
            " same N, H and W. Compare layers of the same resolution."
        )
    difference = ours - theirs
    return (difference * difference).sum() / max(len(student), 1)


@dataclass(frozen=True)
class Hint:
    """A layer of the student that imitates a layer of the teacher.

    student, teacher: dotted names of modules whose outputs are compared. loss: "hint" (mean
    squared difference) or "attention" (attention maps). weight: its factor in the sum. projection:
    a module between the student's output and the comparison, such as `nn.Conv2d(8, 64, 1)` where
    the widths differ; it learns too, so give its parameters to the optimizer.
    """

    student: str
    teacher: str
    loss: str = "hint"
    weight: float = 1.0
    projection: Module | None = None

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss for the outputs of both layers."""
        ours = student if self.projection is None else self.projection(student)
        if self.loss == "attention":
            return attention_loss(ours, teacher) * self.weight
        if ours.shape != teacher.shape:
            raise ShapeError(
                f"Hint: {self.student!r} gives {student.shape}, {self.teacher!r} {teacher.shape};"
                " pass projection=, a layer that maps the one to the other, such as nn.Conv2d("
                "channels, channels of the teacher, 1), and give its parameters to the optimizer"
            )
        return hint_loss(ours, teacher) * self.weight


class Distiller(Trainer):
    """A Trainer whose model is a student: it also learns what a teacher makes of each batch.

    It minimises (1 - alpha) loss(student, target) + alpha soft_loss(student, teacher) + hints.
    loss is the hard loss. The teacher is a constant: it runs unrecorded and in eval mode, whatever
    mode it is in, and it is an error if the optimizer holds one of its parameters. evaluate and
    the other arguments are the Trainer's.
    Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 2.
    Raises: ArgumentError if the optimizer does not hold the student (and the projections of its
    hints), or holds the teacher, or both are one model; if alpha is not from 0 to 1, or a hint
    names no module; BackendMismatch if they live on different backends.

    >>> import minidl, numpy as np
    >>> from minidl import nn, optim
    >>> teacher, student = nn.Linear(4, 3), nn.Linear(4, 3)
    >>> adam = optim.Adam(student.parameters(), lr=0.1)
    >>> distiller = Distiller(student, teacher, adam, alpha=1.0)
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> history = distiller.fit((x, np.zeros(64, int)), epochs=60, progress=False)
    >>> history[-1]["loss"] < 0.01 * history[0]["loss"]
    True
    """

    def __init__(
        self, student: Module, teacher: Module, optimizer: Optimizer,
        loss: Loss = ops.cross_entropy, *, temperature: float = 4.0, alpha: float = 0.9,
        hints: Sequence[Hint] = (), **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(student, optimizer, loss, **options)
        check.instance("Distiller", "teacher", teacher, Module)
        self.teacher, self.hints = teacher, tuple(hints)
        self.temperature = check.number("Distiller", "temperature", temperature, 0, above=True)
        self.alpha = check.number("Distiller", "alpha", alpha, 0, 1)
        self._check_learners()
        for hint in self.hints:
            check.instance("Distiller", "a hint", hint, Hint)
            check.choice("Distiller", "loss of a hint", hint.loss, ("hint", "attention"))
            for model, path, whose in (
                (student, hint.student, "student"), (teacher, hint.teacher, "teacher"),
            ):  # fmt: skip
                if path not in (known := dict(model.named_modules())):
                    raise ArgumentError(
                        f"Distiller: the {whose} has no module {path!r}; it has {sorted(known)}"
                    )
        projections = [hint.projection for hint in self.hints if hint.projection is not None]
        if projections:
            self.callbacks.append(_Remember(projections))

    def _check_learners(self) -> None:
        """The student learns, with the projections; the teacher does not."""
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        constant = {id(p) for p in self.teacher.parameters()}
        for what, module in (("student", self.model), *(
            (f"projection of {hint.student!r}", hint.projection) for hint in self.hints
        )):  # fmt: skip
            learned = [] if module is None else [p for p in module.parameters() if p.requires_grad]
            if any(id(p) in constant for p in learned):
                raise ArgumentError(
                    f"Distiller: the {what} shares parameters with the teacher, which would then"
                    " change as it teaches. Make one with compress.clone(model)."
                )
            if any(id(p) not in held for p in learned):
                raise ArgumentError(
                    f"Distiller: the optimizer does not hold the parameters of the {what}, so they"
                    " would not learn. Make it with all of them: optim.Adam([*student.parameters(),"
                    " *hint.projection.parameters()])."
                )
        if held & constant:
            raise ArgumentError(
                "Distiller: the optimizer holds parameters of the teacher, which must stay as it"
                " is. Make it with student.parameters()."
            )
        ours, theirs = (next(m.parameters(), None) for m in (self.model, self.teacher))
        if ours is not None and theirs is not None and ours.backend is not theirs.backend:
            raise mismatch("Distiller", ours.backend.name, theirs.backend.name)

    def objective(self, inputs: Sequence[Tensor], target: Tensor) -> tuple[Tensor, Any]:
        """The weighted sum of hard, soft and hint losses on a batch, and the student's output."""
        with (
            in_use(self.teacher),
            _outputs(self.teacher, [h.teacher for h in self.hints]) as wanted,
        ):
            taught = self.teacher(*inputs)
        with _outputs(self.model, [h.student for h in self.hints]) as given:
            output = self.model(*inputs)
        loss = soft_loss(output, taught, self.temperature) * self.alpha
        if self.alpha < 1:
            loss = loss + self.loss(output, target) * (1 - self.alpha)
        for hint in self.hints:
            loss = loss + hint(given[hint.student], wanted[hint.teacher])
        return loss, output


class _Remember(Callback):
    """Keeps the projections in the training's checkpoint: they are not part of the student."""

    def __init__(self, projections: Sequence[Module]) -> None:
        self.projections = projections

    def state_dict(self) -> dict[str, Any]:
        tensors = {
            f"{i}.{name}": x
            for i, module in enumerate(self.projections)
            for name, x in module.state_dict().items()
        }
        return {"settings": {}, "tensors": tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for i, module in enumerate(self.projections):
            own = {k.partition(".")[2]: x for k, x in state["tensors"].items()
                   if k.partition(".")[0] == str(i)}  # fmt: skip
            module.load_state_dict(own)


@contextmanager
def _outputs(model: Module, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the modules at paths return while the model runs."""
    every = dict(model.named_modules())
    found: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[[Any, Any, Tensor], None]:
        return lambda module, args, result: found.update({path: result})

    removes = [every[path].register_forward_hook(keep(path)) for path in dict.fromkeys(paths)]
    try:
        yield found
    finally:
        for remove in removes:
            remove()
