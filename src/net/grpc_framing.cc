#include "net/grpc_framing.h"

#include <algorithm>

namespace warmpath::net {
namespace {

// A split message's buffer grows with what arrived, not with what was announced.
constexpr size_t kFirstReserve = 4 << 10;

constexpr char kHexDigits[] = "0123456789ABCDEF";

}  // namespace

GrpcMessageReader::Event GrpcMessageReader::Next(std::string_view& input,
                                                 size_t max_message_bytes) {
  if (deliver_done_) {
    deliver_done_ = false;
    partial_ = std::string();
  }
  message_ = {};
  if (prefix_size_ < kPrefix) {
    const size_t take = std::min<size_t>(kPrefix - prefix_size_, input.size());
    std::copy_n(input.begin(), take, prefix_ + prefix_size_);
    prefix_size_ += static_cast<uint8_t>(take);
    input.remove_prefix(take);
    if (prefix_size_ > 0 && prefix_[0] != 0) return Event::kCompressed;
    if (prefix_size_ < kPrefix) return Event::kNeedMore;
    length_ = 0;
    for (int i = 1; i < kPrefix; ++i) length_ = length_ << 8 | static_cast<uint8_t>(prefix_[i]);
    if (length_ > max_message_bytes) return Event::kTooLarge;
  }
  if (partial_.empty() && input.size() >= length_) {
    message_ = input.substr(0, length_);
    input.remove_prefix(length_);
    prefix_size_ = 0;
    return Event::kMessage;
  }
  const size_t take = std::min<size_t>(length_ - partial_.size(), input.size());
  if (partial_.capacity() < partial_.size() + take) {
    partial_.reserve(std::min<size_t>(
        length_, std::max({kFirstReserve, partial_.size() + take, 2 * partial_.size()})));
  }
  partial_.append(input.substr(0, take));
  input.remove_prefix(take);
  if (partial_.size() < length_) return Event::kNeedMore;
  message_ = partial_;
  prefix_size_ = 0;
  deliver_done_ = true;
  return Event::kMessage;
}

void AppendGrpcPrefix(std::string& out, size_t size) {
  const char prefix[5] = {0, static_cast<char>(size >> 24), static_cast<char>(size >> 16),
                          static_cast<char>(size >> 8), static_cast<char>(size)};
  out.append(prefix, sizeof prefix);
}

std::string EncodeGrpcMessage(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte <= 0x7e && byte != '%') {
      out += c;
    } else {
      out += '%';
      out += kHexDigits[byte >> 4];
      out += kHexDigits[byte & 15];
    }
  }
  return out;
}

std::optional<Duration> ParseGrpcTimeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return std::nullopt;
  int64_t value = 0;
  for (const char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  // 99,999,999 hours do not fit in nanoseconds.
  constexpr int64_t kLongest = 24 * 365;
  switch (text.back()) {
    case 'H':
      return std::chrono::hours(std::min(value, kLongest));
    case 'M':
      return std::chrono::minutes(std::min(value, kLongest * 60));
    case 'S':
      return std::chrono::seconds(value);
    case 'm':
      return std::chrono::milliseconds(value);
    case 'u':
      return std::chrono::microseconds(value);
    case 'n':
      return std::chrono::nanoseconds(value);
    default:
      return std::nullopt;
  }
}

bool IsGrpcContentType(std::string_view value) {
  constexpr std::string_view kType = "application/grpc";
  if (!value.starts_with(kType)) return false;
  return value.size() == kType.size() || value[kType.size()] == '+' || value[kType.size()] == ';';
}

}  // namespace warmpath::net
