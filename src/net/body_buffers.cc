#include "net/body_buffers.h"

#include <algorithm>
#include <utility>

namespace warmpath::net {

std::string BodyBuffers::Take() {
  if (kept_.empty()) return {};
  const auto largest = std::max_element(
      kept_.begin(), kept_.end(),
      [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
  std::swap(*largest, kept_.back());
  std::string buffer = std::move(kept_.back());
  kept_.pop_back();
  bytes_ -= buffer.capacity();
  return buffer;
}

void BodyBuffers::Give(std::string buffer) {
  if (buffer.size() < kSmallest || bytes_ + buffer.capacity() > kMostBytes) return;
  bytes_ += buffer.capacity();
  kept_.push_back(std::move(buffer));
}

}  // namespace warmpath::net
