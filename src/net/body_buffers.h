// Internal to net: what large request bodies are read into, used again rather than allocated and
// cleared each time. Loop-confined; holds a bounded amount.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace warmpath::net {

class BodyBuffers {
 public:
  static constexpr size_t kSmallest = 32 << 10;  // smaller ones are not worth keeping
  static constexpr size_t kMostBytes = size_t{4} << 20;

  // The largest kept, or an empty one. Its bytes are somebody's old ones, to be written over.
  std::string Take();
  // Keeps what is large enough while there is room.
  void Give(std::string buffer);

 private:
  std::vector<std::string> kept_;
  size_t bytes_ = 0;
};

}  // namespace warmpath::net
