#include "fibers.h"
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#if !defined(__x86_64__)
#error "fibers switch stacks in x86-64 assembly"
#endif

// Saves the registers that a call keeps, changes stacks, and takes up where the other stack left off.
asm(R"(
.text
.globl shim_switch
.type shim_switch,@function
shim_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size shim_switch,.-shim_switch
)");
extern "C" void shim_switch(void** save, void* to);

// This file itself is compiled without ThreadSanitizer, which sees the kernels only.
#if defined(SHIM_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#define ACQUIRE(at) __tsan_acquire(at)
#define RELEASE(at) __tsan_release(at)
// The last argument tells it that a switch orders nothing.
#define SWITCH_TO(fiber) __tsan_switch_to_fiber(fiber, 1)
#define NEW_FIBER() __tsan_create_fiber(0)
#define OWN_FIBER() __tsan_get_current_fiber()
#else
#define ACQUIRE(at) (void)(at)
#define RELEASE(at) (void)(at)
#define SWITCH_TO(fiber) (void)(fiber)
#define NEW_FIBER() nullptr
#define OWN_FIBER() nullptr
#endif

extern "C" {
__attribute__((weak, visibility("hidden"))) extern unsigned char __start_shim_shared[], __stop_shim_shared[];
}

namespace shim {

constexpr size_t STACK = 64 << 10;
// Stacks begin at different places of their 64 KiB, or all would fall into the same lines of the caches.
constexpr size_t STAGGER = 1088, STAGGERED = 32 << 10;
constexpr int MOST_THREADS = 1024;
constexpr size_t MOST_SHARED = 227 << 10;  // of one block on sm_90

Fiber* current = nullptr;

// Lanes of one mask, meeting again and again: turn t uses slots t%2, which are free as all have left turn t-2.
struct Meeting {
    unsigned mask = 0;
    unsigned turns[32] = {};    // of each lane
    unsigned arrived[2] = {};   // in all turns of that parity
    const char* what[2] = {};
    Slots slots[2];
    char order[2];              // what ThreadSanitizer hangs the order on
};

struct Warp { std::deque<Meeting> meetings; unsigned live = 0; };

struct Block {
    const Launch* launch;
    Index index;
    unsigned char* shared;
    int live = 0, at_barrier = 0;
    unsigned barriers = 0;
    char order[2], begin, end;
};

namespace {

struct Copy { void* to; const void* from; size_t bytes; };
using Groups = std::deque<std::vector<Copy>>;
struct Kernel { void (*run)(void**); int most_threads; unsigned long launches; };

std::map<std::string, Kernel>& kernels() {
    static auto* all = new std::map<std::string, Kernel>;  // the report at the end still reads it
    return *all;
}

int number_of(const char* variable, int otherwise) {
    const char* text = std::getenv(variable);
    return text ? std::atoi(text) : otherwise;
}
const int seed = number_of("SHIM_SEED", 0);
// One launch at a time: __shared__ variables are static.
std::mutex one_launch;

struct Machine {
    std::vector<Fiber> fibers{MOST_THREADS};
    std::vector<Groups> groups{MOST_THREADS};
    std::vector<Warp> warps{MOST_THREADS / 32};
    std::vector<unsigned char> shared = std::vector<unsigned char>(MOST_SHARED + 16);
    unsigned char* stacks;
    void* scheduler = nullptr;
    void* sanitizer = nullptr;
    void (*run)(void**) = nullptr;
    std::mt19937 random;

