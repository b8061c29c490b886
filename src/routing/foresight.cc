#include "routing/foresight.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

namespace warmpath::routing {
namespace {

// So much of a body is looked at and no more: it bounds the memory of a slow upload.
constexpr size_t kMostBytes = size_t{4} << 20;
constexpr size_t kMostReserved = size_t{1} << 20;  // of a length that has not arrived yet
// A last look at a body whose length is known: what is left then is quick.
constexpr size_t kLastBytes = 16 << 10;
constexpr size_t kRetryBytes = 16 << 10;

}  // namespace

// Shared with the pool. Bytes and figures belong to the work while that is under way, else to the
// loop.
struct Foresight::Begun {
  std::string bytes;
  std::atomic<bool> under_way{false};
  size_t learned = 0;  // by the last look, of the text in them
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

void Foresight::EndLook() {
  looking_ = false;
  const size_t size = begun_->bytes.size();
  const bool known = begun_->learned < (size - looked_) / 4;
  looked_ = size;
  next_ = size + std::max(kFirstBytes, known ? size : size / 4);
  if (size >= kMostBytes) next_ = SIZE_MAX;
  if (length_ < kLastBytes) return;
  const auto last = static_cast<size_t>(std::min<uint64_t>(length_ - kLastBytes, kMostBytes));
  if (size + kLastBytes < last && last < next_) next_ = last;
}

void Foresight::Look(std::string_view begun) {
  if (begun_->under_way.load(std::memory_order_acquire)) return;
  if (looking_) EndLook();
  if (begun.size() < next_) return;
  std::string& bytes = begun_->bytes;
  const size_t held = HeldAfter(begun.size());
  if (bytes.empty()) {
    bytes.reserve(std::max(held, std::min(HeldAfter(static_cast<size_t>(length_)), kMostReserved)));
  }
  bytes.append(begun.substr(0, held).substr(bytes.size()));
  begun_->under_way.store(true, std::memory_order_relaxed);
  looking_ = run_([begun = begun_, director = &director_, api = api_] {
    begun->learned =
        begun->wanted.load(std::memory_order_relaxed) ? director->Foresee(api, begun->bytes) : 0;
    begun->under_way.store(false, std::memory_order_release);
  });
  if (!looking_) {
    begun_->under_way.store(false, std::memory_order_relaxed);
    next_ = begun.size() + kRetryBytes;
  } else if (!begun_->under_way.load(std::memory_order_acquire)) {
    EndLook();
  }
}

}  // namespace warmpath::routing
