#include "fleet/inflight.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace warmpath::fleet {

// Counters of one (endpoint, rank), or of a whole endpoint (then `total` is null).
struct InflightCell {
  std::atomic<int64_t> requests{0};
  std::atomic<int64_t> prefill_requests{0};
  std::atomic<int64_t> prefill_tokens{0};
  std::atomic<int64_t> decode_tokens{0};
  std::atomic<int64_t> tokens{0};
  std::shared_ptr<InflightCell> total;

  InflightLoad Read() const {
    InflightLoad load;
    load.requests = requests.load(std::memory_order_relaxed);
    load.prefill_requests = prefill_requests.load(std::memory_order_relaxed);
    load.prefill_tokens = prefill_tokens.load(std::memory_order_relaxed);
    load.decode_tokens = decode_tokens.load(std::memory_order_relaxed);
    load.tokens = tokens.load(std::memory_order_relaxed);
    return load;
  }
  // `sign` is 1 or -1.
  void Add(const InflightLoad& by, int64_t sign) {
    requests.fetch_add(sign * by.requests, std::memory_order_relaxed);
    prefill_requests.fetch_add(sign * by.prefill_requests, std::memory_order_relaxed);
    prefill_tokens.fetch_add(sign * by.prefill_tokens, std::memory_order_relaxed);
    decode_tokens.fetch_add(sign * by.decode_tokens, std::memory_order_relaxed);
    tokens.fetch_add(sign * by.tokens, std::memory_order_relaxed);
    if (total) total->Add(by, sign);
  }
};

namespace {

using Key = uint64_t;
constexpr Key RankKey(EndpointId endpoint, uint16_t rank) {
  return (Key{endpoint} << 32) | rank;
}
// Beyond every rank.
constexpr Key TotalKey(EndpointId endpoint) {
  return (Key{endpoint} << 32) | (Key{1} << 16);
}
constexpr EndpointId EndpointOf(Key key) {
  return static_cast<EndpointId>(key >> 32);
}

}  // namespace

// Cells are found through an immutable map that is replaced when an endpoint or rank appears or
// leaves, so that reading and booking on known endpoints never wait for a writer.
struct InflightCells {
  using Map = std::unordered_map<Key, std::shared_ptr<InflightCell>>;

  std::shared_ptr<const Map> Current() const { return std::atomic_load(&cells); }

  std::shared_ptr<InflightCell> Find(Key key) const {
    const auto current = Current();
    const auto it = current->find(key);
    return it == current->end() ? nullptr : it->second;
  }

  std::shared_ptr<InflightCell> FindOrMake(EndpointId endpoint, uint16_t rank) EXCLUDES(mutex) {
    if (auto cell = Find(RankKey(endpoint, rank))) return cell;
    MutexLock lock(mutex);
    auto next = std::make_shared<Map>(*Current());
    auto& total = (*next)[TotalKey(endpoint)];
    if (!total) total = std::make_shared<InflightCell>();
    const auto shared_total = total;
    auto& cell = (*next)[RankKey(endpoint, rank)];
    if (!cell) {
      cell = std::make_shared<InflightCell>();
      cell->total = shared_total;
    }
    auto result = cell;
    std::atomic_store(&cells, std::shared_ptr<const Map>(std::move(next)));
    return result;
  }

  // The totals of all of them, made where they are missing.
  std::shared_ptr<const Map> WithTotals(const std::vector<EndpointId>& endpoints) EXCLUDES(mutex) {
    const auto complete = [&endpoints](const Map& map) {
      return std::all_of(endpoints.begin(), endpoints.end(),
                         [&](EndpointId id) { return map.contains(TotalKey(id)); });
    };
    if (auto current = Current(); complete(*current)) return current;
    MutexLock lock(mutex);
    auto next = std::make_shared<Map>(*Current());
    for (const EndpointId id : endpoints) {
      auto& total = (*next)[TotalKey(id)];
      if (!total) total = std::make_shared<InflightCell>();
    }
    std::shared_ptr<const Map> result = std::move(next);
    std::atomic_store(&cells, result);
    return result;
  }

  template <typename Predicate>
  void EraseIf(const Predicate& leaves) EXCLUDES(mutex) {
    MutexLock lock(mutex);
    const auto current = Current();
    if (std::none_of(current->begin(), current->end(),
                     [&](const auto& entry) { return leaves(EndpointOf(entry.first)); })) {
      return;
    }
    auto next = std::make_shared<Map>(*current);
    std::erase_if(*next, [&](const auto& entry) { return leaves(EndpointOf(entry.first)); });
    std::atomic_store(&cells, std::shared_ptr<const Map>(std::move(next)));
  }

