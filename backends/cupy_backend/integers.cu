// int8 products and conversions. `code` is the integer type of quantized values (-Dcode=i8).

// out (rows, columns) = a (rows, 4 * words) @ b (columns, 4 * words) transposed; four int8 values
// to the word. A block of TILE x TILE threads keeps TILE x TILE words of both in shared memory;
// the extra column puts the words that a warp reads together into different banks.
const int TILE = 16;

extern "C" __global__ void int8_matmul(
    const i32* a, const i32* b, i32* out, int rows, int columns, int words) {
    __shared__ i32 tile_a[TILE][TILE + 1], tile_b[TILE][TILE + 1];
    int row_tiles = (rows + TILE - 1) / TILE;
    int column = blockIdx.x * TILE + threadIdx.x, b_row = blockIdx.x * TILE + threadIdx.y;
    for (int row_tile = blockIdx.y; row_tile < row_tiles; row_tile += gridDim.y) {
        int row = row_tile * TILE + threadIdx.y, sum = 0;
        for (int first = 0; first < words; first += TILE) {
            int k = first + threadIdx.x;
            tile_a[threadIdx.y][threadIdx.x] =
                row < rows && k < words ? a[(i64)row * words + k] : 0;
            tile_b[threadIdx.y][threadIdx.x] =
                b_row < columns && k < words ? b[(i64)b_row * words + k] : 0;
            __syncthreads();
            for (int j = 0; j < TILE; j++)
                sum = __dp4a(tile_a[threadIdx.y][j], tile_b[threadIdx.x][j], sum);
            __syncthreads();
        }
        if (row < rows && column < columns) out[(i64)row * columns + column] = sum;
    }
}

// clip(rint(x / scale) + zero_point, low, high); NaN becomes zero_point. Every `inner` elements in
// a row share one of the `scales` scales and zero points.
extern "C" __global__ void quantize(
    const real* x, const real* scale, const i32* zero_point, real low, real high, code* out,
    i64 count, i64 inner, i64 scales) {
    for (i64 i = first_item(); i < count; i += item_step()) {
        i64 s = i / inner % scales;
        real y = rint(x[i] / scale[s]);
        y = (y != y ? (real)0 : y) + (real)zero_point[s];
        out[i] = (code)(y < low ? low : y > high ? high : y);
    }
}

extern "C" __global__ void dequantize(
    const code* q, const real* scale, const i32* zero_point, real* out, i64 count, i64 inner,
    i64 scales) {
    for (i64 i = first_item(); i < count; i += item_step()) {
        i64 s = i / inner % scales;
        out[i] = (real)((i32)q[i] - zero_point[s]) * scale[s];
    }
}
