// What the emulation must do right, and what it must find: kernels that are correct, and kernels with one fault each.
// Prints one line per check and ends with the number of those that failed.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../../../core/error.h"
#include "../../launch.cuh"
#include "../../mma.cuh"
#include "../../reduce.cuh"
#include "../../sort.cuh"
#include "../../vec.cuh"

namespace simmim::cuda {
namespace {

int failures = 0;

void report(const char* name, bool right, const std::string& detail = "") {
  printf("%s %s%s%s\n", right ? "ok  " : "FAIL", name, detail.empty() ? "" : ": ", detail.c_str());
  failures += !right;
}

/// Device memory of n values of T.
template <class T>
class Memory {
 public:
  explicit Memory(size_t n) : count_(n) {
    void* data = nullptr;
    SIMMIM_CUDA_CALL(cudaMalloc(&data, n * sizeof(T)));
    data_ = static_cast<T*>(data);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { cudaFree(data_); }
  T* get() const { return data_; }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + count_); }

 private:
  size_t count_;
  T* data_ = nullptr;
};

Stream& stream() {
  static Stream made = [] {
    Stream s;
    SIMMIM_CUDA_CALL(cudaStreamCreateWithFlags(&s.handle, cudaStreamNonBlocking));
    s.multiprocessors = 2;
    return s;
  }();
  return made;
}

/// The error that `body` throws, or "" when it throws none.
std::string error_of(const std::function<void()>& body) {
  try {
    body();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}
void expect_error(const char* name, const char* part, const std::function<void()>& body) {
  const std::string error = error_of(body);
  report(name, error.find(part) != std::string::npos, error.empty() ? "nothing was found" : error);
}

/// Whether `make` gives the same values in every order.
bool same_in_every_order(const std::function<std::vector<float>()>& make) {
  std::vector<std::vector<float>> all;
  for (const char* order : {"forward", "reverse", "shuffle"}) {
    setenv("SIMMIM_EMULATION_ORDER", order, 1);
    all.push_back(make());
  }
  setenv("SIMMIM_EMULATION_ORDER", "forward", 1);
  for (const auto& other : all)
    if (std::memcmp(other.data(), all[0].data(), other.size() * sizeof(float)) != 0) return false;
  return true;
}

__global__ void block_sums(const float* x, float* y) {
  __shared__ float scratch[kWarpSize];
  const float total = block_reduce(x[global_thread()], Sum{}, 0.0f, scratch);
  if (threadIdx.x == 0) y[blockIdx.x] = total;
}
void check_reductions() {
  Memory<float> x(8 * 160), y(8);
  for (int i = 0; i < 8 * 160; i++) x.get()[i] = static_cast<float>(i % 7);
  const auto sums = [&] {
    launch(stream(), &block_sums, Grid{dim3(8), dim3(160)}, x.get(), y.get());
    return y.values();
  };
  float wanted = 0;
  for (int i = 0; i < 160; i++) wanted += static_cast<float>(i % 7);
  report("block_reduce sums 160 threads", sums()[0] == wanted);
  report("block_reduce has the same bits in every order", same_in_every_order(sums));
}

__global__ void warp_operations(int* y) {
  const int lane = threadIdx.x;
  y[lane] = __shfl_up_sync(kAllLanes, lane, 3) + 100 * __shfl_down_sync(kAllLanes, lane, 5u, 16) + 10000 * __shfl_xor_sync(kAllLanes, lane, 9);
  const unsigned votes = __ballot_sync(kAllLanes, lane % 3 == 0);
  if (lane == 0) y[32] = static_cast<int>(votes & 0xffff);
  if (lane < 16) y[33 + lane] = __shfl_sync(0xffffu, lane * lane, 7);  // half a warp among itself
}
void check_warp_operations() {
  Memory<int> y(49);
  launch(stream(), &warp_operations, Grid{dim3(1), dim3(32)}, y.get());
  bool right = true;
  for (int lane = 0; lane < 32; lane++) {
    const int up = lane < 3 ? lane : lane - 3, down = lane % 16 + 5 < 16 ? lane + 5 : lane;
    right = right && y.get()[lane] == up + 100 * down + 10000 * (lane ^ 9);
  }
  report("shuffles", right && y.get()[33] == 49 && y.get()[48] == 49);
  report("votes", y.get()[32] == 0x9249);
}

/// D = A B of random bf16 values, 16 x 16 x 8, through fragments; `transposed`: A lies the other way round.
__global__ void multiply_fragments(const uint16_t* a, const uint16_t* b, float* d, bool transposed) {
  uint32_t fa[4], fb[2];
  if (transposed) load_a_transposed(fa, a, 16);
  else load_a_16x16(fa, a, 16);
  load_b_16x8(fb, b, 8);
  float sums[4] = {};
  multiply_16x8x16(sums, fa, fb);
  for (int i = 0; i < 4; i++) d[fragment_row(i) * 8 + fragment_column(i)] = sums[i];
}
void check_fragments() {
  Memory<uint16_t> a(16 * 16), b(16 * 8);
  Memory<float> d(16 * 8);
  for (int i = 0; i < 256; i++) a.get()[i] = float_to_bf16(static_cast<float>((i * 37) % 19 - 9));
  for (int i = 0; i < 128; i++) b.get()[i] = float_to_bf16(static_cast<float>((i * 53) % 23 - 11));
  for (const bool transposed : {false, true}) {
    launch(stream(), &multiply_fragments, Grid{dim3(1), dim3(32)}, a.get(), b.get(), d.get(), transposed);
    bool right = true;
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 8; j++) {
        float sum = 0;
        for (int l = 0; l < 16; l++) sum += bf16_to_float(a.get()[transposed ? l * 16 + i : i * 16 + l]) * bf16_to_float(b.get()[l * 8 + j]);
        right = right && d.get()[i * 8 + j] == sum;
      }
    report(transposed ? "matrix fragments of a transposed matrix" : "matrix fragments", right);
  }
}

void check_sort() {
  for (const int64_t size : {2, 64, 2048, 8192}) {
    Memory<uint64_t> keys(static_cast<size_t>(3 * size));
    for (int64_t i = 0; i < 3 * size; i++) keys.get()[i] = static_cast<uint64_t>(i * 2654435761u % 100003);
    sort_rows(stream(), keys.get(), 3, size);
    bool right = true;
    for (int64_t i = 1; i < 3 * size; i++) right = right && (i % size == 0 || keys.get()[i - 1] <= keys.get()[i]);
    report(("bitonic sort of rows of " + std::to_string(size)).c_str(), right);
  }
}

__global__ void write_one_too_many(float* y, int n) {
  if (static_cast<int>(threadIdx.x) <= n) y[threadIdx.x] = 1;
}
__global__ void write_outside_shared(float* y) {
  float* shared = shared_memory<float>();
  shared[threadIdx.x + 1] = 1;
  y[threadIdx.x] = shared[threadIdx.x];
}
/// Reads what the neighbour writes, without a barrier in between.
__global__ void race(float* y) {
  float* shared = shared_memory<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  y[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}
/// Blocks add to the same value, one after the other: the order is not defined.
__global__ void add_to_one_value(float* y) {
  if (threadIdx.x == 0) y[0] = y[0] * 1.5f + static_cast<float>(blockIdx.x);
}
__global__ void barrier_for_half() {
  if (threadIdx.x < blockDim.x / 2) __syncthreads();
}
__global__ void shuffle_without_everybody(int* y) {
  if (threadIdx.x < 20) y[threadIdx.x] = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x), 0);
}
__global__ void load_pack_off_by_one(const float* x, float* y) { store_pack(y, load_pack(x + 1)); }
__global__ void load_matrix_off_by_one(const uint16_t* b, uint32_t* y) {
  uint32_t fragment[2];
  load_b_16x8(fragment, b + 1, 8);
  y[threadIdx.x] = fragment[0];
}
__global__ void read_before_writing(float* y) { y[threadIdx.x] = shared_memory<float>()[threadIdx.x]; }

