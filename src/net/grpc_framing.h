// Internal to net: the pure parts of gRPC over HTTP/2: length-prefixed messages, status texts,
// timeouts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace warmpath::net {

// Cuts a stream of bytes into messages. A message that arrives in one piece is a view of the input;
// only one that is split is copied, once.
class GrpcMessageReader {
 public:
  enum class Event { kNeedMore, kMessage, kCompressed, kTooLarge };

  // Consumes from `input` until something is known; call until kNeedMore. After kCompressed and
  // kTooLarge the reader must not be used again.
  Event Next(std::string_view& input, size_t max_message_bytes);
  // After kMessage, until the next call and while the input lives.
  std::string_view message() const { return message_; }
  uint32_t announced() const { return length_; }  // size of the message under way
  bool mid_message() const { return prefix_size_ > 0; }
  size_t buffered() const { return partial_.size(); }

 private:
  static constexpr uint8_t kPrefix = 5;

  char prefix_[kPrefix] = {};
  uint8_t prefix_size_ = 0;
  bool deliver_done_ = false;  // partial_ holds a message already delivered
  uint32_t length_ = 0;
  std::string partial_;
  std::string_view message_;
};

inline constexpr size_t kGrpcPrefix = 5;
// Appends the bytes in front of a message of `size` bytes.
void AppendGrpcPrefix(std::string& out, size_t size);
// Percent-encoding of grpc-message: printable ASCII but '%' stays.
std::string EncodeGrpcMessage(std::string_view text);
// "100m", "5S": at most 8 digits and a unit; nullopt for anything else.
std::optional<Duration> ParseGrpcTimeout(std::string_view text);
// application/grpc, application/grpc+proto, application/grpc;charset=...
bool IsGrpcContentType(std::string_view value);

}  // namespace warmpath::net
