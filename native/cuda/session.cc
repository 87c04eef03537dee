#include "session.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "../core/error.h"
#include "check.h"
#include "products.h"
#include "table.h"

namespace simmim::cuda {

Staging::~Staging() {
  for (Piece& piece : pieces_) {
    if (piece.free) cudaEventDestroy(piece.free);
    if (piece.memory) cudaFreeHost(piece.memory);
  }
}

Staging::Piece& Staging::next() {
  Piece& piece = pieces_[turn_++ % kPieces];
  if (!piece.memory) {
    SIMMIM_CUDA_CALL(cudaHostAlloc(&piece.memory, kPieceBytes, cudaHostAllocDefault));
    SIMMIM_CUDA_CALL(cudaEventCreateWithFlags(&piece.free, cudaEventDisableTiming));
  } else {
    SIMMIM_CUDA_CALL(cudaEventSynchronize(piece.free));
  }
  return piece;
}

void Staging::write(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  for (size_t at = 0; at < bytes; at += kPieceBytes) {
    const size_t n = std::min(kPieceBytes, bytes - at);
    Piece& piece = next();
    std::memcpy(piece.memory, static_cast<const char*>(from) + at, n);
    SIMMIM_CUDA_CALL(cudaMemcpyAsync(static_cast<char*>(to) + at, piece.memory, n, cudaMemcpyHostToDevice, stream));
    SIMMIM_CUDA_CALL(cudaEventRecord(piece.free, stream));
  }
}

PinnedPool::~PinnedPool() {
  for (auto& list : free_)
    for (void* memory : list) cudaFreeHost(memory);
}

static int class_of(size_t bytes) { return std::bit_width(std::max<size_t>(bytes, 4096) - 1); }

void* PinnedPool::allocate(size_t bytes) {
  const int size = class_of(bytes);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!free_[size].empty()) {
      void* memory = free_[size].back();
      free_[size].pop_back();
      return memory;
    }
  }
  void* memory = nullptr;
  SIMMIM_CUDA_CALL(cudaHostAlloc(&memory, size_t{1} << size, cudaHostAllocDefault));
  return memory;
}

void PinnedPool::release(void* memory, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  free_[class_of(bytes)].push_back(memory);
}

Session::Session(int device) : device_(device) {
  SIMMIM_CUDA_CALL(cudaSetDevice(device));
  cudaDeviceProp properties;
  SIMMIM_CUDA_CALL(cudaGetDeviceProperties(&properties, device));
  if (properties.major < 8) fail_as("unsupported", "%s has compute capability %d.%d, at least 8.0 (Ampere) is needed", properties.name, properties.major, properties.minor);
  stream_.multiprocessors = properties.multiProcessorCount;
  stream_.shared_limit = properties.sharedMemPerBlockOptin;
  SIMMIM_CUDA_CALL(cudaStreamCreateWithFlags(&stream_.handle, cudaStreamNonBlocking));
  products_ = std::make_unique<Products>();
  stream_.products = products_.get();
}

Session::~Session() {
  cudaStreamSynchronize(stream_.handle);
  products_.reset();
  cudaStreamDestroy(stream_.handle);
}

void Session::enter() const {
  if (!lost_.empty()) fail_as("device_lost", "the device was lost earlier, the process must be started again: %s", lost_.c_str());
  SIMMIM_CUDA_CALL(cudaSetDevice(device_));
}

void* Session::allocate(size_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMalloc");
  return data;
}

void Session::release(void* data) { SIMMIM_CUDA_CALL(cudaFree(data)); }

void Session::read(void* to, const void* from, size_t bytes) {
  SIMMIM_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_.handle));
  SIMMIM_CUDA_CALL(cudaStreamSynchronize(stream_.handle));
}

void Session::poison(void* data, size_t bytes) { SIMMIM_CUDA_CALL(cudaMemsetAsync(data, 0xff, bytes, stream_.handle)); }

void Session::run(const KernelCall& call) {
  try {
    kernel_table[call.kernel](call.args, stream_);
  } catch (Error& error) {
    error.set_op(kernel_names[call.kernel]);
    throw;
  }
}

void Session::synchronise() { SIMMIM_CUDA_CALL(cudaStreamSynchronize(stream_.handle)); }

Ticket Session::begin(const void* from, size_t bytes) {
  Ticket ticket;
  SIMMIM_CUDA_CALL(cudaEventCreateWithFlags(&ticket.done, cudaEventDisableTiming | cudaEventBlockingSync));
  if (bytes > 0) {
    ticket.bytes = bytes;
    ticket.pinned = pinned_.allocate(bytes);
    SIMMIM_CUDA_CALL(cudaMemcpyAsync(ticket.pinned, from, bytes, cudaMemcpyDeviceToHost, stream_.handle));
  }
  SIMMIM_CUDA_CALL(cudaEventRecord(ticket.done, stream_.handle));
  return ticket;
}

void Session::finish(const Ticket& ticket, void* to) {
  cudaSetDevice(device_);  // a thread's first call would otherwise make a context on device 0
  const cudaError_t status = cudaEventSynchronize(ticket.done);
  cudaEventDestroy(ticket.done);
  if (status == cudaSuccess && to && ticket.bytes > 0) std::memcpy(to, ticket.pinned, ticket.bytes);
  if (ticket.pinned) pinned_.release(ticket.pinned, ticket.bytes);
  check(status, "cudaEventSynchronize");
}

}  // namespace simmim::cuda
