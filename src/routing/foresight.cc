#include "routing/foresight.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

namespace warmpath::routing {
namespace {

// So much of a body is looked at and no more: it bounds the memory of a slow upload.
constexpr size_t kMostBytes = size_t{4} << 20;
// A last look at a body whose length is known: what is left then is quick.
constexpr size_t kLastBytes = 16 << 10;
constexpr size_t kRetryBytes = 16 << 10;

}  // namespace

// Shared with the pool. Its bytes belong to the work while that is under way, else to the loop.
struct Foresight::Begun {
  std::string bytes;
  std::atomic<bool> under_way{false};
  // False once nobody waits for it. Nothing is published through it: relaxed is enough.
  std::atomic<bool> wanted{true};
};

Foresight::Foresight(const Director& director, Runner run, prompt::Api api, uint64_t length)
    : director_(director),
      run_(std::move(run)),
      api_(api),
      length_(length),
      begun_(std::make_shared<Begun>()) {}

Foresight::~Foresight() {
  begun_->wanted.store(false, std::memory_order_relaxed);
}

size_t Foresight::HeldAfter(size_t begun) const {
  return std::min(begun, kMostBytes);
}

size_t Foresight::NextAfter(size_t size) const {
  if (size >= kMostBytes) return SIZE_MAX;
  const size_t next = size + std::max(kFirstBytes, size / 4);
  if (length_ < kLastBytes) return next;
  const auto last = static_cast<size_t>(std::min<uint64_t>(length_ - kLastBytes, kMostBytes));
  return size + kLastBytes < last && last < next ? last : next;
}

void Foresight::Look(std::string_view begun) {
  if (begun.size() < next_ || begun_->under_way.load(std::memory_order_acquire)) return;
  std::string& bytes = begun_->bytes;
  begun = begun.substr(0, HeldAfter(begun.size()));
  bytes.append(begun.substr(bytes.size()));
  begun_->under_way.store(true, std::memory_order_relaxed);
  const bool taken = run_([begun = begun_, director = &director_, api = api_] {
    if (begun->wanted.load(std::memory_order_relaxed)) director->Foresee(api, begun->bytes);
    begun->under_way.store(false, std::memory_order_release);
  });
  if (!taken) begun_->under_way.store(false, std::memory_order_relaxed);
  next_ = taken ? NextAfter(bytes.size()) : bytes.size() + kRetryBytes;
}

}  // namespace warmpath::routing
