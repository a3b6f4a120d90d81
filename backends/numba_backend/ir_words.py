"""The words that intrinsics are written in: vectors of one element type, in LLVM IR."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils as cgutils_untyped

cgutils: Any = cgutils_untyped

INT = ir.IntType(64)
_INDEX = ir.IntType(32)

# What LLVM calls the vector registers of a processor.
_REGISTER = {"x86_64": "v", "amd64": "v", "aarch64": "w", "arm64": "w"}.get(
    platform.machine().lower()
)


def number(value: int) -> Any:
    """A constant of the type that offsets and counts have."""
    return ir.Constant(INT, value)


class Words:
    """Loads, stores and arithmetic on vectors of `lanes` elements of a Numba dtype."""

    def __init__(self, context: Any, builder: Any, dtype: Any, vector_bytes: int) -> None:
        self.context, self.builder = context, builder
        self.element = context.get_data_type(dtype)
        self.size = context.get_abi_sizeof(self.element)
        self.lanes = vector_bytes // self.size
        self.vector = ir.VectorType(self.element, self.lanes)
        self.zero = ir.Constant(self.vector, None)

    def data(self, kind: Any, array: Any, at: Any) -> Any:
        """The address of element `at` of an array argument."""
        start = self.context.make_array(kind)(self.context, self.builder, array).data
        return self.builder.gep(start, [at])

    def at(self, base: Any, i: Any, kind: Any) -> Any:
        """The address of element i from base on, as one of a vector or of what kind says."""
        return self.builder.bitcast(self.builder.gep(base, [i]), kind.as_pointer())

    def load(self, base: Any, i: Any, kind: Any = None) -> Any:
        value = self.builder.load(self.at(base, i, kind or self.vector))
        value.align = self.size  # arrays are aligned to their elements, not to vectors
        return value

    def store(self, value: Any, base: Any, i: Any) -> None:
        self.builder.store(value, self.at(base, i, value.type)).align = self.size

    def spread(self, x: Any) -> Any:
        """A vector of which every element is x."""
        undefined = ir.Constant(ir.VectorType(x.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, x, ir.Constant(_INDEX, 0))
        return self.shuffle(first, undefined, [0] * self.lanes)

    def shuffle(self, first: Any, second: Any, chosen: list[int]) -> Any:
        """The chosen elements of two vectors side by side."""
        mask = ir.Constant(ir.VectorType(_INDEX, len(chosen)), chosen)
        return self.builder.shuffle_vector(first, second, mask)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c of vectors, or of single elements."""
        kind = ir.FunctionType(a.type, [a.type] * 3)
        lanes = f"v{self.lanes}" if a.type == self.vector else ""
        name = f"llvm.fmuladd.{lanes}f{8 * self.size}"
        return self.builder.call(self.builder.module.declare_intrinsic(name, (), kind), [a, b, c])

    def in_order(self, values: list[Any]) -> list[Any]:
        """The same values, which are computed before what comes after this point is begun.

        LLVM's scheduler may want to begin with all loads of a tile, or with all sums of one
        column; it then has more values than registers, and keeps them in memory (a third of the
        speed). An empty piece of assembly that "changes" the values holds it to the order written.
        """
        if _REGISTER is None or len(values) < 2 or self.lanes * self.size < 16:
            return values  # a vector of 8 bytes has no register of its own
        kind = ir.LiteralStructType([self.vector] * len(values))
        outputs = [f"={_REGISTER}"] * len(values)
        constraint = ",".join([*outputs, *map(str, range(len(values))), "~{memory}"])
        function = ir.FunctionType(kind, [self.vector] * len(values))
        changed = self.builder.asm(function, "", constraint, values, side_effect=True)
        return [self.builder.extract_value(changed, i) for i in range(len(values))]

    def first(self, count: Any) -> Any:
        """A load like `load` of which only the first `count` elements are read, the rest are 0."""
        builder, indices = self.builder, ir.VectorType(INT, self.lanes)
        counts = self.spread(count)
        mask = builder.icmp_signed("<", ir.Constant(indices, list(range(self.lanes))), counts)
        pointer = self.vector.as_pointer()
        name = f"llvm.masked.load.v{self.lanes}f{8 * self.size}.p0"
        kind = ir.FunctionType(self.vector, [pointer, _INDEX, mask.type, self.vector])
        masked = cgutils.get_or_insert_function(builder.module, kind, name)
        align = ir.Constant(_INDEX, self.size)

        def load(base: Any, i: Any) -> Any:
            return builder.call(masked, [self.at(base, i, self.vector), align, mask, self.zero])

        return load

    def totals(self, vectors: list[Any]) -> Any:
        """The sums of the elements of each vector, as one vector; as many vectors as a power of 2.

        Halves are added to halves, those of two vectors at a time while there are two.
        """
        lanes = self.lanes  # elements that still belong to one sum
        while len(vectors) > 1 or lanes > 1:
            before, lanes = lanes, max(lanes // 2, 1)
            vectors = [
                self._halves(vectors[i : i + 2], before, lanes) for i in range(0, len(vectors), 2)
            ]
        return vectors[0]

    def _halves(self, vectors: list[Any], lanes: int, half: int) -> Any:
        first, last = vectors[0], vectors[-1]
        starts = range(0, first.type.count * len(vectors), lanes)
        low, high = (
            self.shuffle(first, last, [start + at + i for start in starts for i in range(half)])
            for at in (0, lanes - half)
        )
        return low if lanes == 1 else self.builder.fadd(low, high)
