#include "check.h"

#include <cstring>

#include "../core/error.h"

namespace simmim::cuda {
namespace {

/// After these every call fails until the process ends.
bool is_final(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorUnknown: return true;
    default: return false;
  }
}

const char* code_of(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation: return "out_of_memory";
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorNoKernelImageForDevice: return "unsupported";
    default: return is_final(status) ? "device_lost" : "internal";
  }
}

/// The part of a path below native/.
const char* short_name(const char* path) {
  const char* found = std::strstr(path, "native/");
  return found ? found : path;
}

}  // namespace

void fail_cuda(cudaError_t status, const char* call, const std::source_location& where) {
  cudaGetLastError();  // forgets what is not final
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) fail_as("unsupported", "there is no NVIDIA driver on this machine (the plugin was built for CUDA %d.%d)", runtime / 1000, runtime % 1000 / 10);
    fail_as("unsupported", "the NVIDIA driver supports CUDA %d.%d, the plugin was built for %d.%d: update the driver", driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  }
  if (status == cudaErrorNoDevice) fail_as("unsupported", "the NVIDIA driver finds no device (CUDA_VISIBLE_DEVICES hides those it does not list)");
  if (status == cudaErrorSystemNotReady) fail_as("unsupported", "the GPUs of this machine are not ready: its fabric manager (nvidia-fabricmanager) is not running or still starts");
  fail_as(code_of(status), "%s: %s (%s at %s:%u)", cudaGetErrorName(status), cudaGetErrorString(status), call, short_name(where.file_name()), static_cast<unsigned>(where.line()));
}

}  // namespace simmim::cuda