void check_faults() {
  Memory<float> y(32);
  Memory<int> z(32);
  expect_error("a write behind device memory is found", "wrote outside a block of 128 bytes", [&] { launch(stream(), &write_one_too_many, Grid{dim3(1), dim3(64)}, y.get(), 32); });
  expect_error("a write behind shared memory is found", "wrote outside its 128 bytes of shared memory", [&] { launch(stream(), &write_outside_shared, Grid{dim3(1), dim3(32), 128}, y.get()); });
  expect_error("a barrier that half of the block reaches is found", "16 of 32 threads wait at a barrier", [&] { launch(stream(), &barrier_for_half, Grid{dim3(1), dim3(32)}); });
  expect_error("a warp operation that lacks lanes is found", "20 in a warp operation", [&] { launch(stream(), &shuffle_without_everybody, Grid{dim3(1), dim3(32)}, z.get()); });
  expect_error("a vector at an odd address is found", "an access of 16 bytes at address", [&] { launch(stream(), &load_pack_off_by_one, Grid{dim3(1), dim3(1)}, y.get(), y.get()); });
  Memory<uint16_t> b(17 * 8);
  Memory<uint32_t> fragments(32);
  expect_error("a matrix row at an odd address is found", "an access of 16 bytes at address", [&] { launch(stream(), &load_matrix_off_by_one, Grid{dim3(1), dim3(32)}, b.get(), fragments.get()); });
  expect_error("a grid without blocks is refused", "cudaErrorInvalidConfiguration", [&] { launch(stream(), &barrier_for_half, Grid{dim3(0), dim3(32)}); });
  expect_error("more shared memory than a block has is refused", "cudaErrorInvalidConfiguration", [&] { launch(stream(), &race, Grid{dim3(1), dim3(32), 1 << 20}, y.get()); });
  report("a missing barrier shows in another order", !same_in_every_order([&] {
           launch(stream(), &race, Grid{dim3(1), dim3(32), 128}, y.get());
           return y.values();
         }));
  report("a race between blocks shows in another order", !same_in_every_order([&] {
           y.get()[0] = 0;
           launch(stream(), &add_to_one_value, Grid{dim3(7), dim3(32)}, y.get());
           return std::vector<float>{y.get()[0]};
         }));
  launch(stream(), &read_before_writing, Grid{dim3(1), dim3(32), 128}, y.get());
  report("shared memory that nobody wrote is NaN", y.get()[5] != y.get()[5]);
}

