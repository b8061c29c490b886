#include "fleet/inflight.h"

#include <unordered_map>
#include <utility>

namespace warmpath::fleet {

// Counters of one (endpoint, rank), or of a whole endpoint (then `total` is null).
struct InflightCell {
  std::atomic<int64_t> requests{0};
  std::atomic<int64_t> prefill_requests{0};
  std::atomic<int64_t> prefill_tokens{0};
  std::atomic<int64_t> decode_tokens{0};
  std::shared_ptr<InflightCell> total;

  InflightLoad Read() const {
    return {requests.load(std::memory_order_relaxed),
            prefill_requests.load(std::memory_order_relaxed),
            prefill_tokens.load(std::memory_order_relaxed),
            decode_tokens.load(std::memory_order_relaxed)};
  }
  void Add(const InflightLoad& by) {
    requests.fetch_add(by.requests, std::memory_order_relaxed);
    prefill_requests.fetch_add(by.prefill_requests, std::memory_order_relaxed);
    prefill_tokens.fetch_add(by.prefill_tokens, std::memory_order_relaxed);
    decode_tokens.fetch_add(by.decode_tokens, std::memory_order_relaxed);
    if (total) total->Add(by);
  }
};

InflightTicket::InflightTicket(InflightTicket&& other) noexcept
    : cell_(std::move(other.cell_)),
      prefill_tokens_(other.prefill_tokens_),
      total_tokens_(other.total_tokens_),
      prefilling_(other.prefilling_) {}

InflightTicket& InflightTicket::operator=(InflightTicket&& other) noexcept {
  if (this != &other) {
    Release();
    cell_ = std::move(other.cell_);
    prefill_tokens_ = other.prefill_tokens_;
    total_tokens_ = other.total_tokens_;
    prefilling_ = other.prefilling_;
  }
  return *this;
}

InflightTicket::~InflightTicket() {
  Release();
}

void InflightTicket::PrefillDone() {
  if (!cell_ || !prefilling_) return;
  prefilling_ = false;
  cell_->Add({0, -1, -prefill_tokens_, total_tokens_});
}

void InflightTicket::Release() {
  if (!cell_) return;
  if (prefilling_) {
    cell_->Add({-1, -1, -prefill_tokens_, 0});
  } else {
    cell_->Add({-1, 0, 0, -total_tokens_});
  }
  cell_.reset();
}

namespace {

using Key = uint64_t;
constexpr Key RankKey(EndpointId endpoint, uint16_t rank) {
  return (Key{endpoint} << 32) | rank;
}
// Beyond every rank.
constexpr Key TotalKey(EndpointId endpoint) {
  return (Key{endpoint} << 32) | (Key{1} << 16);
}

}  // namespace

// Cells are found through an immutable map that is replaced when an endpoint or rank appears or
// leaves, so that reading and booking on known endpoints never wait for a writer.
struct InflightLedger::Impl {
  using Cells = std::unordered_map<Key, std::shared_ptr<InflightCell>>;

  std::shared_ptr<const Cells> Current() const { return std::atomic_load(&cells); }

  std::shared_ptr<InflightCell> Find(Key key) const {
    const auto current = Current();
    const auto it = current->find(key);
    return it == current->end() ? nullptr : it->second;
  }

  std::shared_ptr<InflightCell> FindOrMake(EndpointId endpoint, uint16_t rank) EXCLUDES(mutex) {
    if (auto cell = Find(RankKey(endpoint, rank))) return cell;
    MutexLock lock(mutex);
    auto next = std::make_shared<Cells>(*Current());
    auto& total = (*next)[TotalKey(endpoint)];
    if (!total) total = std::make_shared<InflightCell>();
    const auto shared_total = total;
    auto& cell = (*next)[RankKey(endpoint, rank)];
    if (!cell) {
      cell = std::make_shared<InflightCell>();
      cell->total = shared_total;
    }
    auto result = cell;
    std::atomic_store(&cells, std::shared_ptr<const Cells>(std::move(next)));
    return result;
  }

  Mutex mutex;  // writers
  std::shared_ptr<const Cells> cells = std::make_shared<const Cells>();
};

InflightLedger::InflightLedger() : impl_(std::make_unique<Impl>()) {}
InflightLedger::~InflightLedger() = default;

InflightTicket InflightLedger::Book(EndpointId endpoint, uint16_t rank, int64_t uncached_tokens,
                                    int64_t prompt_tokens, int64_t) {
  InflightTicket ticket;
  ticket.cell_ = impl_->FindOrMake(endpoint, rank);
  ticket.prefill_tokens_ = uncached_tokens;
  ticket.total_tokens_ = prompt_tokens;
  ticket.prefilling_ = true;
  ticket.cell_->Add({1, 1, uncached_tokens, 0});
  return ticket;
}

InflightLoad InflightLedger::Load(EndpointId endpoint) const {
  const auto cell = impl_->Find(TotalKey(endpoint));
  return cell ? cell->Read() : InflightLoad{};
}

InflightLoad InflightLedger::Load(EndpointId endpoint, uint16_t rank) const {
  const auto cell = impl_->Find(RankKey(endpoint, rank));
  return cell ? cell->Read() : InflightLoad{};
}

void InflightLedger::Forget(EndpointId endpoint) {
  MutexLock lock(impl_->mutex);
  auto next = std::make_shared<Impl::Cells>(*impl_->Current());
  std::erase_if(*next, [endpoint](const auto& entry) { return entry.first >> 32 == endpoint; });
  std::atomic_store(&impl_->cells, std::shared_ptr<const Impl::Cells>(std::move(next)));
}

}  // namespace warmpath::fleet
