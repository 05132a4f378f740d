#include "memory/numa.h"

#include <algorithm>
#include <cctype>
#include <fstream>

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pyruntime {

int numa_node_of_pci_device(const std::string& bus_id, const std::string& sysfs) {
  std::string nodes;  // "0" where there is one, else "0-1"
  std::ifstream(sysfs + "/devices/system/node/online") >> nodes;
  if (nodes.find_first_of("-,") == std::string::npos) return -1;
  std::string name = bus_id;  // CUDA writes capitals, Linux does not
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  int node = -1;
  std::ifstream file(sysfs + "/bus/pci/devices/" + name + "/numa_node");
  return file >> node ? node : -1;
}

PreferNumaNode::PreferNumaNode(int node) {
  if (node < 0 || node >= kMaskBits) return;
  // Not through libnuma: two system calls are all that is needed.
  if (syscall(SYS_get_mempolicy, &mode_before_, mask_before_, kMaskBits, nullptr, 0UL) != 0) return;
  unsigned long mask[kMaskBits / 64] = {};
  mask[node / 64] = 1UL << (node % 64);
  is_changed_ = syscall(SYS_set_mempolicy, MPOL_PREFERRED, mask, kMaskBits) == 0;
}

PreferNumaNode::~PreferNumaNode() {
  if (is_changed_) syscall(SYS_set_mempolicy, mode_before_, mask_before_, kMaskBits);
}

}  // namespace pyruntime
