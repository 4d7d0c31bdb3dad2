// libnccl.so.2 for tests, beside the driver of driver.cpp: ranks are processes that meet in a file of /dev/shm, whose name
// is the unique id. Sums are added in the order of the ranks. As the real one it refuses two ranks on one device, wants a
// current context, lets nothing be called while something is in progress, and waits for all ranks when finalized.
// SHIM_NCCL=refuse lets joining fail on all ranks, refuse:1 on rank 1 alone, refuse-sum and refuse-sum:1 the first sum;
// SHIM_NCCL_REPORT names a file that gets a line for every communicator joined, finalized, destroyed and aborted.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

extern "C" {
int cuCtxGetCurrent(void** context);
int cuCtxGetDevice(int* device);
int cuStreamSynchronize(void* stream);
}

namespace {

enum Result { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, IN_PROGRESS = 7 };
constexpr int FLOAT32 = 7, SUM = 0;
constexpr int MOST_RANKS = 8;
constexpr size_t PIECE = 1 << 20;  // numbers of each rank that are in the file at a time
constexpr uint64_t VALID = 0x5348494d4e43434c;

// All ranks map it. A counter of each stage counts the ranks that have come there, once for every piece of a sum.
struct Meeting {
    std::atomic<unsigned> joined, given, taken, finalized;
    std::atomic<int> device[MOST_RANKS];
    float numbers[MOST_RANKS][PIECE];
};

struct UniqueId { char name[128]; };
struct Config { size_t size; unsigned magic, version; int blocking; };

struct Communicator {
    uint64_t valid = VALID;
    Meeting* meeting = nullptr;
    std::string name;
    unsigned rank = 0, size = 0;
    bool blocking = true, used = false;
    enum { JOINING, IDLE, GIVING, TAKING, FINALIZING, BROKEN } state = JOINING;
    float* numbers = nullptr;  // what is left of a sum
    size_t left = 0;
    unsigned pieces = 0;  // of all sums so far
};

thread_local const char* last = "";

Result broken(Result result, const char* why) { last = why; return result; }

void report(const char* what, unsigned rank) {
    const char* path = std::getenv("SHIM_NCCL_REPORT");
    if (!path) return;
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    std::string line = std::string(what) + " " + std::to_string(rank) + "\n";
    if (file < 0 || write(file, line.data(), line.size()) < 0) std::perror("SHIM_NCCL_REPORT");
    close(file);
}

// Whether SHIM_NCCL is `what`, for all ranks or for this one.
bool refused(const char* what, unsigned rank) {
    const char* text = std::getenv("SHIM_NCCL");
    std::string asked(text ? text : "");
    return asked == what || asked == std::string(what) + ":" + std::to_string(rank);
}

bool two_on_a_device(const Communicator& c) {
    std::vector<int> devices;
    for (unsigned r = 0; r < c.size; r++) devices.push_back(c.meeting->device[r]);
    std::sort(devices.begin(), devices.end());
    return std::adjacent_find(devices.begin(), devices.end()) != devices.end();
}

// Puts this rank's next piece where the others find it.
void give(Communicator& c) {
    std::copy_n(c.numbers, std::min(c.left, PIECE), c.meeting->numbers[c.rank]);
    c.pieces++;
    c.meeting->given++;
    c.state = Communicator::GIVING;
}

// Adds up a piece of all ranks.
void take(Communicator& c) {
    size_t count = std::min(c.left, PIECE);
    for (size_t i = 0; i < count; i++) {
        float sum = 0;
        for (unsigned r = 0; r < c.size; r++) sum += c.meeting->numbers[r][i];
        c.numbers[i] = sum;
    }
    c.numbers += count;
    c.left -= count;
    c.meeting->taken++;
    c.state = Communicator::TAKING;
}

// Goes on where the other ranks let it.
Result advance(Communicator& c) {
    Meeting& all = *c.meeting;
    switch (c.state) {
        case Communicator::IDLE: return SUCCESS;
        case Communicator::BROKEN: return SYSTEM_ERROR;
        case Communicator::JOINING:
            if (all.joined < c.size) return IN_PROGRESS;
            shm_unlink(c.name.c_str());
            c.state = two_on_a_device(c) ? Communicator::BROKEN : Communicator::IDLE;
            return c.state == Communicator::IDLE ? SUCCESS : broken(INVALID_USAGE, "Duplicate GPU detected");
        case Communicator::GIVING:
            if (all.given < c.pieces * c.size) return IN_PROGRESS;
            take(c);
            return IN_PROGRESS;
        case Communicator::TAKING:
            if (all.taken < c.pieces * c.size) return IN_PROGRESS;
            if (c.left) { give(c); return IN_PROGRESS; }
            c.state = Communicator::IDLE;
            return SUCCESS;
        case Communicator::FINALIZING:
            return all.finalized < c.size ? IN_PROGRESS : SUCCESS;
    }
    return SUCCESS;
}

// To the end where calls of this communicator wait.
Result done(Communicator& c) {
    Result result = advance(c);
    while (c.blocking && result == IN_PROGRESS) {
        usleep(50);
        result = advance(c);
    }
    return result;
}

bool bound() {
    void* context = nullptr;
    return cuCtxGetCurrent(&context) == 0 && context;
}

Result check(const Communicator* c) {
    if (!c || c->valid != VALID) return broken(INVALID_ARGUMENT, "no communicator");
    if (c->state != Communicator::IDLE) return broken(INVALID_USAGE, "something is in progress");
    return bound() ? SUCCESS : broken(INVALID_USAGE, "no current context");
}

void release(Communicator* c) {
    if (c->meeting) munmap(c->meeting, sizeof(Meeting));
    c->valid = 0;
    delete c;
}

Result join(Communicator** out, int size, const UniqueId& id, int rank, bool blocking) {
    *out = nullptr;
    int device = 0;
    if (size < 1 || size > MOST_RANKS || rank < 0 || rank >= size) return broken(INVALID_ARGUMENT, "no such rank");
    if (!bound() || cuCtxGetDevice(&device)) return broken(INVALID_USAGE, "no current context");
    if (refused("refuse", rank)) return broken(SYSTEM_ERROR, "it was told to refuse");
    int file = shm_open(id.name, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof(Meeting))) return broken(SYSTEM_ERROR, "no file in /dev/shm");
    void* memory = mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return broken(SYSTEM_ERROR, "no memory");
    auto c = *out = new Communicator;
    c->meeting = static_cast<Meeting*>(memory);
    c->name = id.name;
    c->rank = rank;
    c->size = size;
    c->blocking = blocking;
    c->meeting->device[rank] = device;
    c->meeting->joined++;
    report("joined", rank);
    return done(*c);
}

}  // namespace

