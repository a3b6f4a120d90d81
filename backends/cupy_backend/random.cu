// Philox 4x32-10: Salmon, Moraes, Dror & Shaw (2011), "Parallel random numbers: as easy as 1, 2,
// 3", section 3.3. Each thread computes whole blocks of four words: no state, no order.

struct Words {
    u32 word[4];
};

// Block `block` from the counter whose lower and upper 64 bits are given.
__device__ inline Words philox_block(u64 seed, u64 lower, u64 upper, i64 block) {
    u64 start = lower;
    lower += block;
    upper += lower < start;
    u32 key0 = (u32)seed, key1 = (u32)(seed >> 32);
    u32 c0 = (u32)lower, c1 = (u32)(lower >> 32), c2 = (u32)upper, c3 = (u32)(upper >> 32);
    for (int round = 0; round < 10; round++) {
        u64 product0 = (u64)0xD2511F53u * c0, product1 = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(product1 >> 32) ^ c1 ^ key0;
        c2 = (u32)(product0 >> 32) ^ c3 ^ key1;
        c1 = (u32)product1;
        c3 = (u32)product0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

extern "C" __global__ void philox(u32* words, u64 seed, u64 lower, u64 upper, i64 count) {
    for (i64 block = first_item(); 4 * block < count; block += item_step()) {
        Words random = philox_block(seed, lower, upper, block);
        for (int k = 0; k < 4 && 4 * block + k < count; k++)
            words[4 * block + k] = random.word[k];
    }
}

// The upper 24 bits of a word: float holds them, and so every multiple of 2^-24 in [0, 1), exactly.
extern "C" __global__ void uniform(real* out, u64 seed, u64 lower, u64 upper, i64 count) {
    for (i64 block = first_item(); 4 * block < count; block += item_step()) {
        Words random = philox_block(seed, lower, upper, block);
        for (int k = 0; k < 4 && 4 * block + k < count; k++)
            out[4 * block + k] = (real)(random.word[k] >> 8) * (real)(1.0 / 16777216);
    }
}

// `threshold` is 64 bits wide because p close to 1 brings it to 2^32.
extern "C" __global__ void dropout(
    const real* x, real* y, bool* mask, u64 threshold, real scale, u64 seed, u64 lower, u64 upper,
    i64 count) {
    for (i64 block = first_item(); 4 * block < count; block += item_step()) {
        Words random = philox_block(seed, lower, upper, block);
        for (int k = 0; k < 4 && 4 * block + k < count; k++) {
            i64 i = 4 * block + k;
            bool keep = random.word[k] >= threshold;
            mask[i] = keep;
            y[i] = keep ? x[i] * scale : (real)0;
        }
    }
}
