// Layer and batch normalisation: one block per row or channel, three passes over its elements.
//
// The variance is summed in a second pass, around the mean: E[x^2] - E[x]^2 would cancel.
// Formulas: Ba, Kiros & Hinton (2016), arXiv:1607.06450; Ioffe & Szegedy (2015), arXiv:1502.03167.

extern "C" __global__ void layer_norm(
    const real* x, const real* weight, const real* bias, real eps, real* y, real* mean,
    real* inv_std, int features) {
    const real* row = x + (i64)blockIdx.x * features;
    real* out = y + (i64)blockIdx.x * features;
    real sum = 0, squares = 0;
    for (int d = threadIdx.x; d < features; d += blockDim.x) sum += row[d];
    real centre = block_sum(sum) / features;
    for (int d = threadIdx.x; d < features; d += blockDim.x)
        squares += (row[d] - centre) * (row[d] - centre);
    real scale = 1 / sqrt(block_sum(squares) / features + eps);
    for (int d = threadIdx.x; d < features; d += blockDim.x)
        out[d] = weight[d] * ((row[d] - centre) * scale) + bias[d];
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = centre;
        inv_std[blockIdx.x] = scale;
    }
}

// dL/dx = (g - mean(g) - x_hat * mean(g * x_hat)) / std over each row, g = grad * weight.
extern "C" __global__ void layer_norm_grad(
    const real* grad, const real* x, const real* weight, const real* mean, const real* inv_std,
    real* grad_x, int features) {
    i64 start = (i64)blockIdx.x * features;
    real centre = mean[blockIdx.x], scale = inv_std[blockIdx.x];
    real sum = 0, projection = 0;
    for (int d = threadIdx.x; d < features; d += blockDim.x) {
        real g = grad[start + d] * weight[d];
        sum += g;
        projection += g * ((x[start + d] - centre) * scale);
    }
    sum = block_sum(sum) / features;
    projection = block_sum(projection) / features;
    for (int d = threadIdx.x; d < features; d += blockDim.x) {
        real x_hat = (x[start + d] - centre) * scale;
        grad_x[start + d] = (grad[start + d] * weight[d] - sum - x_hat * projection) * scale;
    }
}

// dL/dweight = sum(grad * x_hat), dL/dbias = sum(grad) over the rows. A block is 32 columns wide,
// so that reads are coalesced, and SLICES high; the slices meet in shared memory.
const int SLICES = 8;

extern "C" __global__ void layer_norm_param_grad(
    const real* grad, const real* x, const real* mean, const real* inv_std, real* grad_weight,
    real* grad_bias, int rows, int features) {
    __shared__ real of_weight[SLICES][WARP], of_bias[SLICES][WARP];
    int d = blockIdx.x * WARP + threadIdx.x;
    real weight_sum = 0, bias_sum = 0;
    for (int n = threadIdx.y; n < rows && d < features; n += SLICES) {
        real g = grad[(i64)n * features + d];
        weight_sum += g * ((x[(i64)n * features + d] - mean[n]) * inv_std[n]);
        bias_sum += g;
    }
    of_weight[threadIdx.y][threadIdx.x] = weight_sum;
    of_bias[threadIdx.y][threadIdx.x] = bias_sum;
    __syncthreads();
    if (threadIdx.y != 0 || d >= features) return;
    for (int slice = 1; slice < SLICES; slice++) {
        weight_sum += of_weight[slice][threadIdx.x];
        bias_sum += of_bias[slice][threadIdx.x];
    }
    grad_weight[d] = weight_sum;
    grad_bias[d] = bias_sum;
}

// Element i of channel c, counting through samples, in an array (N, C, length).
__device__ inline i64 in_channel(int i, int length) {
    return ((i64)(i / length) * gridDim.x + blockIdx.x) * length + i % length;
}

extern "C" __global__ void batch_norm(
    const real* x, const real* weight, const real* bias, real eps, real* y, real* mean, real* var,
    int count, int length) {
    real sum = 0, squares = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += x[in_channel(i, length)];
    real centre = block_sum(sum) / count;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        real distance = x[in_channel(i, length)] - centre;
        squares += distance * distance;
    }
    real spread = block_sum(squares) / count;
    real scale = weight[blockIdx.x] / sqrt(spread + eps), shift = bias[blockIdx.x];
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        i64 at = in_channel(i, length);
        y[at] = (x[at] - centre) * scale + shift;
    }
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = centre;
        var[blockIdx.x] = spread;
    }
}

extern "C" __global__ void batch_norm_grad(
    const real* grad, const real* x, const real* weight, const real* mean, const real* var,
    real eps, real* grad_x, real* grad_weight, real* grad_bias, int count, int length) {
    real centre = mean[blockIdx.x], inv_std = 1 / sqrt(var[blockIdx.x] + eps);
    real sum = 0, projection = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        i64 at = in_channel(i, length);
        sum += grad[at];
        projection += grad[at] * ((x[at] - centre) * inv_std);
    }
    sum = block_sum(sum);
    projection = block_sum(projection);
    real scale = weight[blockIdx.x] * inv_std;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        i64 at = in_channel(i, length);
        real x_hat = (x[at] - centre) * inv_std;
        grad_x[at] = (grad[at] - sum / count - x_hat * (projection / count)) * scale;
    }
    if (threadIdx.x == 0) {
        grad_weight[blockIdx.x] = projection;
        grad_bias[blockIdx.x] = sum;
    }
}
