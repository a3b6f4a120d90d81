// CUDA C++ on a CPU: what a kernel's text needs in order to compile and run as a C++ function.
//
// Every CUDA thread of a block runs on a stack of its own (a fiber) and all of them on one CPU
// thread, so a run is deterministic. A fiber gives way only at a barrier or a warp operation, and
// a stack is made only for a thread that has to wait: a kernel without barriers needs one.
// Blocks run one after another. The order of threads and blocks is an argument, since a
// missing barrier shows only under some orders.
//
// Not modelled: contraction to FMA, flush-to-zero, the accuracy of CUDA's math library, the
// order of atomics between blocks that run at once, memory that is slow to become visible.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__ static  // AddressSanitizer watches the shared arrays of such functions only
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static  // one copy per process: blocks do not overlap in time

// CUDA has each of these for float and for double, so that an int is ambiguous; so it is here.
inline float exp(float x) { return std::exp(x); }
inline float log(float x) { return std::log(x); }
inline float sqrt(float x) { return std::sqrt(x); }
inline float rint(float x) { return std::rint(x); }
inline float fabs(float x) { return std::fabs(x); }
inline float pow(float x, float y) { return std::pow(x, y); }

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

enum State { NEW, READY, AT_BARRIER, AT_WARP, DONE };

struct Fiber {
    jmp_buf context;
    std::vector<char> stack;
    void* unfinished;  // what AddressSanitizer remembers of it while it waits
};

struct Thread {
    State state;
    Fiber* fiber;         // null until it starts, and again when it is done
    unsigned mask;        // lanes that a warp operation waits for
    int line;             // where it waits
    uint64_t slots[2];    // shown to the warp; two, so that a fast lane overwrites no unread value
    unsigned meetings;
};

static std::vector<Thread> threads;
static std::vector<Fiber*> idle;
static std::vector<unsigned char> dynamic_shared;
static std::function<void()> body;
static jmp_buf scheduler;
static ucontext_t scheduler_start, fiber_start;
static unsigned current, block_size;
static unsigned order;
static uint32_t random_state;
static std::string message;

const size_t STACK_BYTES = 128 * 1024;

