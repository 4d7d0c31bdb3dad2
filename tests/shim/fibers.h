// One fiber per CUDA thread, blocks in turn. Barriers and meetings of lanes are real; the order in which fibers run is
// chosen by SHIM_SEED: 0 forwards, 1 backwards, others shuffled anew at every stop, so that a missing barrier shows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace shim {

struct Index { unsigned x, y, z; };
constexpr size_t SLOT = 64;
struct Slots { alignas(16) unsigned char of[32][SLOT]; };

struct Block;
struct Warp;
struct Meeting;

struct Fiber {
    enum State { READY, AT_BARRIER, MEETING, DONE };
    void* stack_pointer = nullptr;
    Block* block = nullptr;
    Warp* warp = nullptr;
    Index index{};
    int number = 0, lane = 0;
    State state = READY;
    const char* file = nullptr;  // of the barrier where it waits
    int line = 0;
    Meeting* meeting = nullptr;  // where it waits
    unsigned turn = 0;           // of that meeting
    void* sanitizer = nullptr;   // ThreadSanitizer's fiber
};

extern Fiber* current;  // one launch runs at a time

Index thread_index();
Index block_index();
Index block_size();
Index grid_size();
unsigned char* shared_bytes();

// Ends the program with what is wrong, in which kernel, block and thread.
[[noreturn]] void fail(const char* what);

void barrier(const char* file, int line);
// Waits for the lanes of `mask`; `what` names the kind of meeting.
// Each writes what it gives between the two: `meet` gives the slots of the turn, `wait` waits for the others.
Slots& meet(unsigned mask, const char* what);
void wait();

// Background copies happen at once or, with odd seeds, as late as the waits allow.
void copy_async(void* to, const void* from, size_t bytes, bool wanted);
void copies_end();
void copies_left(int groups);

struct Launch {
    std::string kernel;
    Index grid, block;
    size_t shared;
    void** arguments;
};
// Whether a kernel of that name is there.
bool known(const std::string& kernel);
// Runs all blocks; false when the shape is one that a GPU refuses.
bool launch(const Launch& launch);

struct Registered {
    Registered(const char* name, void (*run)(void**), int most_threads);
};

}  // namespace shim
