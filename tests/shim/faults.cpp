// faults KERNEL: runs one kernel of faults.cu on 64 numbers 0..63 that end at a buffer's end, prints the sum of what
// they are then, and frees them.
#include <cstdio>

extern "C" {
int cuDevicePrimaryCtxRetain(void**, int);
int cuCtxSetCurrent(void*);
int cuMemAlloc_v2(unsigned long long*, size_t);
int cuMemFree_v2(unsigned long long);
int cuModuleGetFunction(void**, void*, const char*);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
}

int main(int count, char** arguments) {
    unsigned long long address;
    void *context, *kernel;
    if (count != 2 || cuDevicePrimaryCtxRetain(&context, 0)) return 2;
    // Without a context nothing is found.
    if (cuModuleGetFunction(&kernel, nullptr, arguments[1]) != 201 || cuCtxSetCurrent(context)) return 4;
    if (cuMemAlloc_v2(&address, 64 * sizeof(float)) || cuModuleGetFunction(&kernel, nullptr, arguments[1]))
        return 2;
    auto x = reinterpret_cast<float*>(address);
    for (int i = 0; i < 64; i++) x[i] = i;
    void* given[] = {&x};
    if (cuLaunchKernel(kernel, 1, 1, 1, 64, 1, 1, 64 * sizeof(float), nullptr, given, nullptr)) return 3;
    double sum = 0;
    for (int i = 0; i < 64; i++) sum += x[i];
    std::printf("sum %g\n", sum);
    return cuMemFree_v2(address);
}
