// Cross entropy with class weights, label smoothing and ignored rows: one block per row.
//
// `weight` is read only if `weighted`; otherwise any pointer may be given for it.

__device__ inline real class_weight(const real* weight, int weighted, int c) {
    return weighted ? weight[c] : (real)1;
}

// log_probs = x - max - log(sum(exp(x - max)))
// loss = -(1 - smoothing) * w[t] * logp[t] - smoothing / C * sum_c w[c] * logp[c]
extern "C" __global__ void cross_entropy(
    const real* logits, const i64* target, const real* weight, int weighted, i64 ignore_index,
    real smoothing, real* loss, real* log_probs, int classes) {
    const real* row = logits + (i64)blockIdx.x * classes;
    real* out = log_probs + (i64)blockIdx.x * classes;
    real largest = row[0], sum = 0, smooth = 0;
    for (int c = threadIdx.x; c < classes; c += blockDim.x)
        largest = row[c] > largest ? row[c] : largest;
    largest = block_max(largest);
    for (int c = threadIdx.x; c < classes; c += blockDim.x) sum += exp(row[c] - largest);
    real log_sum = log(block_sum(sum));
    for (int c = threadIdx.x; c < classes; c += blockDim.x) {
        out[c] = row[c] - largest - log_sum;
        if (smoothing != 0) smooth += class_weight(weight, weighted, c) * out[c];
    }
    smooth = block_sum(smooth);
    if (threadIdx.x != 0) return;
    i64 t = target[blockIdx.x];
    real value = 0;
    if (t != ignore_index) {
        value = -(1 - smoothing) * class_weight(weight, weighted, t) * (row[t] - largest - log_sum);
        if (smoothing != 0) value -= smoothing / classes * smooth;  // 0 * -inf would be NaN
    }
    loss[blockIdx.x] = value;
}

// With q[c] = (1 - smoothing) * w[t] * [c = t] + smoothing / C * w[c], the loss is -sum(q * logp),
// so its gradient with respect to the logits is p * sum(q) - q.
extern "C" __global__ void cross_entropy_grad(
    const real* grad, const real* log_probs, const i64* target, const real* weight, int weighted,
    i64 ignore_index, real smoothing, real* grad_logits, int classes) {
    i64 start = (i64)blockIdx.x * classes, t = target[blockIdx.x];
    bool ignored = t == ignore_index;
    real sum = 0, share = smoothing / classes;
    for (int c = threadIdx.x; c < classes; c += blockDim.x)
        sum += class_weight(weight, weighted, c);
    real hit = ignored ? (real)0 : (1 - smoothing) * class_weight(weight, weighted, t);
    real total = hit + share * block_sum(sum);
    for (int c = threadIdx.x; c < classes; c += blockDim.x) {
        real q = share * class_weight(weight, weighted, c) + (c == t ? hit : (real)0);
        real value = grad[blockIdx.x] * (exp(log_probs[start + c]) * total - q);
        grad_logits[start + c] = ignored ? (real)0 : value;
    }
}