  Mutex mutex;  // writers
  std::shared_ptr<const Map> cells = std::make_shared<const Map>();
};

InflightTicket::InflightTicket(InflightTicket&& other) noexcept
    : ledger_(std::move(other.ledger_)),
      cell_(std::move(other.cell_)),
      prefill_tokens_(other.prefill_tokens_),
      decode_tokens_(other.decode_tokens_),
      tokens_(other.tokens_),
      prefilling_(other.prefilling_) {}

InflightTicket& InflightTicket::operator=(InflightTicket&& other) noexcept {
  if (this != &other) {
    Release();
    ledger_ = std::move(other.ledger_);
    cell_ = std::move(other.cell_);
    prefill_tokens_ = other.prefill_tokens_;
    decode_tokens_ = other.decode_tokens_;
    tokens_ = other.tokens_;
    prefilling_ = other.prefilling_;
  }
  return *this;
}

InflightTicket::~InflightTicket() {
  Release();
}

// What this booking adds now.
InflightLoad InflightTicket::Share() const {
  InflightLoad share;
  share.requests = 1;
  share.prefill_requests = prefilling_ ? 1 : 0;
  share.prefill_tokens = prefilling_ ? prefill_tokens_ : 0;
  share.decode_tokens = prefilling_ ? 0 : decode_tokens_;
  share.tokens = tokens_;
  return share;
}

void InflightTicket::PrefillDone() {
  if (!cell_ || !prefilling_) return;
  prefilling_ = false;
  InflightLoad change;
  change.prefill_requests = -1;
  change.prefill_tokens = -prefill_tokens_;
  change.decode_tokens = decode_tokens_;
  cell_->Add(change, 1);
}

void InflightTicket::MoveTo(EndpointId endpoint, uint16_t rank) {
  const auto ledger = ledger_.lock();
  if (!cell_ || !ledger) return;
  auto target = ledger->FindOrMake(endpoint, rank);
  if (target == cell_) return;
  // Never counted nowhere.
  target->Add(Share(), 1);
  cell_->Add(Share(), -1);
  cell_ = std::move(target);
}

void InflightTicket::Release() {
  if (!cell_) return;
  cell_->Add(Share(), -1);
  cell_.reset();
}

InflightLedger::InflightLedger() : cells_(std::make_shared<InflightCells>()) {}
InflightLedger::~InflightLedger() = default;

InflightTicket InflightLedger::Book(EndpointId endpoint, uint16_t rank, int64_t uncached_tokens,
                                    int64_t prompt_tokens, int64_t estimated_output_tokens) {
  InflightTicket ticket;
  ticket.ledger_ = cells_;
  ticket.cell_ = cells_->FindOrMake(endpoint, rank);
  ticket.prefill_tokens_ = uncached_tokens;
  ticket.decode_tokens_ = prompt_tokens + estimated_output_tokens;
  ticket.tokens_ = uncached_tokens + estimated_output_tokens;
  ticket.prefilling_ = true;
  ticket.cell_->Add(ticket.Share(), 1);
  return ticket;
}

InflightLoad InflightLedger::Load(EndpointId endpoint) const {
  const auto cell = cells_->Find(TotalKey(endpoint));
  return cell ? cell->Read() : InflightLoad{};
}

InflightLoad InflightLedger::Load(EndpointId endpoint, uint16_t rank) const {
  const auto cell = cells_->Find(RankKey(endpoint, rank));
  return cell ? cell->Read() : InflightLoad{};
}

std::vector<InflightGauge> InflightLedger::Gauges(const std::vector<EndpointId>& endpoints) {
  const auto cells = cells_->WithTotals(endpoints);
  std::vector<InflightGauge> gauges(endpoints.size());
  for (size_t i = 0; i < endpoints.size(); ++i) gauges[i].cell_ = cells->at(TotalKey(endpoints[i]));
  return gauges;
}

InflightLoad InflightGauge::Read() const {
  return cell_ ? cell_->Read() : InflightLoad{};
}

void InflightLedger::Forget(EndpointId endpoint) {
  cells_->EraseIf([endpoint](EndpointId id) { return id == endpoint; });
}

void InflightLedger::Retain(const std::vector<EndpointId>& endpoints) {
  std::vector<EndpointId> kept = endpoints;
  std::sort(kept.begin(), kept.end());
  cells_->EraseIf(
      [&kept](EndpointId id) { return !std::binary_search(kept.begin(), kept.end(), id); });
}

}  // namespace warmpath::fleet
