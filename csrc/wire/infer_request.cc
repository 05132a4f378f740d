#include "wire/infer_request.h"

#include <string>

#include "wire/text.h"

namespace pyruntime {
namespace {

constexpr WireType kVarint = WireType::kVarint;
constexpr WireType kBytes = WireType::kBytes;

Status name_too_long(std::string_view where, std::string_view name) {
  return {ErrorCode::kInvalidInput, std::string(where) + ": expected a name of at most " +
                                        std::to_string(kMaxNameBytes) + " bytes, got " +
                                        std::to_string(name.size())};
}

std::string indexed(std::string_view field, std::size_t index) {
  return std::string(field) + "[" + std::to_string(index) + "]";
}

void add_dim(InferInputView& input, uint64_t value) {
  if (input.rank < input.dims.size()) input.dims[input.rank] = static_cast<int64_t>(value);
  ++input.rank;
}

// An InferParameter; of several values the last one counts.
void read_value(ByteSpan message, InferParameterView& parameter, ProtobufReader& outer) {
  using Kind = InferParameterView::Kind;
  ProtobufReader reader(message);
  while (reader.next()) {
    switch (reader.tag()) {
      case tag_of(1, kVarint):
        parameter.kind = Kind::kBool;
        parameter.number = reader.varint() != 0 ? 1 : 0;
        break;
      case tag_of(2, kVarint):
        parameter.kind = Kind::kInt64;
        parameter.number = reader.varint();
        break;
      case tag_of(3, kBytes):
        parameter.kind = Kind::kString;
        parameter.text = reader.text();
        break;
      case tag_of(4, WireType::kFixed64):
        parameter.kind = Kind::kDouble;
        parameter.real = std::bit_cast<double>(reader.fixed64());
        break;
      case tag_of(5, kVarint):
        parameter.kind = Kind::kUint64;
        parameter.number = reader.varint();
        break;
      default:
        reader.skip();
    }
  }
  if (!reader.ok()) outer.fail(reader.error());
}

}  // namespace

Status InferRequestView::parse(ByteSpan bytes) {
  *this = {};
  message = bytes;
  ProtobufReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case tag_of(RequestField::kModelName, kBytes):
        model_name = reader.text();
        break;
      case tag_of(RequestField::kModelVersion, kBytes):
        model_version = reader.text();
        break;
      case tag_of(RequestField::kId, kBytes):
        id = reader.text();
        break;
      case tag_of(RequestField::kParameters, kBytes):
        reader.skip();
        has_parameters = true;
        break;
      case tag_of(RequestField::kInputs, kBytes):
        reader.skip();
        ++input_count;
        break;
      case tag_of(RequestField::kOutputs, kBytes):
        reader.skip();
        has_outputs = true;
        break;
      case tag_of(RequestField::kRawInputContents, kBytes):
        reader.skip();
        ++raw_count;
        break;
      default:
        reader.skip();
    }
  }
  if (!reader.ok()) return malformed("ModelInferRequest", reader);
  return model_name.size() <= kMaxNameBytes ? Status() : name_too_long("model_name", model_name);
}

Status InferParameterView::parse(ByteSpan entry) {
  *this = {};
  ProtobufReader reader(entry);
  while (reader.next()) {
    switch (reader.tag()) {
      case tag_of(1, kBytes):
        name = reader.text();
        break;
      case tag_of(2, kBytes):
        read_value(reader.bytes(), *this, reader);
        break;
      default:
        reader.skip();
    }
  }
  return reader.ok() ? Status() : malformed("parameters", reader);
}

bool InferParameterView::is_set() const {
  switch (kind) {
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt64:
    case Kind::kUint64:
      return number != 0;
    case Kind::kString:
      return !text.empty();
    case Kind::kDouble:
      return real != 0;
  }
  return false;
}

bool InferParameterView::is_unsigned(uint64_t* value) const {
  *value = number;
  return kind == Kind::kUint64 || (kind == Kind::kInt64 && static_cast<int64_t>(number) >= 0);
}

Status InferInputView::parse(ByteSpan input, std::size_t index) {
  message = input;
  name = {};
  datatype = {};
  rank = 0;
  has_parameters = false;
  has_contents = false;
  ProtobufReader reader(input);
  while (reader.next()) {
    switch (reader.tag()) {
      case tag_of(1, kBytes):
        name = reader.text();
        break;
      case tag_of(2, kBytes):
        datatype = reader.text();
        break;
      case tag_of(3, kBytes): {  // packed
        ProtobufReader packed(reader.bytes());
        while (!packed.at_end()) add_dim(*this, packed.varint());
        if (!packed.ok()) reader.fail(packed.error());
        break;
      }
      case tag_of(3, kVarint):
        add_dim(*this, reader.varint());
        break;
      case tag_of(kInputParameters, kBytes):
        reader.skip();
        has_parameters = true;
        break;
      case tag_of(kInputContents, kBytes):
        has_contents |= !reader.bytes().empty();
        break;
      default:
        reader.skip();
    }
  }
  if (!reader.ok()) return malformed(indexed("inputs", index), reader);
  if (name.size() > kMaxNameBytes) return name_too_long(indexed("inputs", index), name);
  if (rank > Shape::kMaxRank) {
    return {ErrorCode::kInvalidInput, "input " + quoted(name) + ": expected at most " +
                                          std::to_string(Shape::kMaxRank) + " dimensions, got " +
                                          std::to_string(rank)};
  }
  return {};
}

Status InferRequestedOutputView::parse(ByteSpan output, std::size_t index) {
  *this = {};
  message = output;
  ProtobufReader reader(output);
  while (reader.next()) {
    switch (reader.tag()) {
      case tag_of(1, kBytes):
        name = reader.text();
        break;
      case tag_of(kOutputParameters, kBytes):
        reader.skip();
        has_parameters = true;
        break;
      default:
        reader.skip();
    }
  }
  if (!reader.ok()) return malformed(indexed("outputs", index), reader);
  if (name.size() > kMaxNameBytes) return name_too_long(indexed("outputs", index), name);
  return {};
}

}  // namespace pyruntime
