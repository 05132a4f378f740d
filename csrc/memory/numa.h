// On which node of a machine's memory a device hangs, and memory from there.
#pragma once

#include <string>

namespace pyruntime {

// Where Linux tells of devices and nodes; tests have their own folder.
inline constexpr const char* kSysfs = "/sys";

// The node beside a PCI device ("0000:41:00.0"), or -1: none is nearer than
// others, as on a machine with one node, or it is not known.
int numa_node_of_pci_device(const std::string& bus_id, const std::string& sysfs = kSysfs);

// New pages of this thread come from `node`, as far as it has any, while this
// lives. Does nothing for -1, and where the system refuses.
class PreferNumaNode {
 public:
  explicit PreferNumaNode(int node);
  ~PreferNumaNode();
  PreferNumaNode(const PreferNumaNode&) = delete;
  PreferNumaNode& operator=(const PreferNumaNode&) = delete;

 private:
  static constexpr int kMaskBits = 1024;
  unsigned long mask_before_[kMaskBits / 64] = {};
  int mode_before_ = 0;
  bool is_changed_ = false;
};

}  // namespace pyruntime
