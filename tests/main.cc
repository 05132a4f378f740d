// The main() of every C++ test: test files include <doctest/doctest.h> and nothing more.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
