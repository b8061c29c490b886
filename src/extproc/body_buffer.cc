#include "extproc/body_buffer.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace warmpath::extproc {
namespace {

constexpr size_t kFirstCapacity = 4 << 10;
// Memory follows bytes that came, not what a client announces.
constexpr size_t kMaxGrowthOnAnnouncement = size_t{1} << 20;

}  // namespace

bool ByteBudget::TakeUpTo(size_t limit, size_t bytes) {
  size_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit - std::min(limit, used)) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return true;
}

BodyBuffer::BodyBuffer(ByteBudget& budget, std::string text)
    : budget_(budget), charged_(text.size()), text_(std::move(text)) {
  budget_.Force(charged_);
}

BodyBuffer::~BodyBuffer() {
  std::free(data_);
  budget_.Return(charged_);
}

bool BodyBuffer::Append(std::string_view bytes) {
  if (bytes.empty()) return true;
  if (!budget_.Take(bytes.size())) return false;
  charged_ += bytes.size();
  const size_t needed = size_ + bytes.size();
  if (needed > capacity_) {
    size_t capacity = std::max({needed, capacity_ + capacity_ / 2, kFirstCapacity});
    if (expected_ >= needed && expected_ - needed <= kMaxGrowthOnAnnouncement) capacity = expected_;
    char* const grown = static_cast<char*>(std::realloc(data_, capacity));
    WP_CHECK(grown != nullptr);
    data_ = grown;
    capacity_ = capacity;
  }
  std::memcpy(data_ + size_, bytes.data(), bytes.size());
  size_ = needed;
  return true;
}

}  // namespace warmpath::extproc
