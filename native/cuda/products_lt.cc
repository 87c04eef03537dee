// Matrix products by cuBLASLt. It thinks in columns: a row-major C = A B is a column-major Cᵀ = Bᵀ Aᵀ, so the operands
// are handed over in exchanged roles and nothing is transposed in memory.
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>

#include "../core/error.h"
#include "check.h"
#include "cublas_lt.h"
#include "products.h"

namespace simmim::cuda {
namespace {

/// SIMMIM_TF32=1 lets f32 products round their operands to 10 bits for the tensor cores.
bool wants_tf32() {
  const char* wish = std::getenv("SIMMIM_TF32");
  return wish && !std::strcmp(wish, "1");
}

constexpr size_t kWorkspace = size_t{32} << 20;

/// A library object that is destroyed with its owner.
template <class T>
class Owned {
 public:
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (value) destroy(value);
  }
  T value = nullptr;
  int (*destroy)(T) = nullptr;
};

uint32_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  return static_cast<uint32_t>(address == 0 ? 256 : std::min<uintptr_t>(address & (~address + 1), 256));
}

}  // namespace

struct Products::State {
  lt::Functions functions{cublas_lt()};
  lt::Handle handle = nullptr;
  void* workspace = nullptr;
  void* scratch = nullptr;
  bool tf32 = wants_tf32();
  /// Chosen once for each shape, so that a shape has one result.
  std::map<std::array<int64_t, 20>, lt::Algorithm> algorithms;

  State() {
    require_ok(functions.create(&handle), "cublasLtCreate");
    SIMMIM_CUDA_CALL(cudaMalloc(&workspace, kWorkspace));
    SIMMIM_CUDA_CALL(cudaMalloc(&scratch, kScratch));
  }
  ~State() {
    cudaFree(scratch);
    cudaFree(workspace);
    functions.destroy(handle);
  }
  void require_ok(int status, const char* call) const {
    if (status != 0) fail_as("internal", "%s: %s", call, functions.status_name(status));
  }
  void layout(Owned<lt::Layout>& out, int32_t type, int64_t rows, int64_t columns, int64_t ld, int64_t batch, int64_t step) const {
    out.destroy = functions.layout_destroy;
    require_ok(functions.layout_create(&out.value, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), ld), "cublasLtMatrixLayoutCreate");
    if (batch == 1) return;
    const auto count = static_cast<int32_t>(batch);
    require_ok(functions.layout_set(out.value, lt::kLayoutBatchCount, &count, sizeof count), "cublasLtMatrixLayoutSetAttribute");
    require_ok(functions.layout_set(out.value, lt::kLayoutBatchOffset, &step, sizeof step), "cublasLtMatrixLayoutSetAttribute");
  }
  template <class T>
  void set(lt::Operation operation, int32_t attribute, const T& value) const {
    require_ok(functions.operation_set(operation, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }
  template <class T>
  void prefer(lt::Preference preference, int32_t attribute, const T& value) const {
    require_ok(functions.preference_set(preference, attribute, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
  }
};

Products::Products() = default;
Products::~Products() = default;

void* Products::scratch() {
  if (!state_) state_ = std::make_unique<State>();
  return state_->scratch;
}

void Products::run(const Product& p, Stream& stream) {
  if (!state_) state_ = std::make_unique<State>();
  State& s = *state_;
  const int32_t operands = p.operands == DType::f32 ? lt::kReal32F : lt::kReal16BF, result = p.result == DType::f32 ? lt::kReal32F : lt::kReal16BF;
  Owned<lt::Operation> operation;
  operation.destroy = s.functions.operation_destroy;
  s.require_ok(s.functions.operation_create(&operation.value, s.tf32 && p.operands == DType::f32 ? lt::kCompute32FFastTf32 : lt::kCompute32F, lt::kReal32F), "cublasLtMatmulDescCreate");
  // In columns: the first operand is Bᵀ, the second Aᵀ, the result Cᵀ.
  if (p.transpose_b) s.set(operation.value, lt::kOperationTransA, lt::kTranspose);
  if (p.transpose_a) s.set(operation.value, lt::kOperationTransB, lt::kTranspose);
  if (p.bias) {
    s.set(operation.value, lt::kOperationEpilogue, lt::kEpilogueBias);
    s.set(operation.value, lt::kOperationBiasPointer, p.bias);
  }
  Owned<lt::Layout> first, second, out;
  s.layout(first, operands, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.ldb, p.batch, p.b_step);
  s.layout(second, operands, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.lda, p.batch, p.a_step);
  s.layout(out, result, p.n, p.m, p.ldc, p.batch, p.c_step);
  const void* addend = p.addend ? p.addend : p.c;

  const std::array<uint32_t, 4> alignments{alignment_of(p.b), alignment_of(p.a), alignment_of(addend), alignment_of(p.c)};
  const std::array<int64_t, 20> key{p.m, p.n, p.k, p.batch, operands, result, p.lda, p.ldb, p.ldc, p.transpose_a, p.transpose_b, p.a_step, p.b_step, p.c_step,
                                    p.addend != nullptr, p.bias ? alignment_of(p.bias) : 0, alignments[0], alignments[1], alignments[2], alignments[3]};
  auto found = s.algorithms.find(key);
  if (found == s.algorithms.end()) {
    Owned<lt::Preference> preference;
    preference.destroy = s.functions.preference_destroy;
    s.require_ok(s.functions.preference_create(&preference.value), "cublasLtMatmulPreferenceCreate");
    s.prefer(preference.value, lt::kPreferenceWorkspaceBytes, kWorkspace);
    // Partial sums of a cut K are combined through the workspace, in order; in place would depend on who comes first.
    s.prefer(preference.value, lt::kPreferenceReductions, lt::kReductionNone | lt::kReductionComputeType);
    for (int i = 0; i < 4; i++) s.prefer(preference.value, lt::kPreferenceAlignmentA + i, alignments[static_cast<size_t>(i)]);
    lt::Heuristic best{};
    int count = 0;
    s.require_ok(s.functions.heuristic(s.handle, operation.value, first.value, second.value, out.value, out.value, preference.value, 1, &best, &count), "cublasLtMatmulAlgoGetHeuristic");
    if (count == 0 || best.status != 0) fail_as("unsupported", "cuBLASLt has no algorithm for a product of %lld x %lld x %lld", (long long)p.m, (long long)p.n, (long long)p.k);
    found = s.algorithms.emplace(key, best.algorithm).first;
  }
  const float one = 1, zero = 0;
  s.require_ok(s.functions.matmul(s.handle, operation.value, &one, p.b, first.value, p.a, second.value, p.addend ? &one : &zero, addend, out.value, p.c, out.value, &found->second,
                                  s.workspace, kWorkspace, stream.handle),
               "cublasLtMatmul");
}

}  // namespace simmim::cuda
