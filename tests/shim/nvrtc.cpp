// libnvrtc.so for tests: "compiles" a program to its own name, as the driver beside it has the kernels already. Its
// version, 0.0, keeps what it makes apart from what a real compiler left in the cache; SHIM_COMPILER is another one.
// SHIM_BUILTINS=missing stands for an installation that lacks a part.
#include <cstdlib>
#include <cstring>
#include <string>

namespace {
struct Program { std::string name; };

const char* setting(const char* name) {
    const char* text = std::getenv(name);
    return text ? text : "";
}

const char* log_of_compiler() {
    return std::strcmp(setting("SHIM_BUILTINS"), "missing") ? "" : "nvrtc: error: failed to open libnvrtc-builtins.so.13.0.";
}
}

extern "C" {
int nvrtcVersion(int* major, int* minor) { *major = std::atoi(setting("SHIM_COMPILER")); *minor = 0; return 0; }
const char* nvrtcGetErrorString(int) { return "no error"; }
int nvrtcCreateProgram(Program** out, const char*, const char* name, int, const char* const*, const char* const*) {
    *out = new Program{name};
    return 0;
}
int nvrtcDestroyProgram(Program** program) { delete *program; *program = nullptr; return 0; }
int nvrtcCompileProgram(Program*, int, const char* const*) { return *log_of_compiler() ? 6 : 0; }
int nvrtcGetProgramLogSize(Program*, size_t* size) { *size = std::strlen(log_of_compiler()) + 1; return 0; }
int nvrtcGetProgramLog(Program*, char* log) { std::strcpy(log, log_of_compiler()); return 0; }
int nvrtcGetCUBINSize(Program* program, size_t* size) { *size = program->name.size() + 1; return 0; }
int nvrtcGetCUBIN(Program* program, char* out) { std::strcpy(out, program->name.c_str()); return 0; }
}
