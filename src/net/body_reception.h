// Internal to net: the body of a request that is received whole: where its bytes go, how long it
// may take, and who is shown its beginning. One per connection, used for one request after the
// other; loop-confined.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "net/body_buffers.h"
#include "net/http_server.h"

namespace warmpath::net {

class BodyReception {
 public:
  explicit BodyReception(const HttpServerOptions& options) : options_(options) {}

  // The head is complete. `length`: as it says, 0 when it does not.
  void Begin(BodyBuffers& buffers, uint64_t length);
  // `left`: of the length, with what is appended not counted.
  void Append(std::string_view bytes, uint64_t left);
  // Where the next bytes may be read to, of `left` that are to come, at least
  // BodyBuffers::kSmallest; then how many were.
  std::span<char> Room(uint64_t left);
  void Filled(size_t bytes) { size_ += bytes; }
  // Nothing more is there to be read now. How long to wait for it; zero or less: it comes too late.
  Duration Wait(const HttpRequest& head);
  // The whole body, with room behind it for those who read past its end.
  std::string Take();
  // Nobody looks at it any more.
  void Drop();

 private:
  void Grow(size_t at_least, uint64_t left);
  void Show(const HttpRequest& head);

  const HttpServerOptions& options_;
  std::string bytes_;  // may be longer than what was received
  size_t size_ = 0;
  uint64_t length_ = 0;
  TimePoint began_{};
  size_t next_show_ = 0;
  BodyWatcher watcher_;
};

}  // namespace warmpath::net