    Machine() {
        // A page that faults lies below each stack.
        stacks = static_cast<unsigned char*>(mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        for (int i = 0; i < MOST_THREADS; i++) mprotect(stacks + i * STACK, 4096, PROT_NONE);
    }
};
Machine& machine() {
    static Machine* one = new Machine;  // never freed: a report at exit may still look at it
    return *one;
}

__attribute__((noinline)) void to_scheduler() {
    Fiber* fiber = current;
    SWITCH_TO(machine().sanitizer);
    shim_switch(&fiber->stack_pointer, machine().scheduler);
}

__attribute__((noinline)) void body() {
    Fiber* fiber = current;
    ACQUIRE(&fiber->block->begin);
    machine().run(fiber->block->launch->arguments);
    RELEASE(&fiber->block->end);
    fiber->state = Fiber::DONE;
    fiber->block->live--;
    fiber->warp->live &= ~(1u << fiber->lane);
    to_scheduler();
    std::abort();
}

void start(Fiber& fiber, int number, Block& block) {
    Machine& all = machine();
    Index size = block.launch->block;
    unsigned n = number;
    void* sanitizer = fiber.sanitizer ? fiber.sanitizer : NEW_FIBER();
    fiber = Fiber{};
    fiber.block = &block;
    fiber.warp = &all.warps[number / 32];
    fiber.index = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
    fiber.number = number;
    fiber.lane = number % 32;
    fiber.sanitizer = sanitizer;
    fiber.warp->live |= 1u << fiber.lane;
    all.groups[number].clear();
    // As after a call of `body`: six registers below its address, the stack odd by 8.
    void** top = reinterpret_cast<void**>(all.stacks + (number + 1) * STACK - number * STAGGER % STAGGERED) - 3;
    *--top = reinterpret_cast<void*>(&body);
    fiber.stack_pointer = top - 6;
}

bool can_run(const Fiber& fiber) {
    if (fiber.state == Fiber::READY) return true;
    if (fiber.state != Fiber::MEETING) return false;
    const Meeting& meeting = *fiber.meeting;
    return meeting.arrived[fiber.turn % 2] >= unsigned(__builtin_popcount(meeting.mask)) * (fiber.turn / 2 + 1);
}

// All that live wait at a barrier: it must be the same one.
void open_barrier(Block& block, int threads) {
    Machine& all = machine();
    const Fiber* first = nullptr;
    for (int i = 0; i < threads; i++) {
        Fiber& fiber = all.fibers[i];
        if (fiber.state != Fiber::AT_BARRIER) continue;
        if (!first) first = &fiber;
        if (first->line != fiber.line || std::strcmp(first->file, fiber.file)) {
            current = &fiber;
            fail("divergent barrier: threads of one block wait at different __syncthreads()");
        }
        fiber.state = Fiber::READY;
    }
    block.at_barrier = 0;
    block.barriers++;
}

// Runs each lane that can run until it waits; whether there was one.
__attribute__((noinline)) bool run_warp(int warp, const std::vector<int>& lanes, int threads) {
    Machine& all = machine();
    bool any = false;
    for (int lane : lanes) {
        int i = warp * 32 + lane;
        if (i >= threads || !can_run(all.fibers[i])) continue;
        any = true;
        current = &all.fibers[i];
        SWITCH_TO(current->sanitizer);
        shim_switch(&all.scheduler, current->stack_pointer);
    }
    return any;
}

__attribute__((noinline)) void run_block(Block& block, int threads) {
    Machine& all = machine();
    block.live = threads;
    for (Warp& warp : all.warps) {
        warp.meetings.clear();
        warp.live = 0;
    }
    for (int i = 0; i < threads; i++) start(all.fibers[i], i, block);
    std::vector<int> warps((threads + 31) / 32), lanes(32);
    std::iota(warps.begin(), warps.end(), 0);
    std::iota(lanes.begin(), lanes.end(), 0);
    if (seed == 1) {
        std::reverse(warps.begin(), warps.end());
        std::reverse(lanes.begin(), lanes.end());
    }
    RELEASE(&block.begin);
    while (block.live) {
        if (seed > 1) std::shuffle(warps.begin(), warps.end(), all.random);
        bool progress = false;
        for (int warp : warps) {
            // A warp runs until it waits for others, or with shuffled orders for a few rounds.
            for (unsigned rounds = seed > 1 ? 1 + all.random() % 8 : ~0u; rounds; rounds--) {
                if (seed > 1) std::shuffle(lanes.begin(), lanes.end(), all.random);
                if (!run_warp(warp, lanes, threads)) break;
                progress = true;
            }
        }
        if (block.live && block.at_barrier == block.live) {
            open_barrier(block, threads);
            progress = true;
        }
        if (!progress && block.live) {
            for (int i = 0; i < threads; i++)
                if (all.fibers[i].state == Fiber::MEETING) current = &all.fibers[i];
            fail("deadlock: a barrier or a meeting of lanes that not every thread it waits for reaches");
        }
    }
    current = nullptr;
    ACQUIRE(&block.end);
}

bool fits(const Launch& launch, const Kernel& kernel) {
    uint64_t threads = uint64_t(launch.block.x) * launch.block.y * launch.block.z;
    bool grid = launch.grid.x && launch.grid.y && launch.grid.z && launch.grid.x < 1u << 31 &&
                launch.grid.y < 65536 && launch.grid.z < 65536;
    return grid && threads && threads <= uint64_t(kernel.most_threads) && launch.block.z <= 64 &&
           launch.shared <= MOST_SHARED;
}

// SHIM_REPORT names a file to which each process adds a line for every kernel: name, launches.
struct Report {
    ~Report() {
        const char* path = std::getenv("SHIM_REPORT");
        FILE* file = path ? std::fopen(path, "a") : nullptr;
        if (!file) return;
        for (auto& [name, kernel] : kernels()) std::fprintf(file, "%s %lu\n", name.c_str(), kernel.launches);
        std::fclose(file);
    }
} report;

// An access outside of all memory, most often beyond a buffer's end.
void outside(int, siginfo_t* info, void*) {
    static char text[96];
    std::snprintf(text, sizeof text, "out of bounds: nothing may be read or written at %p", info->si_addr);
    if (current) fail(text);
    std::signal(SIGSEGV, SIG_DFL);
}

void catch_faults() {
    static unsigned char stack[64 << 10];
    stack_t other{};
    other.ss_sp = stack;
    other.ss_size = sizeof stack;
    sigaltstack(&other, nullptr);
    struct sigaction action{};
    action.sa_sigaction = outside;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}

}  // namespace

Index thread_index() { return current->index; }
Index block_index() { return current->block->index; }
Index block_size() { return current->block->launch->block; }
Index grid_size() { return current->block->launch->grid; }
unsigned char* shared_bytes() { return current->block->shared; }

void fail(const char* what) {
    if (current) {
        const Fiber& f = *current;
        Index block = f.block->index;
        std::fprintf(stderr, "shim: kernel %s, block (%u, %u, %u), thread (%u, %u, %u): %s\n",
                     f.block->launch->kernel.c_str(), block.x, block.y, block.z, f.index.x, f.index.y, f.index.z, what);
    } else {
        std::fprintf(stderr, "shim: %s\n", what);
    }
    std::fflush(stderr);
    _exit(86);
}

__attribute__((noinline)) void barrier(const char* file, int line) {
    Fiber* fiber = current;
    Block* block = fiber->block;
    char* order = &block->order[block->barriers % 2];
    fiber->file = file;
    fiber->line = line;
    fiber->state = Fiber::AT_BARRIER;
    block->at_barrier++;
    RELEASE(order);
    to_scheduler();
    ACQUIRE(order);
}

Slots& meet(unsigned mask, const char* what) {
    Fiber* fiber = current;
    if (!(mask >> fiber->lane & 1)) fail("a lane calls for a meeting that its mask leaves it out of");
    auto& meetings = fiber->warp->meetings;
    auto found = std::find_if(meetings.begin(), meetings.end(), [=](const Meeting& m) { return m.mask == mask; });
    if (found == meetings.end()) {
        meetings.emplace_back().mask = mask;
        found = meetings.end() - 1;
    }
    Meeting& meeting = *found;
    fiber->meeting = &meeting;
    fiber->turn = meeting.turns[fiber->lane]++;
    int parity = fiber->turn % 2;
    unsigned lanes = __builtin_popcount(mask);
    if (meeting.arrived[parity] % lanes == 0) meeting.what[parity] = what;
    if (meeting.what[parity] != what && std::strcmp(meeting.what[parity], what))
        fail("lanes of one warp meet in different operations");
    meeting.arrived[parity]++;
    return meeting.slots[parity];
}

__attribute__((noinline)) void wait() {
    Fiber* fiber = current;
    char* order = &fiber->meeting->order[fiber->turn % 2];
    RELEASE(order);
    fiber->state = Fiber::MEETING;
    if (!can_run(*fiber)) to_scheduler();
    fiber->state = Fiber::READY;
    ACQUIRE(order);
}

void copy_async(void* to, const void* from, size_t bytes, bool wanted) {
    uintptr_t addresses = reinterpret_cast<uintptr_t>(to) | (wanted ? reinterpret_cast<uintptr_t>(from) : 0);
    if (addresses % bytes) fail("a background copy between addresses that are no multiple of its size");
    Groups& groups = machine().groups[current->number];
    if (seed % 2 == 0) {
        wanted ? std::memcpy(to, from, bytes) : std::memset(to, 0, bytes);
        return;
    }
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({to, wanted ? from : nullptr, bytes});
}

void copies_end() { machine().groups[current->number].emplace_back(); }

void copies_left(int left) {
    Groups& groups = machine().groups[current->number];
    // The last group is the one that is still open.
    while (int(groups.size()) > left + 1) {
        for (const Copy& copy : groups.front())
            copy.from ? std::memcpy(copy.to, copy.from, copy.bytes) : std::memset(copy.to, 0, copy.bytes);
        groups.pop_front();
    }
}

bool known(const std::string& kernel) { return kernels().count(kernel) != 0; }

bool launch(const Launch& launch) {
    std::lock_guard<std::mutex> lock(one_launch);
    catch_faults();
    Kernel& kernel = kernels().at(launch.kernel);
    if (!fits(launch, kernel)) return false;
    Machine& all = machine();
    all.run = kernel.run;
    all.sanitizer = OWN_FIBER();
    all.random.seed(seed * 7919 + kernel.launches++);
    uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    for (uint64_t number = 0; number < blocks; number++) {
        uint64_t i = seed == 1 ? blocks - 1 - number : number;
        std::memset(all.shared.data(), 0xFF, launch.shared + 16);
        if (__start_shim_shared) std::memset(__start_shim_shared, 0xFF, __stop_shim_shared - __start_shim_shared);
        Block block{};
        block.launch = &launch;
        block.index = {unsigned(i % launch.grid.x), unsigned(i / launch.grid.x % launch.grid.y),
                       unsigned(i / (uint64_t(launch.grid.x) * launch.grid.y))};
        block.shared = reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(all.shared.data()) + 15) & ~15ull);
        run_block(block, launch.block.x * launch.block.y * launch.block.z);
    }
    return true;
}

Registered::Registered(const char* name, void (*run)(void**), int most_threads) {
    kernels()[name] = {run, most_threads, 0};
}

}  // namespace shim
