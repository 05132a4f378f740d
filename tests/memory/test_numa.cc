#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

#include "memory/numa.h"

using namespace pyruntime;

namespace {

// A folder that looks like Linux's /sys to who asks for nodes.
class Sysfs {
 public:
  explicit Sysfs(const std::string& nodes) {
    write("devices/system/node/online", nodes);
    write("bus/pci/devices/0000:c1:00.0/numa_node", "1");
    write("bus/pci/devices/0000:02:00.0/numa_node", "-1");
  }
  ~Sysfs() { std::filesystem::remove_all(root_); }
  Sysfs(const Sysfs&) = delete;
  Sysfs& operator=(const Sysfs&) = delete;
  std::string root() const { return root_.string(); }

 private:
  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << '\n';
  }
  const std::filesystem::path root_ =
      std::filesystem::temp_directory_path() / ("pyruntime-sysfs-" + std::to_string(getpid()));
};

}  // namespace

TEST_CASE("a device's node is read where there are several") {
  for (const char* nodes : {"0-1", "0,2-3"}) {
    const Sysfs sysfs(nodes);
    CHECK(numa_node_of_pci_device("0000:C1:00.0", sysfs.root()) == 1);  // as CUDA writes it
    CHECK(numa_node_of_pci_device("0000:02:00.0", sysfs.root()) == -1);
    CHECK(numa_node_of_pci_device("0000:77:00.0", sysfs.root()) == -1);
  }
}

TEST_CASE("with one node none is nearer") {
  const Sysfs sysfs("0");
  CHECK(numa_node_of_pci_device("0000:C1:00.0", sysfs.root()) == -1);
  CHECK(numa_node_of_pci_device("0000:C1:00.0", "/nowhere") == -1);
}

TEST_CASE("preferring a node leaves memory to be had, and no trace") {
  for (const int node : {-1, 0, 5000}) {
    const PreferNumaNode near(node);
    const std::string memory(1 << 20, 'x');
    CHECK(memory.back() == 'x');
  }
}