void check_graph() {
  Memory<float> y(32);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  for (int i = 0; i < 32; i++) y.get()[i] = 0;
  SIMMIM_CUDA_CALL(cudaStreamBeginCapture(stream().handle, cudaStreamCaptureModeThreadLocal));
  launch(stream(), &add_to_one_value, Grid{dim3(3), dim3(32)}, y.get());
  SIMMIM_CUDA_CALL(cudaStreamEndCapture(stream().handle, &graph));
  const bool waited = y.get()[0] == 0;
  SIMMIM_CUDA_CALL(cudaGraphInstantiate(&exec, graph, 0));
  SIMMIM_CUDA_CALL(cudaGraphDestroy(graph));
  SIMMIM_CUDA_CALL(cudaGraphLaunch(exec, stream().handle));
  SIMMIM_CUDA_CALL(cudaGraphLaunch(exec, stream().handle));
  SIMMIM_CUDA_CALL(cudaGraphExecDestroy(exec));
  report("a captured launch runs with its graph, each time", waited && y.get()[0] == ((3.5f) * 1.5f * 1.5f + 1) * 1.5f + 2);
}

/// What a graph cannot hold is refused while one is recorded, and only then.
void check_capture() {
  Memory<float> y(4);
  float host[4] = {};
  void* data = nullptr;
  cudaGraph_t graph = nullptr;
  const cudaStream_t handle = stream().handle;
  const auto refused = [](cudaError_t status) { return status == cudaErrorStreamCaptureUnsupported; };
  SIMMIM_CUDA_CALL(cudaStreamBeginCapture(handle, cudaStreamCaptureModeThreadLocal));
  report("a capture refuses to allocate and free", refused(cudaMalloc(&data, 4)) && refused(cudaFree(y.get())) && refused(cudaHostAlloc(&data, 4, cudaHostAllocDefault)));
  report("a capture refuses to wait", refused(cudaStreamSynchronize(handle)));
  report("a capture refuses copies from and to the host", refused(cudaMemcpyAsync(y.get(), host, 4, cudaMemcpyHostToDevice, handle)) && refused(cudaMemcpyAsync(host, y.get(), 4, cudaMemcpyDeviceToHost, handle)));
  const bool takes = cudaMemcpyAsync(y.get() + 1, y.get(), 4, cudaMemcpyDeviceToDevice, handle) == cudaSuccess && cudaMemsetAsync(y.get(), 0, 4, handle) == cudaSuccess;
  SIMMIM_CUDA_CALL(cudaStreamEndCapture(handle, &graph));
  SIMMIM_CUDA_CALL(cudaGraphDestroy(graph));
  report("a capture takes copies and fills on the device", takes && cudaStreamSynchronize(handle) == cudaSuccess);
}

}  // namespace
}  // namespace simmim::cuda

int main() {
  using namespace simmim::cuda;
  check_reductions();
  check_warp_operations();
  check_fragments();
  check_sort();
  check_faults();
  check_graph();
  check_capture();
  printf("%d failed\n", failures);
  return failures > 0;
}
