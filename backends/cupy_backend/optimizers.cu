// Optimizer steps over flat arrays: one launch reads and writes every value once.
//
// The operations and their order are the reference's, each rounded on its own, so the weights are
// the same bits. Factors such as 1 - beta arrive computed in double and rounded once. `velocity`
// is touched only if `with_velocity`; otherwise any pointer may be given for it.

__device__ inline real decayed(real param, real grad, real weight_decay) {
    return weight_decay != 0 ? grad + weight_decay * param : grad;
}

// Sutskever, Martens, Dahl & Hinton (2013), section 2.
extern "C" __global__ void sgd(
    real* param, const real* grad, real* velocity, int with_velocity, real lr, real momentum,
    real undamped, real weight_decay, int nesterov, int first, i64 count) {
    for (i64 i = first_item(); i < count; i += item_step()) {
        real step = decayed(param[i], grad[i], weight_decay);
        if (with_velocity) {
            real v = first ? step : momentum * velocity[i] + undamped * step;
            velocity[i] = v;
            step = nesterov ? step + momentum * v : v;
        }
        param[i] -= lr * step;
    }
}

// Tieleman & Hinton (2012), lecture 6.5.
extern "C" __global__ void rmsprop(
    real* param, const real* grad, real* square, real* velocity, int with_velocity, real lr,
    real alpha, real one_minus_alpha, real eps, real weight_decay, real momentum, i64 count) {
    for (i64 i = first_item(); i < count; i += item_step()) {
        real g = decayed(param[i], grad[i], weight_decay);
        real average = alpha * square[i] + one_minus_alpha * (g * g);
        square[i] = average;
        real step = g / (sqrt(average) + eps);
        if (with_velocity) {
            step = momentum * velocity[i] + step;
            velocity[i] = step;
        }
        param[i] -= lr * step;
    }
}

// Duchi, Hazan & Singer (2011), figure 1, with a diagonal matrix.
extern "C" __global__ void adagrad(
    real* param, const real* grad, real* square, real lr, real eps, real weight_decay, i64 count) {
    for (i64 i = first_item(); i < count; i += item_step()) {
        real g = decayed(param[i], grad[i], weight_decay);
        real total = square[i] + g * g;
        square[i] = total;
        param[i] -= lr * (g / (sqrt(total) + eps));
    }
}

// Kingma & Ba (2015), algorithm 1. `shrink` is 1 - lr * weight_decay for the decoupled decay of
// Loshchilov & Hutter (2019), algorithm 2, else 1; `weight_decay` is then 0.
extern "C" __global__ void adam(
    real* param, const real* grad, real* mean, real* square, real shrink, real weight_decay,
    real beta1, real one_minus_beta1, real beta2, real one_minus_beta2, real unbias, real eps,
    real rate, i64 count) {
    for (i64 i = first_item(); i < count; i += item_step()) {
        real p = param[i] * shrink, g = decayed(p, grad[i], weight_decay);
        real m = beta1 * mean[i] + one_minus_beta1 * g;
        real v = beta2 * square[i] + one_minus_beta2 * (g * g);
        mean[i] = m;
        square[i] = v;
        param[i] = p - m / (sqrt(v) * unbias + eps) * rate;
    }
}
