// ONNX Runtime's C interface, as far as this project uses it: declared here,
// since the wheels carry no headers, and taken from the library at run time.
//
// A slot is a function's place in the library's table of functions; the order
// of that table never changes, new ones are added at its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

// In a namespace of its own: a program may include the original header too.
namespace pyruntime::ort {

struct OrtAllocator;
struct OrtCustomHandleType;  // a thread that this project has made
struct OrtCUDAProviderOptionsV2;
struct OrtEnv;
struct OrtEpAssignedNode;
struct OrtEpAssignedSubgraph;
struct OrtIoBinding;
struct OrtMemoryInfo;
struct OrtModelMetadata;
struct OrtRunOptions;
struct OrtSession;
struct OrtSessionOptions;
struct OrtStatus;
struct OrtTensorRTProviderOptionsV2;
struct OrtTensorTypeAndShapeInfo;
struct OrtThreadingOptions;
struct OrtTypeInfo;
struct OrtValue;

enum ErrorNumber : int { kFail = 1, kInvalidArgument = 2, kNoSuchFile = 3, kNotImplemented = 9 };
enum LogSeverity : int { kWarning = 2, kError = 3, kFatal = 4 };
enum AllocatorType : int { kDeviceAllocator = 0, kArenaAllocator = 1 };
enum MemoryType : int { kMemoryDefault = 0 };
enum ExecutionMode : int { kSequential = 0, kParallel = 1 };
enum ValueKind : int {
  kKindUnknown = 0,
  kKindTensor = 1,
  kKindSequence = 2,
  kKindMap = 3,
  kKindOpaque = 4,
  kKindSparseTensor = 5,
  kKindOptional = 6,
};

// What the library calls for each of its own threads: to make and to join it.
using CreateThread = const OrtCustomHandleType* (*)(void* options, void (*body)(void*), void*);
using JoinThread = void (*)(const OrtCustomHandleType*);

// The newest function below is GetTensorElementTypeAndShapeDataReference.
inline constexpr uint32_t kApiVersion = 24;
inline constexpr std::string_view kMinimumVersion = "1.24.0";

// X(slot, name, returns, parameters)
#define PYRUNTIME_ONNX_FUNCTIONS(X)                                                                \
  X(1, GetErrorCode, int, (const OrtStatus*))                                                      \
  X(2, GetErrorMessage, const char*, (const OrtStatus*))                                           \
  X(3, CreateEnv, OrtStatus*, (int severity, const char* name, OrtEnv**))                          \
  X(6, DisableTelemetryEvents, OrtStatus*, (const OrtEnv*))                                        \
  X(7, CreateSession, OrtStatus*,                                                                  \
    (const OrtEnv*, const char* path, const OrtSessionOptions*, OrtSession**))                     \
  X(8, CreateSessionFromArray, OrtStatus*,                                                         \
    (const OrtEnv*, const void* bytes, size_t, const OrtSessionOptions*, OrtSession**))            \
  X(9, Run, OrtStatus*,                                                                            \
    (OrtSession*, const OrtRunOptions*, const char* const* input_names, const OrtValue* const*,    \
     size_t inputs, const char* const* output_names, size_t outputs, OrtValue**))                  \
  X(10, CreateSessionOptions, OrtStatus*, (OrtSessionOptions**))                                   \
  X(13, SetSessionExecutionMode, OrtStatus*, (OrtSessionOptions*, int mode))                       \
  X(19, DisableCpuMemArena, OrtStatus*, (OrtSessionOptions*))                                      \
  X(22, SetSessionLogSeverityLevel, OrtStatus*, (OrtSessionOptions*, int severity))                \
  X(23, SetSessionGraphOptimizationLevel, OrtStatus*, (OrtSessionOptions*, int level))             \
  X(24, SetIntraOpNumThreads, OrtStatus*, (OrtSessionOptions*, int))                               \
  X(25, SetInterOpNumThreads, OrtStatus*, (OrtSessionOptions*, int))                               \
  X(30, SessionGetInputCount, OrtStatus*, (const OrtSession*, size_t*))                            \
  X(31, SessionGetOutputCount, OrtStatus*, (const OrtSession*, size_t*))                           \
  X(33, SessionGetInputTypeInfo, OrtStatus*, (const OrtSession*, size_t, OrtTypeInfo**))           \
  X(34, SessionGetOutputTypeInfo, OrtStatus*, (const OrtSession*, size_t, OrtTypeInfo**))          \
  X(36, SessionGetInputName, OrtStatus*, (const OrtSession*, size_t, OrtAllocator*, char**))       \
  X(37, SessionGetOutputName, OrtStatus*, (const OrtSession*, size_t, OrtAllocator*, char**))      \
  X(39, CreateRunOptions, OrtStatus*, (OrtRunOptions**))                                           \
  X(41, RunOptionsSetRunLogSeverityLevel, OrtStatus*, (OrtRunOptions*, int severity))              \
  X(46, RunOptionsSetTerminate, OrtStatus*, (OrtRunOptions*))                                      \
  X(47, RunOptionsUnsetTerminate, OrtStatus*, (OrtRunOptions*))                                    \
  X(48, CreateTensorAsOrtValue, OrtStatus*,                                                        \
    (OrtAllocator*, const int64_t* dims, size_t rank, int type, OrtValue**))                       \
  X(49, CreateTensorWithDataAsOrtValue, OrtStatus*,                                                \
    (const OrtMemoryInfo*, void* data, size_t size_bytes, const int64_t* dims, size_t rank,        \
     int type, OrtValue**))                                                                        \
  X(51, GetTensorMutableData, OrtStatus*, (OrtValue*, void**))                                     \
  X(53, GetStringTensorDataLength, OrtStatus*, (const OrtValue*, size_t* size_bytes))              \
  X(54, GetStringTensorContent, OrtStatus*,                                                        \
    (const OrtValue*, void* bytes, size_t size_bytes, size_t* offsets, size_t elements))           \
  X(55, CastTypeInfoToTensorInfo, OrtStatus*,                                                      \
    (const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**))                                       \
  X(56, GetOnnxTypeFromTypeInfo, OrtStatus*, (const OrtTypeInfo*, int* kind))                      \
  X(60, GetTensorElementType, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int* type))           \
  X(61, GetDimensionsCount, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, size_t* rank))          \
  X(62, GetDimensions, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int64_t* dims, size_t))      \
  X(63, GetSymbolicDimensions, OrtStatus*,                                                         \
    (const OrtTensorTypeAndShapeInfo*, const char** names, size_t))                                \
  X(68, CreateMemoryInfo, OrtStatus*,                                                              \
    (const char* name, int allocator, int device, int memory, OrtMemoryInfo**))                    \
  X(69, CreateCpuMemoryInfo, OrtStatus*, (int allocator, int memory, OrtMemoryInfo**))             \
  X(76, AllocatorFree, OrtStatus*, (OrtAllocator*, void*))                                         \
  X(78, GetAllocatorWithDefaultOptions, OrtStatus*, (OrtAllocator**))                              \
  X(92, ReleaseEnv, void, (OrtEnv*))                                                               \
  X(93, ReleaseStatus, void, (OrtStatus*))                                                         \
  X(94, ReleaseMemoryInfo, void, (OrtMemoryInfo*))                                                 \
  X(95, ReleaseSession, void, (OrtSession*))                                                       \
  X(96, ReleaseValue, void, (OrtValue*))                                                           \
  X(97, ReleaseRunOptions, void, (OrtRunOptions*))                                                 \
  X(98, ReleaseTypeInfo, void, (OrtTypeInfo*))                                                     \
  X(100, ReleaseSessionOptions, void, (OrtSessionOptions*))                                        \
  X(111, SessionGetModelMetadata, OrtStatus*, (const OrtSession*, OrtModelMetadata**))             \
  X(112, ModelMetadataGetProducerName, OrtStatus*,                                                 \
    (const OrtModelMetadata*, OrtAllocator*, char**))                                              \
  X(113, ModelMetadataGetGraphName, OrtStatus*, (const OrtModelMetadata*, OrtAllocator*, char**))  \
  X(114, ModelMetadataGetDomain, OrtStatus*, (const OrtModelMetadata*, OrtAllocator*, char**))     \
  X(115, ModelMetadataGetDescription, OrtStatus*,                                                  \
    (const OrtModelMetadata*, OrtAllocator*, char**))                                              \
  X(116, ModelMetadataLookupCustomMetadataMap, OrtStatus*,                                         \
    (const OrtModelMetadata*, OrtAllocator*, const char* key, char**))                             \
  X(117, ModelMetadataGetVersion, OrtStatus*, (const OrtModelMetadata*, int64_t*))                 \
  X(118, ReleaseModelMetadata, void, (OrtModelMetadata*))                                          \
  X(119, CreateEnvWithGlobalThreadPools, OrtStatus*,                                               \
    (int severity, const char* name, const OrtThreadingOptions*, OrtEnv**))                        \
  X(120, DisablePerSessionThreads, OrtStatus*, (OrtSessionOptions*))                               \
  X(121, CreateThreadingOptions, OrtStatus*, (OrtThreadingOptions**))                              \
  X(122, ReleaseThreadingOptions, void, (OrtThreadingOptions*))                                    \
  X(123, ModelMetadataGetCustomMetadataMapKeys, OrtStatus*,                                        \
    (const OrtModelMetadata*, OrtAllocator*, char*** keys, int64_t* count))                        \
  X(125, GetAvailableProviders, OrtStatus*, (char*** names, int* count))                           \
  X(126, ReleaseAvailableProviders, OrtStatus*, (char** names, int count))                         \
  X(130, AddSessionConfigEntry, OrtStatus*,                                                        \
    (OrtSessionOptions*, const char* key, const char* value))                                      \
  X(133, RunWithBinding, OrtStatus*, (OrtSession*, const OrtRunOptions*, const OrtIoBinding*))     \
  X(134, CreateIoBinding, OrtStatus*, (OrtSession*, OrtIoBinding**))                               \
  X(135, ReleaseIoBinding, void, (OrtIoBinding*))                                                  \
  X(136, BindInput, OrtStatus*, (OrtIoBinding*, const char* name, const OrtValue*))                \
  X(137, BindOutput, OrtStatus*, (OrtIoBinding*, const char* name, const OrtValue*))               \
  X(138, BindOutputToDevice, OrtStatus*, (OrtIoBinding*, const char* name, const OrtMemoryInfo*))  \
  X(140, GetBoundOutputValues, OrtStatus*,                                                         \
    (const OrtIoBinding*, OrtAllocator*, OrtValue*** values, size_t* count))                       \
  X(147, SetGlobalIntraOpNumThreads, OrtStatus*, (OrtThreadingOptions*, int))                      \
  X(148, SetGlobalInterOpNumThreads, OrtStatus*, (OrtThreadingOptions*, int))                      \
  X(149, SetGlobalSpinControl, OrtStatus*, (OrtThreadingOptions*, int allow_spinning))             \
  X(165, AddRunConfigEntry, OrtStatus*, (OrtRunOptions*, const char* key, const char* value))      \
  X(170, SessionOptionsAppendExecutionProvider_TensorRT_V2, OrtStatus*,                            \
    (OrtSessionOptions*, const OrtTensorRTProviderOptionsV2*))                                     \
  X(171, CreateTensorRTProviderOptions, OrtStatus*, (OrtTensorRTProviderOptionsV2**))              \
  X(172, UpdateTensorRTProviderOptions, OrtStatus*,                                                \
    (OrtTensorRTProviderOptionsV2*, const char* const* keys, const char* const* values, size_t))   \
  X(174, ReleaseTensorRTProviderOptions, void, (OrtTensorRTProviderOptionsV2*))                    \
  X(196, SessionOptionsSetCustomCreateThreadFn, OrtStatus*, (OrtSessionOptions*, CreateThread))    \
  X(197, SessionOptionsSetCustomThreadCreationOptions, OrtStatus*,                                 \
    (OrtSessionOptions*, void* options))                                                           \
  X(198, SessionOptionsSetCustomJoinThreadFn, OrtStatus*, (OrtSessionOptions*, JoinThread))        \
  X(204, SessionOptionsAppendExecutionProvider_CUDA_V2, OrtStatus*,                                \
    (OrtSessionOptions*, const OrtCUDAProviderOptionsV2*))                                         \
  X(205, CreateCUDAProviderOptions, OrtStatus*, (OrtCUDAProviderOptionsV2**))                      \
  X(206, UpdateCUDAProviderOptions, OrtStatus*,                                                    \
    (OrtCUDAProviderOptionsV2*, const char* const* keys, const char* const* values, size_t))       \
  X(208, ReleaseCUDAProviderOptions, void, (OrtCUDAProviderOptionsV2*))                            \
  X(216, SessionOptionsAppendExecutionProvider, OrtStatus*,                                        \
    (OrtSessionOptions*, const char* provider, const char* const* keys, const char* const* values, \
     size_t))                                                                                      \
  X(252, GetResizedStringTensorElementBuffer, OrtStatus*,                                          \
    (OrtValue*, size_t index, size_t size_bytes, char** bytes))                                    \
  X(390, TensorTypeAndShape_HasShape, bool, (const OrtTensorTypeAndShapeInfo*))                    \
  X(407, Session_GetEpGraphAssignmentInfo, OrtStatus*,                                             \
    (const OrtSession*, const OrtEpAssignedSubgraph* const** graphs, size_t* count))               \
  X(408, EpAssignedSubgraph_GetEpName, OrtStatus*, (const OrtEpAssignedSubgraph*, const char**))   \
  X(409, EpAssignedSubgraph_GetNodes, OrtStatus*,                                                  \
    (const OrtEpAssignedSubgraph*, const OrtEpAssignedNode* const** nodes, size_t* count))         \
  X(410, EpAssignedNode_GetName, OrtStatus*, (const OrtEpAssignedNode*, const char**))             \
  X(411, EpAssignedNode_GetDomain, OrtStatus*, (const OrtEpAssignedNode*, const char**))           \
  X(412, EpAssignedNode_GetOperatorType, OrtStatus*, (const OrtEpAssignedNode*, const char**))     \
  X(414, GetTensorElementTypeAndShapeDataReference, OrtStatus*,                                    \
    (const OrtValue*, int* type, const int64_t** dims, size_t* rank))

