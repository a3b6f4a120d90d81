// im2col and its transpose, both with one thread per element written: no atomics.
//
// A block is a small rectangle: x runs over the elements of a plane, y over planes, so that images
// of 4 x 4 and of 400 x 400 both fill their warps. The launch has a thread for every element of a
// plane and may have fewer than there are planes. Offsets inside a plane fit 32 bits.

extern "C" __global__ void im2col(
    const real* x, real* columns, int rows, int height, int width, int out_height, int out_width,
    int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w,
    int dilation_h, int dilation_w, real value) {
    int taps = kernel_h * kernel_w, size = out_height * out_width;
    int p = blockIdx.x * blockDim.x + threadIdx.x, row_step = gridDim.y * blockDim.y;
    if (p >= size) return;
    int row_start = p / out_width * stride_h, column_start = p % out_width * stride_w;
    for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += row_step) {
        int tap = row % taps;
        int top = tap / kernel_w * dilation_h - padding_h;
        int left = tap % kernel_w * dilation_w - padding_w;
        const real* image = x + (i64)(row / taps) * height * width;
        int h = row_start + top, w = column_start + left;
        bool inside = h >= 0 && h < height && w >= 0 && w < width;
        columns[(i64)row * size + p] = inside ? image[h * width + w] : value;
    }
}

// The output row (or column) whose window has its tap number `tap` on input row `at`, or -1.
__device__ inline int window_at(int at, int tap, int stride, int padding, int dilation, int limit) {
    int offset = at + padding - tap * dilation;
    return offset >= 0 && offset % stride == 0 && offset / stride < limit ? offset / stride : -1;
}

// Each input pixel collects its columns in the order of the taps, which is the reference's order.
extern "C" __global__ void col2im(
    const real* columns, real* x, int planes, int height, int width, int out_height, int out_width,
    int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w,
    int dilation_h, int dilation_w) {
    int taps = kernel_h * kernel_w, size = height * width, out_size = out_height * out_width;
    int p = blockIdx.x * blockDim.x + threadIdx.x, plane_step = gridDim.y * blockDim.y;
    if (p >= size) return;
    int h = p / width, w = p % width;
    for (int plane = blockIdx.y * blockDim.y + threadIdx.y; plane < planes; plane += plane_step) {
        const real* from = columns + (i64)plane * taps * out_size;
        real sum = 0;
        for (int i = 0; i < kernel_h; i++) {
            int row = window_at(h, i, stride_h, padding_h, dilation_h, out_height);
            for (int j = 0; j < kernel_w && row >= 0; j++) {
                int column = window_at(w, j, stride_w, padding_w, dilation_w, out_width);
                if (column >= 0)
                    sum += from[(i64)(i * kernel_w + j) * out_size + row * out_width + column];
            }
        }
        x[(i64)plane * size + p] = sum;
    }
}
