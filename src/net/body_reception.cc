#include "net/body_reception.h"

#include <algorithm>
#include <utility>

namespace warmpath::net {
namespace {

constexpr size_t kPadding = 64;           // simdjson reads past the end
constexpr size_t kMaxReserved = 1 << 20;  // of a declared length that has not arrived yet
constexpr size_t kFirstRoom = 128 << 10;
constexpr size_t kNeverShown = static_cast<size_t>(-1);

}  // namespace

// A large body of known length is read where it stays; its room grows with what arrived, so that a
// length alone costs nothing.
void BodyReception::Begin(BodyBuffers& buffers, uint64_t length) {
  began_ = SystemClock().Now();
  size_ = 0;
  length_ = length;
  next_show_ = options_.watch_body ? options_.watch_body_from : kNeverShown;
  if (length >= BodyBuffers::kSmallest) bytes_ = buffers.Take();
  if (bytes_.capacity() >= length + kPadding) return;
  const size_t room = static_cast<size_t>(std::min<uint64_t>(length, kMaxReserved));
  bytes_ = std::string();
  // With room to spare, so that the next one of about this size fits.
  bytes_.reserve(room + room / 8 + kPadding);
}

void BodyReception::Grow(size_t at_least, uint64_t left) {
  if (bytes_.size() >= at_least) return;
  const size_t generous = std::max(kFirstRoom, 4 * size_);
  const size_t known = size_ + static_cast<size_t>(left);
  bytes_.resize(std::max(at_least, std::min(generous, known)));
}

void BodyReception::Append(std::string_view bytes, uint64_t left) {
  if (bytes_.size() == size_) {
    bytes_.append(bytes);
  } else {
    Grow(size_ + bytes.size(), left);
    std::copy(bytes.begin(), bytes.end(), bytes_.data() + size_);
  }
  size_ += bytes.size();
}

std::span<char> BodyReception::Room(uint64_t left) {
  Grow(size_ + BodyBuffers::kSmallest, left);
  const size_t room = static_cast<size_t>(std::min<uint64_t>(left, bytes_.size() - size_));
  return {bytes_.data() + size_, room};
}

Duration BodyReception::Wait(const HttpRequest& head) {
  const TimePoint now = SystemClock().Now();
  if (size_ >= next_show_ && now - began_ >= options_.watch_body_after) Show(head);
  const std::chrono::milliseconds earned(1000 * size_ /
                                         std::max<uint64_t>(1, options_.min_body_bytes_per_second));
  const TimePoint last = began_ + options_.body_timeout + earned;
  return std::min(options_.body_timeout, last - now);
}

void BodyReception::Show(const HttpRequest& head) {
  if (!watcher_) watcher_ = options_.watch_body(head, length_);
  next_show_ = watcher_ ? watcher_(std::string_view(bytes_).substr(0, size_)) : kNeverShown;
}

std::string BodyReception::Take() {
  watcher_ = nullptr;
  bytes_.resize(size_);
  if (bytes_.capacity() < size_ + kPadding) bytes_.reserve(size_ + kPadding);
  return std::exchange(bytes_, {});
}

void BodyReception::Drop() {
  watcher_ = nullptr;
  bytes_ = std::string();
  size_ = 0;
}

}  // namespace warmpath::net
