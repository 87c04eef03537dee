// Compares cublas_lt.h with cuBLASLt's own header, where CMake found that; nothing of it is called.
#include "cublas_lt.h"

#include <cublasLt.h>

namespace simmim::cuda::lt {

static_assert(kReal32F == CUDA_R_32F && kReal16BF == CUDA_R_16BF);
static_assert(kCompute32F == CUBLAS_COMPUTE_32F && kCompute32FFastTf32 == CUBLAS_COMPUTE_32F_FAST_TF32);
static_assert(kTranspose == CUBLAS_OP_T);
static_assert(kOperationTransA == CUBLASLT_MATMUL_DESC_TRANSA && kOperationTransB == CUBLASLT_MATMUL_DESC_TRANSB);
static_assert(kOperationEpilogue == CUBLASLT_MATMUL_DESC_EPILOGUE && kOperationBiasPointer == CUBLASLT_MATMUL_DESC_BIAS_POINTER);
static_assert(kEpilogueBias == CUBLASLT_EPILOGUE_BIAS);
static_assert(kLayoutBatchCount == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && kLayoutBatchOffset == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
static_assert(kPreferenceWorkspaceBytes == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && kPreferenceReductions == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
static_assert(kPreferenceAlignmentA == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES && kPreferenceAlignmentA + 1 == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
static_assert(kPreferenceAlignmentA + 2 == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES && kPreferenceAlignmentA + 3 == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(kReductionNone == CUBLASLT_REDUCTION_SCHEME_NONE && kReductionComputeType == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t) && sizeof(Heuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(Heuristic, workspace_bytes) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(Heuristic, status) == offsetof(cublasLtMatmulHeuristicResult_t, state));

/// Every pointer of Functions takes what the real function takes: handles are pointers, enumerations are int-sized.
static_assert(sizeof(cublasLtHandle_t) == sizeof(Handle) && sizeof(cublasLtMatmulDesc_t) == sizeof(Operation));
static_assert(sizeof(cudaDataType_t) == 4 && sizeof(cublasComputeType_t) == 4 && sizeof(cublasLtMatmulDescAttributes_t) == 4 && sizeof(cublasStatus_t) == 4);

}  // namespace simmim::cuda::lt
