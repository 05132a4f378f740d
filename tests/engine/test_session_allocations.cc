// A run of ONNX Runtime allocates a dozen times inside the library; what is
// proved here is that nothing of ours allocates besides. malloc() counts while
// a thread is outside of the library's functions, which are wrapped to tell.
#include <cstddef>

#include <doctest/doctest.h>

#include "engine/onnx_api.h"
#include "engine/onnx_fixture.h"
#include "memory/device.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define PYRUNTIME_COUNTS_MALLOC 0  // sanitizers bring their own
#else
#define PYRUNTIME_COUNTS_MALLOC 1
#endif

namespace {
thread_local bool is_counting = false;
thread_local int depth_in_library = 0;
thread_local int our_allocations = 0;
thread_local int their_allocations = 0;

[[maybe_unused]] void note_allocation() {
  if (is_counting) ++(depth_in_library == 0 ? our_allocations : their_allocations);
}
}  // namespace

#if PYRUNTIME_COUNTS_MALLOC
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* address, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) {
  note_allocation();
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  note_allocation();
  return __libc_calloc(count, size);
}
void* realloc(void* address, std::size_t size) {
  note_allocation();
  return __libc_realloc(address, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  note_allocation();
  return __libc_memalign(alignment, size);
}
}
#endif

namespace pyruntime {
namespace {

struct InLibrary {
  InLibrary() { ++depth_in_library; }
  ~InLibrary() { --depth_in_library; }
};

template <int Slot, typename Result, typename... Parameters>
struct Wrapped {
  static inline Result (*original)(Parameters...) = nullptr;
  static Result call(Parameters... parameters) {
    const InLibrary here;
    return original(parameters...);
  }
};

template <int Slot, typename Result, typename... Parameters>
void wrap(Result (*&function)(Parameters...)) {
  Wrapped<Slot, Result, Parameters...>::original = function;
  function = Wrapped<Slot, Result, Parameters...>::call;
}

void wrap_library() {
  load_onnx_library();
  auto& functions = const_cast<ort::Api&>(ort::api());
#define PYRUNTIME_WRAP(slot, name, returns, parameters) wrap<slot>(functions.name);
  PYRUNTIME_ONNX_FUNCTIONS(PYRUNTIME_WRAP)
#undef PYRUNTIME_WRAP
}

template <typename Function>
int count_our_allocations(Function&& function) {
  for (int i = 0; i < 8; ++i) function();  // to the steady state
  our_allocations = their_allocations = 0;
  is_counting = true;
  for (int i = 0; i < 100; ++i) function();
  is_counting = false;
  return our_allocations;
}

TEST_CASE("a run allocates nothing of ours in the steady state") {
  if (!PYRUNTIME_COUNTS_MALLOC) {
    MESSAGE("skipped: the sanitizer has its own malloc");
    return;
  }
  const auto stream = open_device(Device{}).create_stream();
  std::vector<float> a(4, 1.0F);
  std::vector<float> b(4, 2.0F);
  std::vector<float> sum(4);
  std::vector<float> difference(4);
  std::vector<Tensor> inputs{view({1, 4}, a), view({1, 4}, b)};
  std::vector<Tensor> given{view({1, 4}, sum), view({1, 4}, difference)};
  std::vector<Tensor> made(2);
  bool is_ok = true;

  SUBCASE("the counter sees what allocates") {
    std::vector<int> sink;
    CHECK(count_our_allocations([&] { std::vector<int>(3).swap(sink); }) == 100);
  }

  SUBCASE("onnx") {
    if (!has_onnx_library()) return;
    wrap_library();
    const auto session = load_model("add_sub");
    const auto bound = session->bind(inputs, given);
    CHECK(count_our_allocations(
              [&] { is_ok &= session->run(*stream, inputs, given, kAllOutputs).ok(); }) == 0);
    CHECK(their_allocations > 0);  // so it is the library that was told apart
    CHECK(count_our_allocations([&] {
            is_ok &= session->run(*stream, inputs, made, kAllOutputs).ok();
            for (Tensor& tensor : made) tensor = Tensor{};
          }) == 0);
    CHECK(count_our_allocations([&] { is_ok &= bound->run(*stream).ok(); }) == 0);

    const auto identity = load_model("identity_string");
    std::vector<StringRef> refs(4, StringRef{"longer than a small string", 26});
    std::vector<Tensor> texts{view(DataType::kString, {1, 4}, refs)};
    std::vector<Tensor> copies(1);
    CHECK(count_our_allocations([&] {
            is_ok &= identity->run(*stream, texts, copies, kAllOutputs).ok();
            copies[0] = Tensor{};
          }) == 0);
  }

  SUBCASE("echo") {
    SessionOptions options;
    options.engine = "echo";
    TensorSpec rows;
    rows.dims = {-1, 4};
    rows.symbols = {"", ""};
    options.echo_inputs = {rows, rows};
    const auto session = load_session({}, options);
    CHECK(count_our_allocations([&] {
            is_ok &= session->run(*stream, inputs, given, kAllOutputs).ok();
            is_ok &= session->run(*stream, inputs, made, kAllOutputs).ok();
            for (Tensor& tensor : made) tensor = Tensor{};
          }) == 0);
  }
  CHECK(is_ok);
}

}  // namespace
}  // namespace pyruntime
