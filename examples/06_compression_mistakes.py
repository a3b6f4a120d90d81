"""The classic mistakes of compression, each shown failing and then put right.

    python examples/06_compression_mistakes.py

Read it top to bottom, as a notebook: cells begin with `# %%`. Every mistake is one that people make
with any library; each claim is an assertion, so the file ends only if all of them hold. It takes
some seconds on the 8x8 digits.
"""

# %% A network to work with
from __future__ import annotations

import time

import numpy as np

import minidl
from minidl import compress, data, nn, ops, optim
from minidl.compress import prune
from minidl.data import DataLoader
from minidl.data import transforms as t
from minidl.training import Trainer

minidl.use_backend("numpy")
minidl.manual_seed(0)
train, test = data.split(data.digits(), 0.2, 0, stratify=True)
loader = DataLoader(train, 64, shuffle=True, seed=0, transform=t.ToFloat(16))
tests = DataLoader(test, 500, transform=t.ToFloat(16))


def mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def fit(model: nn.Module, epochs: int) -> float:
    trainer = Trainer(model, optim.Adam(model.parameters(), lr=3e-3))
    trainer.fit(loader, epochs, progress=False)
    return compress.accuracy(model, tests)


model = mlp(256)
right = fit(model, 30)
print(f"the float model: {right:.1%} right, {nn.summary(model, (1, 1, 8, 8)).parameters:,} weights")

# %% 1. Pruning by taking the small weights out of the array
# A boolean index gives the elements that are left as a flat list: the matrix has lost its shape,
# and with it which input and which output each weight belonged to.
weight = model[1].weight.numpy()
small = np.abs(weight) < np.median(np.abs(weight))
left = weight[~small]
print(f"\n1. pruned by indexing: shape {weight.shape} became {left.shape}")
assert left.ndim == 1
try:
    ops.linear(minidl.ones((1, 64)), minidl.tensor(left))
    raise AssertionError("a flat weight multiplied something")
except minidl.errors.MinidlError as error:
    print(f"   and nothing can be multiplied by it: {str(error).splitlines()[0]}")

# A mask keeps the shape; a file then leaves the zeros out, and `sparsify` skips them.
pruned = prune.magnitude(compress.clone(model), 0.5, scope="layer")
masked = compress.accuracy(pruned, tests)
print(f"   masked: shape {pruned[1].weight.shape}, {masked:.1%} right")
assert pruned[1].weight.shape == weight.shape
assert masked > right - 0.05

# %% 2. Applying the mask once
# The next step of the optimizer moves every weight that has a gradient, the pruned ones as well;
# only those of pixels that are blank in all images stay.
revived = compress.clone(model)
with minidl.no_grad():
    kept = minidl.tensor((~small).astype(np.float32))
    revived[1].weight.copy_(revived[1].weight * kept)
before = prune.sparsity(revived)
fit(revived, 1)
after = prune.sparsity(revived)
print(f"\n2. masked once: {before:.0%} zeros, and {after:.0%} after an epoch of training")
assert before > 0.4
assert after < before / 2

# `prune` gives the parameter a constraint that every optimizer applies after its step.
fit(pruned, 1)
print(f"   masked for good: {prune.sparsity(pruned):.0%} zeros after the same epoch")
assert prune.sparsity(pruned) >= 0.5

# %% 3. Expecting a masked network to be faster
# A dense kernel multiplies by zeros as by anything else. Neurons that are gone save time, and so do
# sparse layers where few enough weights are left; `sparsify` measures where.
wide = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024))
x = minidl.randn(64, 1024)
half = prune.magnitude(compress.clone(wide), 0.5)
shrunk = compress.structured.prune_channels(wide, x, 0.5)


def milliseconds(*models: nn.Module) -> list[float]:
    """The shortest of 20 rounds, in turns: the others were disturbed."""
    times = np.empty((20, len(models)))
    with minidl.no_grad():
        for row in times:
            for i, each in enumerate(models):
                start = time.perf_counter()
                each(x)
                row[i] = 1e3 * (time.perf_counter() - start)
    return times.min(0).tolist()


