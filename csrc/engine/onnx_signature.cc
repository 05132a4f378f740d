#include "engine/onnx_signature.h"

#include <array>

#include "engine/onnx_environment.h"

namespace pyruntime::ort {
namespace {

struct ElementType {
  std::string_view name;  // the library's
  std::optional<DataType> type;
};

// By the library's numbers.
constexpr std::array<ElementType, 27> kElementTypes{{
    {"undefined", {}},
    {"float32", DataType::kFloat32},
    {"uint8", DataType::kUint8},
    {"int8", DataType::kInt8},
    {"uint16", DataType::kUint16},
    {"int16", DataType::kInt16},
    {"int32", DataType::kInt32},
    {"int64", DataType::kInt64},
    {"string", DataType::kString},
    {"bool", DataType::kBool},
    {"float16", DataType::kFloat16},
    {"float64", DataType::kFloat64},
    {"uint32", DataType::kUint32},
    {"uint64", DataType::kUint64},
    {"complex64", {}},
    {"complex128", {}},
    {"bfloat16", DataType::kBfloat16},
    {"float8e4m3fn", {}},
    {"float8e4m3fnuz", {}},
    {"float8e5m2", {}},
    {"float8e5m2fnuz", {}},
    {"uint4", {}},
    {"int4", {}},
    {"float4e2m1", {}},
    {"uint2", {}},
    {"int2", {}},
    {"float8e8m0", {}},
}};

std::string element_type_name(int number) {
  if (number >= 0 && static_cast<std::size_t>(number) < kElementTypes.size()) {
    return std::string(kElementTypes[static_cast<std::size_t>(number)].name);
  }
  return "element type " + std::to_string(number);
}

std::string_view kind_name(int kind) {
  switch (kind) {
    case kKindSequence:
      return "a sequence";
    case kKindMap:
      return "a map";
    case kKindSparseTensor:
      return "a sparse tensor";
    case kKindOptional:
      return "an optional value";
    case kKindOpaque:
      return "an opaque value";
    default:
      return "a value of unknown kind";
  }
}

// Text that the library allocated.
std::string take_text(char* text) {
  std::string copy = text == nullptr ? "" : text;
  if (text != nullptr) check(api().AllocatorFree(default_allocator(), text), "AllocatorFree");
  return copy;
}

[[noreturn]] void refuse(const std::string& where, std::string_view got) {
  throw Error(ErrorCode::kUnimplemented,
              where + ": expected a tensor of numbers, bool or string, got " + std::string(got));
}

TensorSpec read_spec(const OrtTypeInfo* info, std::string name, const std::string& where) {
  int kind = kKindUnknown;
  check(api().GetOnnxTypeFromTypeInfo(info, &kind), "GetOnnxTypeFromTypeInfo", where);
  if (kind != kKindTensor) refuse(where, kind_name(kind));

  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  check(api().CastTypeInfoToTensorInfo(info, &tensor), "CastTypeInfoToTensorInfo", where);
  int number = 0;
  check(api().GetTensorElementType(tensor, &number), "GetTensorElementType", where);
  const std::optional<DataType> type = data_type(number);
  if (!type) refuse(where, "a tensor of " + element_type_name(number));

  TensorSpec spec;
  spec.name = std::move(name);
  spec.type = *type;
  if (!api().TensorTypeAndShape_HasShape(tensor)) {
    spec.has_any_rank = true;
    return spec;
  }
  std::size_t rank = 0;
  check(api().GetDimensionsCount(tensor, &rank), "GetDimensionsCount", where);
  if (rank > Shape::kMaxRank) refuse(where, "a tensor of rank " + std::to_string(rank));
  spec.dims.resize(rank);
  check(api().GetDimensions(tensor, spec.dims.data(), rank), "GetDimensions", where);
  std::vector<const char*> symbols(rank);
  check(api().GetSymbolicDimensions(tensor, symbols.data(), rank), "GetSymbolicDimensions", where);
  for (const char* symbol : symbols) spec.symbols.emplace_back(symbol == nullptr ? "" : symbol);
  return spec;
}

std::map<std::string, std::string> read_metadata(const OrtSession* session) {
  ModelMetadata owner;
  {
    OrtModelMetadata* made = nullptr;
    check(api().SessionGetModelMetadata(session, &made), "SessionGetModelMetadata");
    owner.reset(made);
  }
  std::map<std::string, std::string> metadata;
  const auto add = [&](const char* key, auto call, std::string_view call_name) {
    char* text = nullptr;
    check((api().*call)(owner.get(), default_allocator(), &text), call_name);
    if (std::string value = take_text(text); !value.empty()) metadata[key] = std::move(value);
  };
  add("producer", &Api::ModelMetadataGetProducerName, "ModelMetadataGetProducerName");
  add("graph_name", &Api::ModelMetadataGetGraphName, "ModelMetadataGetGraphName");
  add("domain", &Api::ModelMetadataGetDomain, "ModelMetadataGetDomain");
  add("description", &Api::ModelMetadataGetDescription, "ModelMetadataGetDescription");
  int64_t version = 0;
  check(api().ModelMetadataGetVersion(owner.get(), &version), "ModelMetadataGetVersion");
  if (version != 0) metadata["model_version"] = std::to_string(version);

  char** keys = nullptr;
  int64_t count = 0;
  check(
      api().ModelMetadataGetCustomMetadataMapKeys(owner.get(), default_allocator(), &keys, &count),
      "ModelMetadataGetCustomMetadataMapKeys");
  for (int64_t i = 0; i < count; ++i) {
    const std::string key = take_text(keys[i]);
    char* text = nullptr;
    check(api().ModelMetadataLookupCustomMetadataMap(owner.get(), default_allocator(), key.c_str(),
                                                     &text),
          "ModelMetadataLookupCustomMetadataMap");
    metadata[key] = take_text(text);
  }
  if (keys != nullptr)
    check(api().AllocatorFree(default_allocator(), static_cast<void*>(keys)), "AllocatorFree");
  return metadata;
}

}  // namespace

int element_type(DataType type) {
  static constexpr auto kNumbers = [] {
    std::array<int, kDataTypeCount> numbers{};
    for (std::size_t number = 0; number < kElementTypes.size(); ++number) {
      const auto known = kElementTypes[number].type;
      if (known) numbers[static_cast<std::size_t>(*known)] = static_cast<int>(number);
    }
    return numbers;
  }();
  return kNumbers[static_cast<std::size_t>(type)];
}

std::optional<DataType> data_type(int element_type) {
  if (element_type < 0 || static_cast<std::size_t>(element_type) >= kElementTypes.size()) {
    return std::nullopt;
  }
  return kElementTypes[static_cast<std::size_t>(element_type)].type;
}

Signature read_signature(const OrtSession* session, const std::string& model) {
  Signature signature;
  const auto read_all = [&](std::string_view side, auto count_call, auto name_call, auto type_call,
                            std::vector<TensorSpec>* specs) {
    std::size_t count = 0;
    check((api().*count_call)(session, &count), "SessionGetCount", model);
    for (std::size_t i = 0; i < count; ++i) {
      char* text = nullptr;
      check((api().*name_call)(session, i, default_allocator(), &text), "SessionGetName", model);
      std::string name = take_text(text);
      std::string where = model;
      where.append(": ").append(side).append(" '").append(name).append("'");
      OrtTypeInfo* made = nullptr;
      check((api().*type_call)(session, i, &made), "SessionGetTypeInfo", where);
      const TypeInfo info(made);
      specs->push_back(read_spec(info.get(), std::move(name), where));
    }
  };
  read_all("input", &Api::SessionGetInputCount, &Api::SessionGetInputName,
           &Api::SessionGetInputTypeInfo, &signature.inputs);
  read_all("output", &Api::SessionGetOutputCount, &Api::SessionGetOutputName,
           &Api::SessionGetOutputTypeInfo, &signature.outputs);
  signature.metadata = read_metadata(session);
  signature.is_batchable = has_free_rows(signature);
  return signature;
}

}  // namespace pyruntime::ort
