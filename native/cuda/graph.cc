// A recorded program as one CUDA graph: the list of calls is run once while the stream records what it is asked for.
#include <cstdlib>
#include <cstring>

#include "../core/error.h"
#include "check.h"
#include "session.h"

namespace simmim::cuda {
namespace {

/// SIMMIM_CUDA_GRAPH=0 replays the list of calls instead, for debugging.
bool wants_graphs() {
  const char* wish = std::getenv("SIMMIM_CUDA_GRAPH");
  return !wish || std::strcmp(wish, "0") != 0;
}

}  // namespace

std::unique_ptr<Graph> Session::capture(const KernelCall* calls, size_t count) {
  if (!wants_graphs()) return nullptr;
  cudaGraph_t graph = nullptr;
  // Thread-local: other environments and threads that wait may go on calling CUDA meanwhile.
  SIMMIM_CUDA_CALL(cudaStreamBeginCapture(stream_.handle, cudaStreamCaptureModeThreadLocal));
  try {
    for (size_t i = 0; i < count; i++) run(calls[i]);
  } catch (...) {
    if (cudaStreamEndCapture(stream_.handle, &graph) == cudaSuccess && graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  SIMMIM_CUDA_CALL(cudaStreamEndCapture(stream_.handle, &graph));
  cudaGraphExec_t exec = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  check(made, "cudaGraphInstantiate");
  auto out = std::make_unique<Graph>(exec);
  SIMMIM_CUDA_CALL(cudaGraphUpload(exec, stream_.handle));
  return out;
}

void Session::launch(const Graph& graph) { SIMMIM_CUDA_CALL(cudaGraphLaunch(graph.exec, stream_.handle)); }

}  // namespace simmim::cuda
