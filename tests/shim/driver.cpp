// libcuda.so.1 for tests: the functions of CUDA's driver that cudarc's safe layer calls, on the processor's memory, with
// kernels run by fibers. The first stream is synchronous; copies in others wait, with odd seeds, until something waits
// for them. Each allocation ends at pages that fault, is full of NaN when
// fresh, and the bytes around it are looked at when it is freed.
#include "fibers.h"
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <sys/mman.h>

namespace {

using Result = int;
using Address = unsigned long long;
using Handle = void*;
using Clock = std::chrono::steady_clock;
enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
    NOT_FOUND = 500
};

constexpr size_t CAPACITY = 4ull << 30;
constexpr size_t PAGE = 4096;
constexpr size_t FENCE = 1 << 20;  // before and behind an allocation
constexpr unsigned char FRESH = 0xFF;  // NaN as float and as double
constexpr int SHARED_WITHOUT_ASKING = 48 << 10;
constexpr int MAX_DYNAMIC_SHARED = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

struct Allocation { unsigned char* pages; size_t length, bytes; };
struct Function { std::string name; int most_shared; };
// A stream other than the first: how many copies it was told to do, and those that it has not done yet.
struct Stream { size_t told = 0; std::deque<std::function<void()>> left; };
struct Event { Clock::time_point when; Stream* stream = nullptr; size_t told = 0; };

std::mutex lock;
std::map<Address, Allocation> allocations;
size_t used = 0;
thread_local Handle context = nullptr;
std::mutex streams_lock;
std::set<Stream*> streams;

bool late() {
    const char* text = std::getenv("SHIM_SEED");
    return text && std::atoi(text) % 2;
}

// Does what the stream was told until it had been told `told` things.
void catch_up(Stream* stream, size_t told) {
    std::lock_guard<std::mutex> guard(streams_lock);
    if (!streams.count(stream)) return;  // it is done and gone
    while (!stream->left.empty() && stream->told - stream->left.size() < told) {
        stream->left.front()();
        stream->left.pop_front();
    }
}

int number_of(const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text ? std::atoi(text) : otherwise;
}

int devices() { return number_of("SHIM_DEVICES", 1); }

// SHIM_CARD is the compute capability: 80 stands for an A100, which has less shared memory than the H100 otherwise.
int generation() { return number_of("SHIM_CARD", 90); }

// SHIM_DRIVER is the newest CUDA that the driver serves: it loads nothing of a compiler (SHIM_COMPILER) that is newer.
int driver() { return number_of("SHIM_DRIVER", 13); }

int most_shared() {
    switch (generation()) {
        case 80: return 163 << 10;
        case 86: case 89: case 120: return 99 << 10;
        default: return (generation() < 80 ? 64 : 227) << 10;
    }
}

// SHIM_COUNTS names a file to which each process adds, at its end, how often it asked for what costs time on a GPU.
struct Counts {
    std::atomic<long> launches, copies, uploads, downloads, waits, allocations;
    ~Counts() {
        const char* path = std::getenv("SHIM_COUNTS");
        FILE* file = path ? std::fopen(path, "a") : nullptr;
        if (!file) return;
        std::fprintf(file, "launches %ld\ncopies %ld\nuploads %ld\ndownloads %ld\nwaits %ld\nallocations %ld\n",
                     launches.load(), copies.load(), uploads.load(), downloads.load(), waits.load(), allocations.load());
        std::fclose(file);
    }
} counts;

// What needs a context in its thread, and has none.
bool lost() { return !context; }

Result allocate(Address* out, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    if (!bytes) return INVALID_VALUE;
    if (used + bytes > CAPACITY) return OUT_OF_MEMORY;
    size_t body = (bytes + PAGE - 1) / PAGE * PAGE, length = body + 2 * FENCE;
    void* pages = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return OUT_OF_MEMORY;
    auto first = static_cast<unsigned char*>(pages);
    mprotect(first + FENCE, body, PROT_READ | PROT_WRITE);
    std::memset(first + FENCE, FRESH, body);
    // As near to the end as an alignment of 16 bytes lets it.
    unsigned char* at = first + FENCE + ((body - bytes) & ~size_t(15));
    *out = reinterpret_cast<Address>(at);
    allocations[*out] = {first, length, bytes};
    used += bytes;
    return SUCCESS;
}

Result release(Address address) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = allocations.find(address);
    if (found == allocations.end()) return INVALID_VALUE;
    auto [pages, length, bytes] = found->second;
    auto at = reinterpret_cast<unsigned char*>(address);
    for (unsigned char* p = pages + FENCE; p < pages + length - FENCE; p++)
        if ((p < at || p >= at + bytes) && *p != FRESH) shim::fail("out of bounds: bytes beside a buffer were written");
    munmap(pages, length);
    used -= bytes;
    allocations.erase(found);
    return SUCCESS;
}

