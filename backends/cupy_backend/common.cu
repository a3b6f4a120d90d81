// Put before the text of every other .cu file when it is compiled (see kernels.py).
//
// `real` is the element type of a module; the compiler is given -Dreal=f32 (or f64, i8, ...), so
// one text serves every type and a module holds plain names that need no mangling.
typedef signed char i8;
typedef unsigned char u8;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;
typedef float f32;
typedef double f64;

const unsigned ALL_LANES = 0xffffffffu;
const int WARP = 32;

// This thread's number in a one-dimensional launch, and how many there are: a loop from one in
// steps of the other covers any length, however few blocks were launched.
__device__ inline i64 first_item() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline i64 item_step() { return (i64)gridDim.x * blockDim.x; }

// Addition commutes, so every lane of the butterfly ends with the same bits.
__device__ inline real warp_sum(real value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

__device__ inline real warp_max(real value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        real other = __shfl_xor_sync(ALL_LANES, value, distance);
        value = other > value ? other : value;
    }
    return value;
}

// The sum over a block whose size is a multiple of WARP, known to every thread. The order of the
// additions depends on the block size alone, so a run repeats bit for bit.
__device__ inline real block_sum(real value) {
    __shared__ real partial[WARP];
    int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    value = warp_sum(value);
    if (lane == 0) partial[threadIdx.x / WARP] = value;
    __syncthreads();
    value = warp_sum(lane < warps ? partial[lane] : (real)0);
    __syncthreads();  // `partial` may be written again only when all have read it
    return value;
}

// The largest value in a block, likewise. NaN is not promised to win: callers do not need it to.
__device__ inline real block_max(real value) {
    __shared__ real partial[WARP];
    int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    value = warp_max(value);
    if (lane == 0) partial[threadIdx.x / WARP] = value;
    __syncthreads();
    value = warp_max(partial[lane < warps ? lane : 0]);
    __syncthreads();
    return value;
}
