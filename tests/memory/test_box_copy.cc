#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include "memory/box_copy.h"

namespace pyruntime {
namespace {

std::vector<int32_t> counted(const Shape& shape) {
  std::vector<int32_t> values(static_cast<std::size_t>(shape.element_count().value_or(0)));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(i) + 1;
  return values;
}

std::size_t offset(const Shape& shape, const std::vector<int64_t>& at) {
  int64_t offset = 0;
  for (std::size_t i = 0; i < at.size(); ++i) offset = offset * shape[i] + at[i];
  return static_cast<std::size_t>(offset);
}

// Every element of the box, one by one, is where it belongs, and nothing else was touched.
void check(const Shape& from_shape, const Shape& to_shape, const Shape& box) {
  CAPTURE(from_shape.to_string());
  CAPTURE(to_shape.to_string());
  CAPTURE(box.to_string());
  const std::vector<int32_t> from = counted(from_shape);
  std::vector<int32_t> to(static_cast<std::size_t>(to_shape.element_count().value_or(0)), -1);
  std::vector<int32_t> expected = to;
  std::vector<int64_t> at(box.rank(), 0);
  bool is_empty = false;
  for (const int64_t dim : box.dims()) is_empty |= dim == 0;
  for (bool more = !is_empty; more;) {
    expected[offset(to_shape, at)] = from[offset(from_shape, at)];
    more = false;
    for (std::size_t axis = box.rank(); axis-- > 0 && !more;) {
      more = ++at[axis] < box[axis];
      if (!more) at[axis] = 0;
    }
  }
  copy_box(reinterpret_cast<const std::byte*>(from.data()), from_shape,
           reinterpret_cast<std::byte*>(to.data()), to_shape, box, sizeof(int32_t));
  CHECK(to == expected);
}

}  // namespace

TEST_CASE("the corner that both arrays have is copied, and nothing else") {
  check({3, 4}, {3, 4}, {3, 4});
  check({3, 4}, {3, 7}, {3, 4});
  check({3, 7}, {3, 4}, {3, 4});
  check({2, 3, 4}, {2, 5, 4}, {2, 3, 4});
  check({2, 3, 4}, {2, 5, 6}, {2, 3, 4});
  check({2, 5, 6, 2}, {2, 3, 6, 2}, {2, 3, 6, 2});
  check({2, 3, 4, 5}, {3, 4, 4, 6}, {2, 3, 4, 5});
  check({5}, {9}, {5});
  check({}, {}, {});
}

TEST_CASE("a box without elements copies none") {
  check({0, 4}, {3, 4}, {0, 4});
  check({3, 0}, {3, 4}, {3, 0});
}

}  // namespace pyruntime