Result copy(void* to, const void* from, size_t bytes) {
    std::memmove(to, from, bytes);
    return SUCCESS;
}

// A copy in a stream.
Result copy_in(Handle handle, void* to, const void* from, size_t bytes) {
    auto stream = static_cast<Stream*>(handle);
    if (!stream || !late()) return copy(to, from, bytes);
    std::lock_guard<std::mutex> guard(streams_lock);
    stream->told++;
    stream->left.push_back([=] { copy(to, from, bytes); });
    return SUCCESS;
}

void* pointer(Address address) { return reinterpret_cast<void*>(address); }

int attribute(int which) {
    switch (which) {
        case 1: return 1024;                    // MAX_THREADS_PER_BLOCK
        case 8: return SHARED_WITHOUT_ASKING;   // MAX_SHARED_MEMORY_PER_BLOCK
        case 10: return 32;                     // WARP_SIZE
        case 16: return 2;                      // MULTIPROCESSOR_COUNT
        case 75: return generation() / 10;      // COMPUTE_CAPABILITY_MAJOR
        case 76: return generation() % 10;      // COMPUTE_CAPABILITY_MINOR
        case 97: return most_shared();          // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        case 115: return 1;                     // MEMORY_POOLS_SUPPORTED
        default: return 0;
    }
}

const char* text_of(Result result) {
    switch (result) {
        case INVALID_VALUE: return "invalid argument";
        case OUT_OF_MEMORY: return "out of memory";
        case INVALID_DEVICE: return "invalid device ordinal";
        case INVALID_IMAGE: return "device kernel image is invalid";
        case INVALID_CONTEXT: return "invalid device context";
        case NOT_FOUND: return "named symbol not found";
        default: return "error";
    }
}

}  // namespace

extern "C" {

Result cuInit(unsigned) { return SUCCESS; }
Result cuDriverGetVersion(int* version) { *version = driver() * 1000; return SUCCESS; }
Result cuGetErrorString(Result result, const char** text) { *text = text_of(result); return SUCCESS; }
Result cuGetErrorName(Result result, const char** text) { *text = text_of(result); return SUCCESS; }

Result cuDeviceGetCount(int* count) { *count = devices(); return SUCCESS; }
Result cuDeviceGet(int* device, int nth) {
    if (nth < 0 || nth >= devices()) return INVALID_DEVICE;
    *device = nth;
    return SUCCESS;
}
Result cuDeviceGetName(char* name, int length, int) {
    std::snprintf(name, length, "fibers on the processor");
    return SUCCESS;
}
Result cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = CAPACITY; return SUCCESS; }
Result cuDeviceGetUuid(void* id, int device) { std::memset(id, device, 16); return SUCCESS; }
Result cuDeviceGetUuid_v2(void* id, int device) { return cuDeviceGetUuid(id, device); }
Result cuDeviceGetAttribute(int* value, int which, int) { *value = attribute(which); return SUCCESS; }

Result cuDevicePrimaryCtxRetain(Handle* out, int device) {
    *out = reinterpret_cast<Handle>(uintptr_t(0x1000 + device));
    return SUCCESS;
}
Result cuDevicePrimaryCtxRelease(int) { return SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Result cuCtxSetCurrent(Handle set) { context = set; return SUCCESS; }
Result cuCtxGetCurrent(Handle* out) { *out = context; return SUCCESS; }
Result cuCtxGetDevice(int* device) { *device = int(uintptr_t(context) - 0x1000); return SUCCESS; }
Result cuCtxSynchronize() { counts.waits++; return SUCCESS; }

// The one pool of a device: its attributes change nothing here.
Result cuDeviceGetDefaultMemPool(Handle* out, int device) {
    *out = reinterpret_cast<Handle>(uintptr_t(0x2000 + device));
    return SUCCESS;
}
Result cuMemPoolSetAttribute(Handle, int, void*) { return SUCCESS; }

Result cuMemAlloc_v2(Address* out, size_t bytes) { counts.allocations++; return allocate(out, bytes); }
Result cuMemAllocAsync(Address* out, size_t bytes, Handle) { counts.allocations++; return allocate(out, bytes); }
Result cuMemFree_v2(Address address) { return release(address); }
Result cuMemFreeAsync(Address address, Handle) { return release(address); }
Result cuMemGetInfo_v2(size_t* left, size_t* all) { *left = CAPACITY - used; *all = CAPACITY; return SUCCESS; }
Result cuMemHostAlloc(Handle* out, size_t bytes, unsigned) { *out = std::malloc(bytes); return SUCCESS; }
Result cuMemFreeHost(Handle memory) { std::free(memory); return SUCCESS; }
Result cuMemcpyHtoD_v2(Address to, const void* from, size_t n) { return copy(pointer(to), from, n); }
Result cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t n, Handle s) { counts.uploads++; return copy_in(s, pointer(to), from, n); }
Result cuMemcpyDtoH_v2(void* to, Address from, size_t n) { return copy(to, pointer(from), n); }
Result cuMemcpyDtoHAsync_v2(void* to, Address from, size_t n, Handle s) { counts.downloads++; return copy_in(s, to, pointer(from), n); }
Result cuMemcpyDtoD_v2(Address to, Address from, size_t n) { return copy(pointer(to), pointer(from), n); }
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t n, Handle s) { counts.copies++; return copy_in(s, pointer(to), pointer(from), n); }
Result cuMemsetD8_v2(Address to, unsigned char value, size_t n) { std::memset(pointer(to), value, n); return SUCCESS; }
Result cuMemsetD8Async(Address to, unsigned char value, size_t n, Handle) { return cuMemsetD8_v2(to, value, n); }

