// Scatter-add without atomics: the additions happen in the order of the index, every time.
//
// The caller sorts the index (stably). One thread per element of the result finds its run in the
// sorted index by bisection and adds the source elements of that run, first to last.

__device__ inline i64 lower_bound(const i64* sorted, i64 count, i64 value) {
    i64 low = 0, high = count;
    while (low < high) {
        i64 middle = (low + high) / 2;
        if (sorted[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// out (outer, rows, inner) += source (outer, count, inner); source slice k goes to row index[k],
// sorted[j] = index[order[j]].
extern "C" __global__ void scatter_add(
    real* out, const real* source, const i64* sorted, const i64* order, i64 outer, i64 rows,
    i64 count, i64 inner) {
    for (i64 item = first_item(); item < outer * rows * inner; item += item_step()) {
        i64 column = item % inner, row = item / inner % rows, batch = item / (inner * rows);
        const real* from = source + batch * count * inner + column;
        i64 j = lower_bound(sorted, count, row);
        if (j == count || sorted[j] != row) continue;
        real sum = out[item];
        for (; j < count && sorted[j] == row; j++) sum += from[order[j] * inner];
        out[item] = sum;
    }
}
