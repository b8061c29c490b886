// Tells when files change: certificates, endpoint lists, policies. By asking (a stat, then a digest
// of the content), which also sees the symbolic links that Kubernetes swaps under a mounted volume.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "net/loop.h"

namespace warmpath::net {

// Loop-confined; destroying it ends the watch. Files are read on the loop: keep them small.
class FileWatch {
 public:
  // `changed` is called on the loop when the content of any file differs from what it was at Start
  // or at the last call, once the content has been the same for one period (no half-written file).
  // A file that is missing for a while changes nothing until it is back.
  FileWatch(Loop& loop, std::vector<std::string> paths, std::function<void()> changed,
            Duration period = std::chrono::milliseconds(250));
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace warmpath::net
