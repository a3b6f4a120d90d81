// Pooling windows: [start, stop) along one axis, cut off at the image's edge.
//
// The launch is convolution.cu's: x over the elements of a plane, one thread each, y over planes.

struct Span {
    int start, stop;
};

__device__ inline Span window(int out, int kernel, int stride, int padding, int limit) {
    int start = out * stride - padding, stop = start + kernel;
    return Span{start < 0 ? 0 : start, stop > limit ? limit : stop};
}

// The outputs along one axis whose windows contain input position `at`.
__device__ inline Span windows_over(int at, int kernel, int stride, int padding, int limit) {
    int reach = at + padding - kernel;  // the last window position that ends before `at`
    int start = reach < 0 ? 0 : reach / stride + 1, stop = (at + padding) / stride + 1;
    return Span{start, stop > limit ? limit : stop};
}

// A later element wins only if it is larger, or if it is the first NaN.
extern "C" __global__ void max_pool2d(
    const real* x, real* y, i64* index, int planes, int height, int width, int out_height,
    int out_width, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
    int padding_w) {
    int size = out_height * out_width;
    int p = blockIdx.x * blockDim.x + threadIdx.x, plane_step = gridDim.y * blockDim.y;
    if (p >= size) return;
    Span rows = window(p / out_width, kernel_h, stride_h, padding_h, height);
    Span columns = window(p % out_width, kernel_w, stride_w, padding_w, width);
    for (int plane = blockIdx.y * blockDim.y + threadIdx.y; plane < planes; plane += plane_step) {
        const real* image = x + (i64)plane * height * width;
        int best = rows.start * width + columns.start;
        real largest = image[best];
        for (int h = rows.start; h < rows.stop; h++)
            for (int w = columns.start; w < columns.stop; w++) {
                real value = image[h * width + w];
                if (value > largest || (value != value && largest == largest)) {
                    largest = value;
                    best = h * width + w;
                }
            }
        y[(i64)plane * size + p] = largest;
        index[(i64)plane * size + p] = best;
    }
}

// One warp per plane walks through the plane's outputs, 32 at a time. Lanes that hit the same
// pixel hand their values to the lowest of them, which adds them up in order: the result is that
// of a serial loop, without atomics. Launched with WARP x WARPS threads and a warp for every
// plane, grad_x zeroed before.
const int WARPS = 4;

extern "C" __global__ void max_pool2d_grad(
    const real* grad, const i64* index, real* grad_x, int planes, int out_size, int size) {
    __shared__ real values[WARPS][WARP];
    __shared__ int places[WARPS][WARP];
    int lane = threadIdx.x, warp = threadIdx.y, plane = blockIdx.x * WARPS + warp;
    if (plane >= planes) return;  // all lanes of the warp together
    real* out = grad_x + (i64)plane * size;
    for (int first = 0; first < out_size; first += WARP) {
        bool live = first + lane < out_size;
        i64 p = (i64)plane * out_size + first + lane;
        int place = live ? (int)index[p] : -1;
        places[warp][lane] = place;
        values[warp][lane] = live ? grad[p] : (real)0;
        __syncwarp();
        bool lowest = live;
        for (int other = 0; other < lane; other++)
            if (places[warp][other] == place) lowest = false;
        if (lowest) {
            real sum = out[place];
            for (int other = lane; other < WARP; other++)
                if (places[warp][other] == place) sum += values[warp][other];
            out[place] = sum;
        }
        __syncwarp();
    }
}

// How many elements a window's mean divides by.
__device__ inline int divisor(
    Span rows, Span columns, int kernel_h, int kernel_w, int with_padding) {
    if (with_padding) return kernel_h * kernel_w;
    return (rows.stop - rows.start) * (columns.stop - columns.start);
}

extern "C" __global__ void avg_pool2d(
    const real* x, real* y, int planes, int height, int width, int out_height, int out_width,
    int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w,
    int with_padding) {
    int size = out_height * out_width;
    int p = blockIdx.x * blockDim.x + threadIdx.x, plane_step = gridDim.y * blockDim.y;
    if (p >= size) return;
    Span rows = window(p / out_width, kernel_h, stride_h, padding_h, height);
    Span columns = window(p % out_width, kernel_w, stride_w, padding_w, width);
    for (int plane = blockIdx.y * blockDim.y + threadIdx.y; plane < planes; plane += plane_step) {
        const real* image = x + (i64)plane * height * width;
        real sum = 0;
        for (int h = rows.start; h < rows.stop; h++)
            for (int w = columns.start; w < columns.stop; w++) sum += image[h * width + w];
        y[(i64)plane * size + p] = sum / divisor(rows, columns, kernel_h, kernel_w, with_padding);
    }
}

extern "C" __global__ void avg_pool2d_grad(
    const real* grad, real* grad_x, int planes, int height, int width, int out_height,
    int out_width, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
    int padding_w, int with_padding) {
    int size = height * width;
    int p = blockIdx.x * blockDim.x + threadIdx.x, plane_step = gridDim.y * blockDim.y;
    if (p >= size) return;
    Span over_h = windows_over(p / width, kernel_h, stride_h, padding_h, out_height);
    Span over_w = windows_over(p % width, kernel_w, stride_w, padding_w, out_width);
    for (int plane = blockIdx.y * blockDim.y + threadIdx.y; plane < planes; plane += plane_step) {
        const real* from = grad + (i64)plane * out_height * out_width;
        real sum = 0;
        for (int h = over_h.start; h < over_h.stop; h++) {
            Span rows = window(h, kernel_h, stride_h, padding_h, height);
            for (int w = over_w.start; w < over_w.stop; w++) {
                Span columns = window(w, kernel_w, stride_w, padding_w, width);
                sum += from[h * out_width + w] /
                       divisor(rows, columns, kernel_h, kernel_w, with_padding);
            }
        }
        grad_x[(i64)plane * size + p] = sum;
    }
}