extern "C" {

Result ncclGetUniqueId(UniqueId* id) {
    static std::atomic<int> number{0};
    std::memset(id, 0, sizeof *id);
    std::snprintf(id->name, sizeof id->name, "/shim-nccl-%d-%ld-%d", getpid(), long(time(nullptr)), number++);
    return SUCCESS;
}

Result ncclCommInitRank(Communicator** out, int size, UniqueId id, int rank) { return join(out, size, id, rank, true); }

Result ncclCommInitRankConfig(Communicator** out, int size, UniqueId id, int rank, const Config* config) {
    if (config->magic != 0xcafebeef || config->version < 21400 || config->size < sizeof(Config))
        return broken(INVALID_ARGUMENT, "no configuration");
    return join(out, size, id, rank, config->blocking != 0);
}

Result ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, Communicator* c, void* stream) {
    if (Result result = check(c)) return result;
    if (from != to || type != FLOAT32 || operation != SUM || !stream)
        return broken(INVALID_ARGUMENT, "only sums of floats in their place, in a stream of their own");
    if (!c->used && refused("refuse-sum", c->rank)) {
        c->state = Communicator::BROKEN;
        return broken(SYSTEM_ERROR, "it was told to refuse the sum");
    }
    cuStreamSynchronize(stream);
    c->used = true;
    c->numbers = static_cast<float*>(to);
    c->left = count;
    give(*c);
    return done(*c);
}

Result ncclCommGetAsyncError(Communicator* c, Result* state) {
    if (!c || c->valid != VALID) return broken(INVALID_ARGUMENT, "no communicator");
    *state = advance(*c);
    return SUCCESS;
}

Result ncclCommFinalize(Communicator* c) {
    if (Result result = check(c)) return result;
    report("finalized", c->rank);
    c->meeting->finalized++;
    c->state = Communicator::FINALIZING;
    return done(*c);
}

Result ncclCommDestroy(Communicator* c) {
    if (!c || c->valid != VALID) return broken(INVALID_ARGUMENT, "no communicator");
    if (c->state != Communicator::FINALIZING || advance(*c)) return broken(INVALID_USAGE, "it is not finalized");
    report("destroyed", c->rank);
    release(c);
    return SUCCESS;
}

Result ncclCommAbort(Communicator* c) {
    if (!c || c->valid != VALID) return broken(INVALID_ARGUMENT, "no communicator");
    report("aborted", c->rank);
    shm_unlink(c->name.c_str());
    release(c);
    return SUCCESS;
}

const char* ncclGetErrorString(Result result) {
    switch (result) {
        case SUCCESS: return "no error";
        case SYSTEM_ERROR: return "unhandled system error";
        case INVALID_ARGUMENT: return "invalid argument";
        case INVALID_USAGE: return "invalid usage";
        default: return "operation in progress";
    }
}

const char* ncclGetLastError(Communicator*) { return last; }
}
