# The CUDA plugin, libsimmim_cuda.so, where there is a CUDA compiler, and libsimmim_cuda_emulated.so, the same sources for
# the host. A kernel of kernels.def without a CUDA version is a link error in both.
file(GLOB CUDA_HOST_SOURCES CONFIGURE_DEPENDS cuda/*.cc kernels/*.cuda.cc)
file(GLOB CUDA_DEVICE_SOURCES CONFIGURE_DEPENDS cuda/*.cu kernels/*.cu)
file(GLOB CUDA_EMULATION_SOURCES CONFIGURE_DEPENDS cuda/emulation/*.cc)
list(APPEND CUDA_HOST_SOURCES core/error.cc kernels/fingerprint.cc)

function(finish_plugin name build)
  target_compile_definitions(${name} PRIVATE "SIMMIM_CUDA_BUILD=\"${build}\"")
  target_link_libraries(${name} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  target_link_options(${name} PRIVATE -Wl,--no-undefined)
endfunction()

if(SIMMIM_CUDA STREQUAL "AUTO")
  include(CheckLanguage)
  check_language(CUDA)
  set(SIMMIM_BUILD_CUDA ${CMAKE_CUDA_COMPILER})
else()
  set(SIMMIM_BUILD_CUDA ${SIMMIM_CUDA})
endif()

if(SIMMIM_BUILD_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # the targets are named below, in words that every CMake passes on
  enable_language(CUDA)
  foreach(kind STANDARD EXTENSION)  # CMake before 3.26 does not know that nvcc 12 speaks C++20
    if(NOT CMAKE_CUDA20_${kind}_COMPILE_OPTION)
      set(CMAKE_CUDA20_${kind}_COMPILE_OPTION "-std=c++20")
    endif()
  endforeach()
  add_library(simmim_cuda SHARED ${CUDA_HOST_SOURCES} ${CUDA_DEVICE_SOURCES})
  target_include_directories(simmim_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_compile_options(simmim_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-O3;-lineinfo;-Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers,-Wno-parentheses>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-gencode arch=compute_80,code=sm_80>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-gencode arch=compute_90a,code=sm_90a>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-gencode arch=compute_90,code=compute_90>")
  if(SIMMIM_WERROR)
    target_compile_options(simmim_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings -Xcompiler=-Werror>")
  endif()
  set_target_properties(simmim_cuda PROPERTIES CUDA_STANDARD 20 CUDA_RUNTIME_LIBRARY Static CUDA_VISIBILITY_PRESET hidden)
  # cuBLASLt is opened at run time; its header, where there is one, checks our declarations (cublas_lt_check.cc).
  find_path(SIMMIM_CUBLASLT_INCLUDE cublasLt.h HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  if(SIMMIM_CUBLASLT_INCLUDE)
    target_include_directories(simmim_cuda SYSTEM PRIVATE ${SIMMIM_CUBLASLT_INCLUDE})
  else()
    set_source_files_properties(cuda/cublas_lt_check.cc PROPERTIES HEADER_FILE_ONLY ON)
  endif()
  finish_plugin(simmim_cuda "CUDA ${CMAKE_CUDA_COMPILER_VERSION}: sm_80, sm_90a, PTX for compute_90")
endif()

if(SIMMIM_CUDA_EMULATED)
  list(REMOVE_ITEM CUDA_HOST_SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/cuda/products_lt.cc ${CMAKE_CURRENT_SOURCE_DIR}/cuda/cublas_lt_check.cc)
  add_library(simmim_cuda_emulated SHARED ${CUDA_HOST_SOURCES} ${CUDA_EMULATION_SOURCES} ${CUDA_DEVICE_SOURCES})
  target_compile_definitions(simmim_cuda_emulated PRIVATE SIMMIM_CUDA_EMULATED)
  target_compile_options(simmim_cuda_emulated PRIVATE -O2 -fwrapv)
  finish_plugin(simmim_cuda_emulated "emulated on the host")
  if(SIMMIM_BUILD_CUDA)
    message(FATAL_ERROR "the emulation and the plugin itself are built in folders of their own")
  endif()
  add_executable(simmim_emulation_test cuda/emulation/test/emulation_test.cu cuda/check.cc core/error.cc cuda/emulation/block.cc cuda/emulation/fibre.cc cuda/emulation/runtime.cc)
  set_target_properties(simmim_emulation_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_LIBRARY_OUTPUT_DIRECTORY})
  target_compile_definitions(simmim_emulation_test PRIVATE SIMMIM_CUDA_EMULATED)
  target_link_libraries(simmim_emulation_test PRIVATE Threads::Threads)
  set_source_files_properties(${CUDA_DEVICE_SOURCES} cuda/emulation/test/emulation_test.cu PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")
endif()
