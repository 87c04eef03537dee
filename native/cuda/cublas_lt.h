// The part of cuBLASLt's interface that products_lt.cc uses, declared here because the toolkit that compiles the plugin
// need not have cuBLAS. Where its header is found, cublas_lt_check.cc compares.
#pragma once
#include <cstddef>
#include <cstdint>

#include "library.h"
#include "runtime.h"

namespace simmim::cuda::lt {

using Handle = void*;
using Operation = void*;   // cublasLtMatmulDesc_t
using Layout = void*;      // cublasLtMatrixLayout_t
using Preference = void*;  // cublasLtMatmulPreference_t

constexpr int32_t kReal32F = 0, kReal16BF = 14;                    // cudaDataType_t
constexpr int32_t kCompute32F = 68, kCompute32FFastTf32 = 77;      // cublasComputeType_t
constexpr int32_t kTranspose = 1;                                  // cublasOperation_t
constexpr int32_t kOperationTransA = 3, kOperationTransB = 4, kOperationEpilogue = 7, kOperationBiasPointer = 8;
constexpr int32_t kEpilogueBias = 4;
constexpr int32_t kLayoutBatchCount = 5, kLayoutBatchOffset = 6;
constexpr int32_t kPreferenceWorkspaceBytes = 1, kPreferenceReductions = 3, kPreferenceAlignmentA = 5;  // B, C, D follow A
constexpr uint32_t kReductionNone = 0, kReductionComputeType = 2;

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int32_t status;
  float waves;
  int32_t reserved[4];
};

/// Status 0 is success everywhere.
struct Functions {
  explicit Functions(const Library& library) {
    library.bind(create, "cublasLtCreate");
    library.bind(destroy, "cublasLtDestroy");
    library.bind(status_name, "cublasLtGetStatusName");
    library.bind(operation_create, "cublasLtMatmulDescCreate");
    library.bind(operation_set, "cublasLtMatmulDescSetAttribute");
    library.bind(operation_destroy, "cublasLtMatmulDescDestroy");
    library.bind(layout_create, "cublasLtMatrixLayoutCreate");
    library.bind(layout_set, "cublasLtMatrixLayoutSetAttribute");
    library.bind(layout_destroy, "cublasLtMatrixLayoutDestroy");
    library.bind(preference_create, "cublasLtMatmulPreferenceCreate");
    library.bind(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    library.bind(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    library.bind(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    library.bind(matmul, "cublasLtMatmul");
  }
  int (*create)(Handle*);
  int (*destroy)(Handle);
  const char* (*status_name)(int);
  int (*operation_create)(Operation*, int32_t compute, int32_t scale);
  int (*operation_set)(Operation, int32_t attribute, const void*, size_t);
  int (*operation_destroy)(Operation);
  int (*layout_create)(Layout*, int32_t type, uint64_t rows, uint64_t columns, int64_t ld);
  int (*layout_set)(Layout, int32_t attribute, const void*, size_t);
  int (*layout_destroy)(Layout);
  int (*preference_create)(Preference*);
  int (*preference_set)(Preference, int32_t attribute, const void*, size_t);
  int (*preference_destroy)(Preference);
  int (*heuristic)(Handle, Operation, Layout a, Layout b, Layout c, Layout d, Preference, int wanted, Heuristic*, int* found);
  int (*matmul)(Handle, Operation, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta, const void* c, Layout, void* d, Layout,
                const Algorithm*, void* workspace, size_t workspace_bytes, cudaStream_t);
};

}  // namespace simmim::cuda::lt