dense_ms, masked_ms, shrunk_ms = milliseconds(wide, half, shrunk)
print(f"\n3. dense {dense_ms:.2f} ms, half of it masked {masked_ms:.2f} ms", end="")
print(f", half of the neurons gone {shrunk_ms:.2f} ms")
counted = [nn.summary(m, x[:1]).multiply_adds for m in (wide, half, shrunk)]
assert counted[0] == counted[1] == 2 * counted[2]

# %% 4. Signed weights in uint8 without a zero point
# Codes from 0 to 255 have no place for what is below 0 unless a zero point says where 0 lies.
scale = np.abs(weight).max() / 255
wrong = np.clip(np.rint(weight / scale), 0, 255) * scale
better = compress.quantize(model[1].weight, "affine").dequantize()
best = compress.quantize(model[1].weight, axis=0).dequantize()
noise = [compress.sqnr(weight, w) for w in (wrong, better, best)]
print(f"\n4. uint8 without a zero point: {noise[0]:.1f} dB; with one: {noise[1]:.1f} dB; int8 for")
print(f"   each output: {noise[2]:.1f} dB")
assert noise[0] < 6 < 30 < noise[1] < noise[2]


def with_weight(values: np.ndarray) -> float:
    twin = compress.clone(model)
    with minidl.no_grad():
        twin[1].weight.copy_(minidl.tensor(values.astype(np.float32)))
    return compress.accuracy(twin, tests)


found = [with_weight(w) for w in (wrong, better.numpy())]
print(f"   which makes {found[0]:.1%} and {found[1]:.1%} right")
assert found[0] < right - 0.05
assert found[1] > right - 0.02

# %% 5. A "distilled" student that never saw its teacher
# Trained on labels alone it is just a small network, whatever it is called. Here the labels are
# useless, all 0: a student that learns something can only have it from the teacher.
images = np.concatenate([x.numpy() for x, _ in loader])
useless = data.ArrayDataset(images, np.zeros(len(images), np.int64))
blind = DataLoader(useless, 64, shuffle=True, seed=0)


def distilled(alpha: float) -> float:
    student = mlp(16)
    distiller = compress.Distiller(
        student, model, optim.Adam(student.parameters(), lr=3e-3), alpha=alpha, temperature=2.0
    )
    distiller.fit(blind, 30, progress=False)
    return compress.accuracy(student, tests)


unseen, seen = distilled(0.0), distilled(1.0)
print(f"\n5. a student without its teacher: {unseen:.1%}; with it: {seen:.1%}")
assert unseen < 0.15
assert seen > 0.9

# %% 6. Forgetting T^2
# Softer targets have smaller differences: the gradient of the soft loss shrinks as 1 / T^2, and the
# hard loss beside it takes over. The factor T^2 keeps the balance at any temperature.
batch, labels = next(iter(tests))
logits = minidl.tensor(mlp(16)(batch).numpy(), requires_grad=True)
taught = minidl.tensor(model(batch).numpy())


def gradient(temperature: float, factor: float) -> float:
    logits.grad = None
    (compress.soft_loss(logits, taught, temperature) * factor).backward()
    return float(np.abs(logits.grad.numpy()).sum())


logits.grad = None
ops.cross_entropy(logits, labels).backward()
hard = float(np.abs(logits.grad.numpy()).sum())
print("\n6. size of the soft loss's gradient beside that of the hard one:")
for temperature in (1.0, 4.0, 16.0):
    forgotten = gradient(temperature, 1 / temperature**2) / hard
    kept_up = gradient(temperature, 1.0) / hard
    print(f"   T = {temperature:4.0f}: {forgotten:.4f} without T^2, {kept_up:.4f} with it")
assert forgotten < 0.02
assert kept_up > 1
print("\nall mistakes failed, and all corrections held")
