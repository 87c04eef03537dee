// One device for one JavaScript environment: its stream, pinned memory for copies, graphs, and whether it is still there.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../core/device.h"
#include "stream.h"

namespace simmim::cuda {

/// Pinned host memory that copies to the device go through, so that the caller's memory is free again at once: a ring of
/// pieces, each with the event after which it may be overwritten.
class Staging {
 public:
  ~Staging();
  void write(void* to, const void* from, size_t bytes, cudaStream_t stream);

 private:
  static constexpr size_t kPieces = 4, kPieceBytes = size_t{4} << 20;
  struct Piece {
    void* memory = nullptr;
    cudaEvent_t free = nullptr;
  };
  Piece& next();
  Piece pieces_[kPieces];
  size_t turn_ = 0;
};

/// Pinned host memory by power of two, kept for reuse. Any thread.
class PinnedPool {
 public:
  ~PinnedPool();
  void* allocate(size_t bytes);
  void release(void* memory, size_t bytes);

 private:
  std::mutex mutex_;
  std::vector<void*> free_[64];
};

/// Work that was asked for, with the bytes it is to bring back.
struct Ticket {
  cudaEvent_t done = nullptr;
  void* pinned = nullptr;
  size_t bytes = 0;
};

class Graph {
 public:
  explicit Graph(cudaGraphExec_t exec) : exec(exec) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() { cudaGraphExecDestroy(exec); }
  cudaGraphExec_t exec;
};

class Session {
 public:
  explicit Session(int device);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  /// To be called first by everything below: throws Error{device_lost} for good once the device was lost.
  void enter() const;
  /// Remembers that the device is gone, and why.
  void lose(const char* why) { lost_ = why; }
  bool is_lost() const { return !lost_.empty(); }

  void* allocate(size_t bytes);
  void release(void* data);
  void write(void* to, const void* from, size_t bytes) { staging_.write(to, from, bytes, stream_.handle); }
  void read(void* to, const void* from, size_t bytes);
  void poison(void* data, size_t bytes);
  void run(const KernelCall& call);
  /// Captures the calls into a graph (graph.cc).
  std::unique_ptr<Graph> capture(const KernelCall* calls, size_t count);
  void launch(const Graph& graph);
  void synchronise();
  Ticket begin(const void* from, size_t bytes);
  void finish(const Ticket& ticket, void* to);

 private:
  int device_;
  Stream stream_;
  Staging staging_;
  PinnedPool pinned_;
  std::unique_ptr<Products> products_;
  std::string lost_;
};

}  // namespace simmim::cuda