static void set_thread(unsigned t) {
    current = t;
    threadIdx = dim3{t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
}

// AddressSanitizer has to be told of each change of stack: before it leaves and after it arrives.
#ifdef __SANITIZE_ADDRESS__
static const void* scheduler_stack;
static size_t scheduler_stack_bytes;
static void* scheduler_unfinished;

static void leave_scheduler(Fiber* to) {
    __sanitizer_start_switch_fiber(&scheduler_unfinished, to->stack.data(), STACK_BYTES);
}
static void arrive_in_scheduler() {
    __sanitizer_finish_switch_fiber(scheduler_unfinished, nullptr, nullptr);
}
static void leave_fiber(Fiber* from) {
    __sanitizer_start_switch_fiber(&from->unfinished, scheduler_stack, scheduler_stack_bytes);
}
static void arrive_in_fiber(Fiber* to) {
    __sanitizer_finish_switch_fiber(to->unfinished, &scheduler_stack, &scheduler_stack_bytes);
}
#else
static void leave_scheduler(Fiber*) {}
static void arrive_in_scheduler() {}
static void leave_fiber(Fiber*) {}
static void arrive_in_fiber(Fiber*) {}
#endif

static void go_to_scheduler(Fiber* from) {
    if (_setjmp(from->context) == 0) {
        leave_fiber(from);
        _longjmp(scheduler, 1);
    }
    arrive_in_fiber(from);
}

// A fiber outlives the thread it ran and takes on the next one.
static void fiber_loop() {
    arrive_in_fiber(threads[current].fiber);
    for (;;) {
        body();
        Thread& me = threads[current];
        me.state = DONE;
        Fiber* fiber = me.fiber;
        me.fiber = nullptr;
        idle.push_back(fiber);
        go_to_scheduler(fiber);
    }
}

// Run thread t until it waits or ends. makecontext opens a stack; later switches are longjmps,
// which cost no system call.
static void resume(unsigned t) {
    set_thread(t);
    Thread& thread = threads[t];
    thread.state = READY;
    bool fresh = false;
    if (thread.fiber == nullptr) {
        if (idle.empty()) {
            Fiber* fiber = new Fiber{};
            fiber->stack.resize(STACK_BYTES);
            idle.push_back(fiber);
            fresh = true;
        }
        thread.fiber = idle.back();
        idle.pop_back();
    }
    Fiber* fiber = thread.fiber;
    if (_setjmp(scheduler) != 0) {
        arrive_in_scheduler();
        return;
    }
    leave_scheduler(fiber);
    if (!fresh) _longjmp(fiber->context, 1);
    getcontext(&fiber_start);
    fiber_start.uc_stack.ss_sp = fiber->stack.data();
    fiber_start.uc_stack.ss_size = STACK_BYTES;
    fiber_start.uc_link = nullptr;
    makecontext(&fiber_start, fiber_loop, 0);
    swapcontext(&scheduler_start, &fiber_start);
}

static void wait_as(State state, int line) {
    unsigned t = current;
    threads[t].state = state;
    threads[t].line = line;
    go_to_scheduler(threads[t].fiber);
    set_thread(t);
}

static const char* fail(const std::string& text) {
    message = text;
    return message.c_str();
}

static const char* fail_at(const Thread& thread, const std::string& text) {
    return fail(text + " (line " + std::to_string(thread.line) + ")");
}

// Release every warp whose waiting lanes are complete; null unless lanes disagree.
static const char* release_warps(bool& released) {
    for (unsigned low = 0; low < block_size; low += 32) {
        unsigned high = low + 32 < block_size ? low + 32 : block_size, waiting = 0;
        const Thread* first = nullptr;
        for (unsigned t = low; t < high; t++)
            if (threads[t].state == AT_WARP) {
                if (first == nullptr) first = &threads[t];
                if (threads[t].mask != first->mask)
                    return fail_at(*first, "lanes of a warp give different masks");
                if (threads[t].line != first->line)
                    return fail_at(*first, "lanes of a warp wait at different lines");
                waiting |= 1u << (t - low);
            }
        if (first == nullptr) continue;
        unsigned present = high - low == 32 ? 0xffffffffu : (1u << (high - low)) - 1;
        if (waiting & ~first->mask) return fail_at(*first, "a lane is missing from its own mask");
        if ((waiting & present) != (first->mask & present)) continue;
        for (unsigned t = low; t < high; t++)
            if (threads[t].state == AT_WARP) threads[t].state = READY;
        released = true;
    }
    return nullptr;
}

// All have run as far as they can: is the block done, at a barrier, or stuck?
static const char* settle(bool& finished) {
    bool released = false;
    if (const char* error = release_warps(released)) return error;
    if (released) return nullptr;
    unsigned done = 0;
    const Thread *barrier = nullptr, *warp = nullptr;
    for (const Thread& thread : threads) {
        done += thread.state == DONE;
        if (thread.state == AT_WARP) warp = &thread;
        if (thread.state == AT_BARRIER) {
            if (barrier != nullptr && barrier->line != thread.line)
                return fail_at(thread, "threads of a block wait at different barriers");
            barrier = &thread;
        }
    }
    if (warp != nullptr)
        return fail_at(*warp, "deadlock: a warp operation waits for lanes that never come");
    finished = done == block_size;
    if (finished) return nullptr;
    if (done > 0)
        return fail_at(*barrier, "divergent barrier: some threads of the block ended without it");
    for (Thread& thread : threads) thread.state = READY;
    return nullptr;
}

static uint32_t next_random() {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

// 0 ascending, 1 descending, 2 and more: shuffled anew each time it is called. Odd orders also let
// warps run apart.
static void arrange(std::vector<unsigned>& items) {
    unsigned n = items.size();
    for (unsigned i = 0; i < n; i++) items[i] = order == 1 ? n - 1 - i : i;
    for (unsigned i = n; order >= 2 && i > 1; i--)
        std::swap(items[i - 1], items[next_random() % i]);
}

static bool can_run(unsigned t) { return threads[t].state == NEW || threads[t].state == READY; }

// Let one warp after the other run as far as it can without the others: on a GPU, too, a warp may
// be far ahead, and a barrier that is missing between warps shows only then.
static const char* run_warps_apart(const std::vector<unsigned>& sequence) {
    std::vector<unsigned> warps((block_size + 31) / 32);
    arrange(warps);
    for (unsigned warp : warps)
        for (bool released = true; released;) {
            released = false;
            for (unsigned t : sequence)
                if (t / 32 == warp && can_run(t)) resume(t);
            if (const char* error = release_warps(released)) return error;
        }
    return nullptr;
}

static const char* run_block(std::vector<unsigned>& sequence) {
    for (Thread& thread : threads) thread = Thread{NEW, nullptr, 0, 0, {0, 0}, 0};
    std::memset(dynamic_shared.data(), 0xFF, dynamic_shared.size());  // NaN, if read before written
    for (bool finished = false; !finished;) {
        arrange(sequence);
        if (order % 2 == 1) {
            if (const char* error = run_warps_apart(sequence)) return error;
        } else {
            for (unsigned t : sequence)
                if (can_run(t)) resume(t);
        }
        if (const char* error = settle(finished)) return error;
    }
    return nullptr;
}

static const char* check(dim3 grid, dim3 block, size_t shared_bytes) {
    uint64_t size = (uint64_t)block.x * block.y * block.z;
    if (size == 0 || size > 1024 || block.z > 64) return fail("invalid block size");
    bool empty = grid.x == 0 || grid.y == 0 || grid.z == 0;
    if (empty || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return fail("invalid grid size");
    if (shared_bytes > 48 * 1024) return fail("more than 48 KiB of dynamic shared memory");
    return nullptr;
}

const size_t GUARD_BYTES = 64;

static const char* launch(
    dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> kernel) {
    if (const char* error = check(grid, block, shared_bytes)) return error;
    gridDim = grid;
    blockDim = block;
    block_size = block.x * block.y * block.z;
    body = std::move(kernel);
    for (Thread& thread : threads)  // left behind by a launch that failed: their stacks are lost
        thread.fiber = nullptr;
    threads.resize(block_size);
    dynamic_shared.resize(shared_bytes + GUARD_BYTES);
    std::vector<unsigned> sequence(block_size), blocks(grid.x * grid.y * grid.z);
    arrange(blocks);
    for (unsigned b : blocks) {
        blockIdx = dim3{b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
        if (const char* error = run_block(sequence)) return error;
        for (size_t i = shared_bytes; i < dynamic_shared.size(); i++)
            if (dynamic_shared[i] != 0xFF)
                return fail("dynamic shared memory written past its end");
    }
    return nullptr;
}

// Show a value to the warp and wait until the lanes in `mask` have shown theirs.
template <class T> unsigned meet(unsigned mask, T value, int line) {
    static_assert(sizeof(T) <= 8, "a lane shows 8 bytes at most");
    Thread& me = threads[current];
    unsigned meeting = me.meetings++ % 2;
    std::memcpy(&me.slots[meeting], &value, sizeof(T));
    me.mask = mask;
    wait_as(AT_WARP, line);
    return meeting;
}

template <class T> T shuffle(unsigned mask, T value, int source, int line) {
    unsigned meeting = meet(mask, value, line), lane = current % 32, t = current - lane + source;
    if (source < 0 || source >= 32 || t >= block_size) return value;
    T result;
    std::memcpy(&result, &threads[t].slots[meeting], sizeof(T));
    return result;
}

// A parameter's type as the runner checks it: P (pointer to const) or p, kind, bytes.
template <class T> std::string kind() {
    if constexpr (std::is_pointer_v<T>) {
        using V = std::remove_pointer_t<T>;
        return (std::is_const_v<V> ? "P" : "p") + kind<std::remove_const_t<V>>();
    } else if constexpr (std::is_same_v<T, bool>) {
        return "b1";
    } else {
        static_assert(std::is_arithmetic_v<T>, "kernels take numbers and pointers");
        const char* letter = std::is_floating_point_v<T> ? "f" : std::is_signed_v<T> ? "i" : "u";
        return letter + std::to_string(sizeof(T));
    }
}

template <class... A>
std::string signature(void (*)(A...)) {
    return ((kind<A>() + " ") + ... + "");
}

template <class... A, size_t... I>
const char* call_with(
    void (*kernel)(A...), const unsigned* shape, size_t shared, void** args,
    std::index_sequence<I...>) {
    return launch(dim3{shape[0], shape[1], shape[2]}, dim3{shape[3], shape[4], shape[5]}, shared,
                  [=] { kernel(*(std::decay_t<A>*)args[I]...); });
}

template <class... A>
const char* call(void (*kernel)(A...), const unsigned* shape, size_t shared, void** args) {
    return call_with(kernel, shape, shared, args, std::index_sequence_for<A...>{});
}

}  // namespace cuda_on_cpu

extern "C" void set_thread_order(unsigned order) {
    cuda_on_cpu::order = order;
    cuda_on_cpu::random_state = order * 2654435761u + 1;
}

#define __syncthreads() cuda_on_cpu::wait_as(cuda_on_cpu::AT_BARRIER, __LINE__)
#define __syncwarp(...) cuda_on_cpu::meet(0xffffffffu, 0, __LINE__)
#define __shfl_sync(mask, value, source) cuda_on_cpu::shuffle(mask, value, source, __LINE__)
#define __shfl_xor_sync(mask, value, bits) \
    cuda_on_cpu::shuffle(mask, value, (int)(cuda_on_cpu::current % 32) ^ (bits), __LINE__)
#define __shfl_down_sync(mask, value, by) \
    cuda_on_cpu::shuffle(mask, value, (int)(cuda_on_cpu::current % 32) + (by), __LINE__)

template <class T> T atomicAdd(T* at, T value) {
    T old = *at;
    *at = old + value;
    return old;
}

// Four signed bytes times four signed bytes, added to `sum`.
inline int __dp4a(int a, int b, int sum) {
    for (int shift = 0; shift < 32; shift += 8) sum += (int8_t)(a >> shift) * (int8_t)(b >> shift);
    return sum;
}