// The functions, by their own names. One that returns OrtStatus* returns
// nullptr when it succeeded.
struct Api {
// NOLINTNEXTLINE(bugprone-macro-parentheses): declares, computes nothing
#define PYRUNTIME_DECLARE(slot, name, returns, parameters) returns(*name) parameters = nullptr;
  PYRUNTIME_ONNX_FUNCTIONS(PYRUNTIME_DECLARE)
#undef PYRUNTIME_DECLARE
};

// Throws Unavailable unless `version` ("1.32.0") of the library at `path` is
// kMinimumVersion or later.
void check_version(std::string_view version, std::string_view path);

// What the library exports as OrtGetApiBase().
struct ApiBase {
  const void* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// Throws Unavailable as above, or when the library has no such interface.
Api resolve_api(const ApiBase& base, std::string_view path);

// The functions of the loaded library. Only after load_onnx_library().
const Api& api();

// The text of a failed call; releases `status`.
std::string take_message(OrtStatus* status);

// Throws `code` with "<where>: <call>: <the library's text>" unless ok.
void check(OrtStatus* status, std::string_view call, std::string_view where = "ONNX Runtime",
           ErrorCode code = ErrorCode::kEngineError);

// Owns an object of the library; Release is a member of Api.
template <typename T, void (*Api::*Release)(T*)>
struct Releaser {
  void operator()(T* object) const { (api().*Release)(object); }
};
template <typename T, void (*Api::*Release)(T*)>
using Handle = std::unique_ptr<T, Releaser<T, Release>>;

using Session = Handle<OrtSession, &Api::ReleaseSession>;
using SessionOptions = Handle<OrtSessionOptions, &Api::ReleaseSessionOptions>;
using RunOptions = Handle<OrtRunOptions, &Api::ReleaseRunOptions>;
using MemoryInfo = Handle<OrtMemoryInfo, &Api::ReleaseMemoryInfo>;
using IoBinding = Handle<OrtIoBinding, &Api::ReleaseIoBinding>;
using TypeInfo = Handle<OrtTypeInfo, &Api::ReleaseTypeInfo>;
using ModelMetadata = Handle<OrtModelMetadata, &Api::ReleaseModelMetadata>;
using ThreadingOptions = Handle<OrtThreadingOptions, &Api::ReleaseThreadingOptions>;
using CudaOptions = Handle<OrtCUDAProviderOptionsV2, &Api::ReleaseCUDAProviderOptions>;
using TensorRtOptions = Handle<OrtTensorRTProviderOptionsV2, &Api::ReleaseTensorRTProviderOptions>;
using Value = Handle<OrtValue, &Api::ReleaseValue>;

// Calls Api::`call`, a maker whose last parameter is where the object goes.
template <typename Owner, typename... Parameters, typename... Arguments>
Owner make(OrtStatus* (*Api::*call)(Parameters...), std::string_view name, Arguments... arguments) {
  typename Owner::pointer object = nullptr;
  check((api().*call)(arguments..., &object), name);
  return Owner(object);
}

}  // namespace pyruntime::ort