Result cuStreamCreate(Handle* out, unsigned) {
    std::lock_guard<std::mutex> guard(streams_lock);
    auto stream = new Stream;
    streams.insert(stream);
    *out = stream;
    return SUCCESS;
}
Result cuStreamCreateWithPriority(Handle* out, unsigned flags, int) { return cuStreamCreate(out, flags); }
Result cuStreamSynchronize(Handle stream) { counts.waits++; catch_up(static_cast<Stream*>(stream), SIZE_MAX); return SUCCESS; }
Result cuStreamDestroy_v2(Handle handle) {
    auto stream = static_cast<Stream*>(handle);
    catch_up(stream, SIZE_MAX);
    std::lock_guard<std::mutex> guard(streams_lock);
    streams.erase(stream);
    delete stream;
    return SUCCESS;
}
Result cuStreamQuery(Handle) { return SUCCESS; }
Result cuStreamWaitEvent(Handle, Handle handle, unsigned) {
    auto event = static_cast<Event*>(handle);
    if (event->stream) catch_up(event->stream, event->told);
    return SUCCESS;
}

Result cuEventCreate(Handle* out, unsigned) { *out = new Event{}; return SUCCESS; }
Result cuEventRecord(Handle handle, Handle in) {
    auto stream = static_cast<Stream*>(in);
    std::lock_guard<std::mutex> guard(streams_lock);
    *static_cast<Event*>(handle) = {Clock::now(), stream, stream ? stream->told : 0};
    return SUCCESS;
}
Result cuEventSynchronize(Handle event) { counts.waits++; return cuStreamWaitEvent(nullptr, event, 0); }
Result cuEventQuery(Handle) { return SUCCESS; }
Result cuEventElapsedTime_v2(float* milliseconds, Handle from, Handle to) {
    auto passed = static_cast<Event*>(to)->when - static_cast<Event*>(from)->when;
    *milliseconds = std::chrono::duration<float, std::milli>(passed).count();
    return SUCCESS;
}
Result cuEventElapsedTime(float* milliseconds, Handle from, Handle to) {
    return cuEventElapsedTime_v2(milliseconds, from, to);
}
Result cuEventDestroy_v2(Handle event) { delete static_cast<Event*>(event); return SUCCESS; }

// The kernels are in this library; the image is their file's name, as the compiler beside it makes it.
Result cuModuleLoadData(Handle* out, const void* image) {
    if (lost()) return INVALID_CONTEXT;
    std::string name(static_cast<const char*>(image));
    if (name.size() < 3 || name.substr(name.size() - 3) != ".cu") return INVALID_IMAGE;
    if (number_of("SHIM_COMPILER", 0) > driver()) return INVALID_IMAGE;
    *out = std::malloc(1);
    return SUCCESS;
}
Result cuModuleUnload(Handle module) { std::free(module); return SUCCESS; }
Result cuModuleGetFunction(Handle* out, Handle, const char* name) {
    if (lost()) return INVALID_CONTEXT;
    if (!shim::known(name)) return NOT_FOUND;
    *out = new Function{name, SHARED_WITHOUT_ASKING};
    return SUCCESS;
}
Result cuFuncSetAttribute(Handle function, int which, int value) {
    if (lost()) return INVALID_CONTEXT;
    if (which != MAX_DYNAMIC_SHARED) return SUCCESS;
    if (value > most_shared()) return INVALID_VALUE;
    static_cast<Function*>(function)->most_shared = value;
    return SUCCESS;
}
Result cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, Handle, void** arguments, void**) {
    if (lost()) return INVALID_CONTEXT;
    counts.launches++;
    auto& kernel = *static_cast<Function*>(function);
    if (int(shared) > kernel.most_shared) return INVALID_VALUE;
    return shim::launch({kernel.name, {gx, gy, gz}, {bx, by, bz}, shared, arguments}) ? SUCCESS : INVALID_VALUE;
}
}
