#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include <doctest/doctest.h>

#include "engine/onnx_fixture.h"
#include "memory/device.h"

namespace pyruntime {
namespace {

// A session and all that a run of it needs.
struct Model {
  explicit Model(const std::string& name, const SessionOptions& options = {})
      : session(load_model(name, options)) {}
  explicit Model(std::unique_ptr<Session> loaded) : session(std::move(loaded)) {}

  Status run(std::vector<Tensor> inputs, OutputMask wanted = kAllOutputs) {
    outputs.resize(session->signature().outputs.size());
    return session->run(*stream, inputs, outputs, wanted);
  }

  std::unique_ptr<Session> session;
  std::unique_ptr<Stream> stream = open_device(Device{}).create_stream();
  std::vector<Tensor> outputs;
};

std::vector<std::byte> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}

TEST_CASE("a signature names inputs, outputs, types, dimensions and their symbols") {
  if (!has_onnx_library()) return;
  const Model model("add_sub");
  const Signature& signature = model.session->signature();
  REQUIRE(signature.inputs.size() == 2);
  REQUIRE(signature.outputs.size() == 2);
  CHECK(signature.inputs[1].name == "b");
  CHECK(signature.inputs[1].to_string() == "float32[*, 4]");
  CHECK(signature.inputs[1].symbols == std::vector<std::string>{"N", ""});
  CHECK(signature.find_input("b") == 1);
  CHECK(signature.find_output("sum") == 0);
  CHECK_FALSE(signature.find_output("b").has_value());
  CHECK(signature.is_batchable);
  CHECK(signature.metadata.at("producer") == "make_models");
  CHECK(signature.metadata.at("graph_name") == "add_sub");
  CHECK(signature.metadata.at("model_version") == "3");
  CHECK(signature.metadata.at("purpose") == "tests");
}

TEST_CASE("rows may be batched where dimension 0 is dynamic everywhere and has one name") {
  if (!has_onnx_library()) return;
  const auto is_batchable = [](const std::string& name) {
    return load_model(name)->signature().is_batchable;
  };
  CHECK(is_batchable("identity_f32"));
  CHECK(is_batchable("identity_string"));
  CHECK(is_batchable("unnamed_rows"));
  CHECK(is_batchable("batch_mean"));  // what is declared is believed
  CHECK_FALSE(is_batchable("static_batch"));
  CHECK_FALSE(is_batchable("two_row_names"));
  CHECK_FALSE(is_batchable("scalar"));
  CHECK_FALSE(is_batchable("non_zero"));
  CHECK_FALSE(is_batchable("any_rank"));
  CHECK_FALSE(is_batchable("no_inputs"));
}

TEST_CASE("every data type goes through, element for element") {
  if (!has_onnx_library()) return;
  for (int i = 0; i < kDataTypeCount; ++i) {
    const auto type = static_cast<DataType>(i);
    if (type == DataType::kString) continue;
    CAPTURE(data_type_name(type));
    Model model("identity_" + std::string(data_type_name(type)));
    CHECK(model.session->signature().inputs[0].type == type);

    std::vector<unsigned char> bytes(std::size_t{12} * element_size_bytes(type));
    for (std::size_t k = 0; k < bytes.size(); ++k) {
      bytes[k] = static_cast<unsigned char>(type == DataType::kBool ? k % 2 : k * 5 + 1);
    }
    REQUIRE(model.run({view(type, {3, 4}, bytes)}).ok());
    const Tensor& output = model.outputs[0];
    CHECK(output.type == type);
    CHECK(output.shape == Shape{3, 4});
    CHECK(std::memcmp(output.data, bytes.data(), bytes.size()) == 0);
  }
}

TEST_CASE("strings go through with zero bytes, empty ones and long ones") {
  if (!has_onnx_library()) return;
  Model model("identity_string");
  const std::vector<std::string> texts{
      std::string("a\0b", 3), "", "\xff\xfe", std::string(100'000, 'x'), "ä", "", "end", ""};
  std::vector<StringRef> refs;
  refs.reserve(texts.size());
  for (const std::string& text : texts) refs.push_back({text.data(), text.size()});
  refs[1] = StringRef{};  // nowhere at all
  REQUIRE(model.run({view(DataType::kString, {2, 4}, refs)}).ok());
  CHECK(model.outputs[0].shape == Shape{2, 4});
  CHECK(strings(model.outputs[0]) == texts);

  std::vector<StringRef> nothing;
  model.outputs.clear();
  REQUIRE(model.run({view(DataType::kString, {0, 4}, nothing)}).ok());
  CHECK(model.outputs[0].data != nullptr);
  CHECK(strings(model.outputs[0]).empty());
}

TEST_CASE("a string output into the caller's memory is refused, not misread") {
  if (!has_onnx_library()) return;
  Model model("identity_string");
  std::vector<StringRef> refs(4);
  model.outputs = {view(DataType::kString, {1, 4}, refs)};
  const Status status = model.run({view(DataType::kString, {1, 4}, refs)});
  CHECK(status.code() == ErrorCode::kUnimplemented);
  CHECK(contains(status.message(), "'y'"));
  CHECK(model.session->bind(model.outputs, model.outputs) == nullptr);
}

TEST_CASE("scalars, zero-sized tensors and models without inputs run") {
  if (!has_onnx_library()) return;
  std::vector<float> values{41};
  Model scalar("scalar");
  REQUIRE(scalar.run({view(Shape{}, values)}).ok());
  CHECK(scalar.outputs[0].shape.rank() == 0);
  CHECK(*scalar.outputs[0].data_as<float>() == 42);

  Model identity("identity_f32");
  std::vector<float> nothing;
  REQUIRE(identity.run({view({0, 16}, nothing)}).ok());
  CHECK(identity.outputs[0].shape == Shape{0, 16});
  CHECK(identity.outputs[0].data != nullptr);

  Model no_inputs("no_inputs");
  REQUIRE(no_inputs.run({}).ok());
  CHECK(elements<float>(no_inputs.outputs[0]) == std::vector<float>{1, 2});
}

TEST_CASE("outputs of a shape known only afterwards come with it") {
  if (!has_onnx_library()) return;
  Model model("non_zero");
  std::vector<float> values{0, 1, 0, 0, 5, 0, 0, 6};
  REQUIRE(model.run({view({2, 4}, values)}).ok());
  CHECK(model.outputs[0].shape == Shape{2, 3});
  CHECK(elements<int64_t>(model.outputs[0]) == std::vector<int64_t>{0, 1, 1, 1, 0, 3});
}

TEST_CASE("a model that declares no rank takes any") {
  if (!has_onnx_library()) return;
  Model model("any_rank");
  CHECK(model.session->signature().inputs[0].has_any_rank);
  CHECK(model.session->signature().inputs[0].to_string() == "float32[...]");
  CHECK_FALSE(load_model("scalar")->signature().inputs[0].has_any_rank);
  std::vector<float> values{1, 2, 3, 4};
  for (const Shape& shape : {Shape{4}, Shape{2, 1, 2}}) {
    model.outputs.clear();
    REQUIRE(model.run({view(shape, values)}).ok());
    CHECK(model.outputs[0].shape == shape);
  }
}

TEST_CASE("only the wanted outputs are made") {
  if (!has_onnx_library()) return;
  Model model("add_sub");
  std::vector<float> a{1, 2, 3, 4};
  std::vector<float> b{4, 3, 2, 1};
  const std::vector<Tensor> inputs{view({1, 4}, a), view({1, 4}, b)};
  REQUIRE(model.run(inputs, 0b10).ok());
  CHECK(model.outputs[0].data == nullptr);
  CHECK(elements<float>(model.outputs[1]) == std::vector<float>{-3, -1, 1, 3});

  model.outputs.clear();
  CHECK(model.run(inputs, 0).code() == ErrorCode::kInvalidInput);
  REQUIRE(model.run(inputs).ok());
  CHECK(elements<float>(model.outputs[0]) == std::vector<float>{5, 5, 5, 5});
}

TEST_CASE("memory given for an output is what the result is written to") {
  if (!has_onnx_library()) return;
  Model model("add_sub");
  std::vector<float> a{1, 2, 3, 4};
  std::vector<float> b{4, 3, 2, 1};
  std::vector<float> sum(4);
  model.outputs = {view({1, 4}, sum), Tensor{}};
  REQUIRE(model.run({view({1, 4}, a), view({1, 4}, b)}).ok());
  CHECK(sum == std::vector<float>{5, 5, 5, 5});
  CHECK(model.outputs[0].data == reinterpret_cast<std::byte*>(sum.data()));
  CHECK(elements<float>(model.outputs[1]) == std::vector<float>{-3, -1, 1, 3});
}

TEST_CASE("memory of the wrong shape for an output is an engine error, and the next run is good") {
  if (!has_onnx_library()) return;
  for (const char* name : {"identity_float32", "drop_out", "batch_mean"}) {
    CAPTURE(name);
    Model model(name);
    std::vector<float> values{1, 2, 3, 4};
    std::vector<float> room(8);
    model.outputs = {view({2, 4}, room)};
    const Status status = model.run({view({1, 4}, values)});
    CHECK_MESSAGE(status.code() == ErrorCode::kEngineError, status.to_string());
    CHECK(contains(status.message(), name));

    std::vector<Tensor> inputs{view({1, 4}, values)};
    const auto bound = model.session->bind(inputs, model.outputs);
    REQUIRE(bound != nullptr);
    CHECK(bound->run(*model.stream).code() == ErrorCode::kEngineError);

    model.outputs = {Tensor{}};
    CHECK(model.run(inputs).ok());
  }
}

TEST_CASE("an input that the model refuses is the caller's mistake") {
  if (!has_onnx_library()) return;
  std::vector<float> values(6, 1.0F);
  Model identity("identity_f32");
  for (const Tensor& wrong : {view({1, 6}, values), view(Shape{6}, values)}) {
    const Status status = identity.run({wrong});
    CHECK_MESSAGE(status.code() == ErrorCode::kInvalidInput, status.to_string());
    CHECK(contains(status.message(), "identity_f32.onnx"));
  }
  std::vector<int64_t> wrong_type(16);
  CHECK(identity.run({view(DataType::kInt64, {1, 16}, wrong_type)}).code() ==
        ErrorCode::kInvalidInput);
  CHECK(identity.run({}).code() == ErrorCode::kInvalidInput);
  Tensor missing = view({1, 16}, values);
  missing.data = nullptr;
  CHECK(contains(identity.run({missing}).message(), "input 'x': no data"));

  std::vector<float> row(16, 2.0F);
  CHECK(identity.run({view({1, 16}, row)}).ok());
}

TEST_CASE("a failure inside the model is an engine error that names model and node") {
  if (!has_onnx_library()) return;
  Model model("split_in_three");
  std::vector<float> values(10);
  const Status status = model.run({view({2, 5}, values)});
  CHECK_MESSAGE(status.code() == ErrorCode::kEngineError, status.to_string());
  CHECK(contains(status.message(), "split_in_three.onnx"));
  CHECK(contains(status.message(), "Reshape"));
}

TEST_CASE("an index that the model cannot look up is the caller's mistake") {
  if (!has_onnx_library()) return;
  Model model("gather_row");
  std::vector<int64_t> index{1, 99};
  const Status status = model.run({view(DataType::kInt64, Shape{2}, index)});
  CHECK_MESSAGE(status.code() == ErrorCode::kInvalidInput, status.to_string());
  index[1] = 2;
  REQUIRE(model.run({view(DataType::kInt64, Shape{2}, index)}).ok());
  CHECK(elements<float>(model.outputs[0]) == std::vector<float>{2, 3, 4, 5});
}

TEST_CASE("an output outlives its session") {
  if (!has_onnx_library()) return;
  Tensor output;
  {
    Model model("identity_f32");
    std::vector<float> values(16, 3.0F);
    REQUIRE(model.run({view({1, 16}, values)}).ok());
    output = model.outputs[0];
  }
  CHECK(elements<float>(output) == std::vector<float>(16, 3.0F));
}

TEST_CASE("a bound run reads and writes the same memory again and again") {
  if (!has_onnx_library()) return;
  Model model("add_sub");
  std::vector<float> a{1, 2, 3, 4};
  std::vector<float> b{1, 1, 1, 1};
  std::vector<float> sum(4);
  std::vector<float> difference(4);
  std::vector<Tensor> inputs{view({1, 4}, a), view({1, 4}, b)};
  std::vector<Tensor> outputs{view({1, 4}, sum), view({1, 4}, difference)};
  const auto bound = model.session->bind(inputs, outputs);
  REQUIRE(bound != nullptr);
  for (int i = 0; i < 3; ++i) {
    a[0] = static_cast<float>(i);
    REQUIRE(bound->run(*model.stream).ok());
    CHECK(sum[0] == static_cast<float>(i) + 1);
    CHECK(difference[0] == static_cast<float>(i) - 1);
  }
  outputs[1].data = nullptr;
  CHECK(model.session->bind(inputs, outputs) == nullptr);
}

TEST_CASE("a model loads from bytes, and with a path beside them finds its external data") {
  if (!has_onnx_library()) return;
  std::vector<float> values{1, 1, 1, 1};
  std::vector<std::byte> bytes = read_file(model_path("add_sub"));
  CHECK(load_session({.bytes = bytes}, {})->signature().inputs.size() == 2);

  const std::string path = model_path("external_data");
  bytes = read_file(path);
  const Error error = error_of([&] { load_session({.bytes = bytes}, {}); });
  CHECK(error.code() == ErrorCode::kEngineError);
  CHECK(contains(error.what(), "bytes"));

  for (const ModelSource& source :
       {ModelSource{path, {}}, ModelSource{path, std::span<const std::byte>(bytes)}}) {
    Model model(load_session(source, {}));
    REQUIRE(model.run({view({1, 4}, values)}).ok());
    CHECK(elements<float>(model.outputs[0]) == std::vector<float>{2, 3, 4, 5});
  }
}

TEST_CASE("what is no plain tensor is refused at load, naming the input or output and its type") {
  if (!has_onnx_library()) return;
  const std::vector<std::array<std::string, 3>> cases{
      {"sequence_input", "input 'items'", "a sequence"},
      {"sequence_output", "output 'items'", "a sequence"},
      {"map_input", "input 'counts'", "a map"},
      {"optional_input", "input 'x'", "an optional value"},
      {"sparse_input", "input 'a'", "a sparse tensor"},
      {"float8_input", "input 'x'", "a tensor of float8e4m3fn"},
  };
  for (const auto& [name, where, type] : cases) {
    CAPTURE(name);
    const Error error = error_of([&name = name] { load_model(name); });
    CHECK(error.code() == ErrorCode::kUnimplemented);
    CHECK_MESSAGE(contains(error.what(), where), error.what());
    CHECK_MESSAGE(contains(error.what(), "got " + type), error.what());
    CHECK(contains(error.what(), name + ".onnx"));
  }
}

TEST_CASE("a missing or corrupt model is an engine error that names its file") {
  if (!has_onnx_library()) return;
  const Error missing = error_of([] { load_model("nowhere"); });
  CHECK(missing.code() == ErrorCode::kEngineError);
  CHECK(contains(missing.what(), "nowhere.onnx"));
  CHECK(error_of([] { load_session({.path = __FILE__}, {}); }).code() == ErrorCode::kEngineError);
  const std::vector<std::byte> garbage(100, std::byte{0xA5});
  CHECK(error_of([&] { load_session({.bytes = garbage}, {}); }).code() == ErrorCode::kEngineError);
  CHECK(error_of([] { load_session({}, {}); }).code() == ErrorCode::kEngineError);
}

TEST_CASE("a provider that is absent fails the load, naming it, those present and a remedy") {
  if (!has_onnx_library()) return;
  SessionOptions options;
  for (const char* name : {"cuda", "CUDAExecutionProvider", "tensorrt", "warp_drive"}) {
    options.providers = {{.name = name}, {.name = "cpu"}};
    const Error error = error_of([&] { load_model("identity_f32", options); });
    if (error.code() == ErrorCode::kOk) continue;  // a build that has it
    CHECK(error.code() == ErrorCode::kUnavailable);
    CHECK(contains(error.what(), "provider '" + std::string(name) + "'"));
    CHECK(contains(error.what(), "CPUExecutionProvider"));
    CHECK(contains(error.what(), "install"));
  }
  for (const char* name : {"cpu", "CPU", "CPUExecutionProvider"}) {
    options.providers = {{.name = name}};
    CHECK(load_model("identity_f32", options) != nullptr);
  }
  options.providers = {{.name = "cpu", .options = {{"speed", "9"}}}};
  CHECK(error_of([&] { load_model("identity_f32", options); }).code() == ErrorCode::kInvalidInput);
}

TEST_CASE("a model that its only provider cannot run fails to load instead of falling back") {
  if (!has_onnx_library()) return;
  const auto providers = engines()[0].providers();
  const auto found = std::find(providers.begin(), providers.end(), "AzureExecutionProvider");
  if (found == providers.end()) {
    MESSAGE("skipped: this build has no provider but the CPU's");
    return;
  }
  SessionOptions options;
  options.providers = {{.name = "azure"}};
  const Error error = error_of([&] { load_model("identity_f32", options); });
  CHECK(error.code() == ErrorCode::kEngineError);
  CHECK_MESSAGE(contains(error.what(), "nodes fall back to the CPU"), error.what());
  CHECK_MESSAGE(contains(error.what(), "among the providers 'azure': Identity;"), error.what());
  options.providers.push_back({.name = "cpu"});
  CHECK(load_model("identity_f32", options) != nullptr);
}

TEST_CASE("the placement names every node, its kind and its provider") {
  if (!has_onnx_library()) return;
  const auto session = load_model("add_sub");
  REQUIRE(session->placement().size() == 2);
  for (const PlacedNode& node : session->placement()) {
    CHECK((node.op_type == "Add" || node.op_type == "Sub"));
    CHECK(node.provider == "CPUExecutionProvider");
  }
}

TEST_CASE("devices that the engine cannot use are refused with the reason") {
  if (!has_onnx_library()) return;
  SessionOptions options;
  options.device = Device{DeviceKind::kSimulated, 0};
  Error error = error_of([&] { load_model("identity_f32", options); });
  CHECK(error.code() == ErrorCode::kInvalidInput);
  CHECK(contains(error.what(), "use engine 'echo'"));
  options.device = Device{DeviceKind::kCuda, 0};
  error = error_of([&] { load_model("identity_f32", options); });
  CHECK((error.code() == ErrorCode::kUnavailable || error.code() == ErrorCode::kUnimplemented));
  CHECK(contains(error.what(), "device 'cuda:0'"));
}

TEST_CASE("every option is understood by the library") {
  if (!has_onnx_library()) return;
  std::vector<float> values(64, 0.5F);
  std::vector<float> answer;
  for (const GraphOptimization level : {GraphOptimization::kNone, GraphOptimization::kBasic,
                                        GraphOptimization::kExtended, GraphOptimization::kAll}) {
    SessionOptions options;
    options.graph_optimization = level;
    options.intra_op_threads = 2;
    options.inter_op_threads = 2;
    options.allow_spinning = true;
    options.use_arena = false;
    options.providers = {{.name = "cpu"}};
    options.config = {{"session.set_denormal_as_zero", "1"}};
    Model model("mlp_64_256_256_10", options);
    REQUIRE(model.run({view({1, 64}, values)}).ok());
    const auto output = elements<float>(model.outputs[0]);
    if (answer.empty()) answer = output;
    for (std::size_t i = 0; i < 10; ++i) {
      CHECK(output[i] == doctest::Approx(answer[i]).epsilon(1e-4));
    }
  }
  SessionOptions options;
  options.intra_op_threads = -1;
  CHECK(error_of([&] { load_model("scalar", options); }).code() == ErrorCode::kInvalidInput);
  options = {};
  options.config = {{std::string(2000, 'k'), "1"}};
  CHECK(error_of([&] { load_model("scalar", options); }).code() == ErrorCode::kInvalidInput);
}

TEST_CASE("a run under way ends early as cancelled, others and later ones are good") {
  if (!has_onnx_library()) return;
  Model model("add_repeatedly");
  const auto control = model.session->create_control();
  std::vector<int64_t> count{1'000'000'000'000};
  std::vector<float> values(4);
  std::atomic<bool> is_done{false};
  Status status;
  std::thread runner([&] {
    std::vector<Tensor> inputs{view(DataType::kInt64, Shape{}, count), view({1, 4}, values)};
    std::vector<Tensor> outputs(1);
    status = model.session->run(*model.stream, inputs, outputs, kAllOutputs, control.get());
    is_done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK_FALSE(is_done);
  std::vector<int64_t> few{3};
  const std::vector<Tensor> inputs{view(DataType::kInt64, Shape{}, few), view({1, 4}, values)};
  CHECK(model.run(inputs).ok());
  control->terminate();
  runner.join();
  CHECK_MESSAGE(status.code() == ErrorCode::kCancelled, status.to_string());

  control->rearm();
  std::vector<Tensor> outputs(1);
  const auto stream = open_device(Device{}).create_stream();
  REQUIRE(model.session->run(*stream, inputs, outputs, kAllOutputs, control.get()).ok());
  CHECK(elements<float>(outputs[0]) == std::vector<float>{3, 3, 3, 3});
}

TEST_CASE("one session runs on many threads at once, bound and not") {
  if (!has_onnx_library()) return;
  const auto session = load_model("add_sub");
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const auto stream = open_device(Device{}).create_stream();
      std::vector<float> a(4, static_cast<float>(t));
      std::vector<float> b(4, 1.0F);
      std::vector<float> sum(4);
      std::vector<float> difference(4);
      std::vector<Tensor> inputs{view({1, 4}, a), view({1, 4}, b)};
      std::vector<Tensor> outputs{view({1, 4}, sum), view({1, 4}, difference)};
      const auto bound = session->bind(inputs, outputs);
      for (int i = 0; i < 200; ++i) {
        a[3] = static_cast<float>(i);
        const bool is_ok = bound->run(*stream).ok();
        std::vector<Tensor> made(2);
        const bool is_also_ok = session->run(*stream, inputs, made, kAllOutputs).ok();
        if (!is_ok || !is_also_ok || sum[3] != a[3] + 1 || elements<float>(made[0]) != sum) {
          ++failures;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
}

TEST_CASE("an unknown engine is refused with those known") {
  SessionOptions options;
  options.engine = "steam";
  const Error error = error_of([&] { load_session({}, options); });
  CHECK(error.code() == ErrorCode::kInvalidInput);
  CHECK(contains(error.what(), "expected one of onnx, echo"));
}

}  // namespace
}  // namespace pyruntime
