#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <unordered_set>
#include <vector>

#include "measure.h"
#include "modes.h"

namespace warmpath::bench {
namespace {

using index::HolderMatch;
using index::KvIndex;

// What a written block moves: 16 bytes of the event, 16 of the index's arrays, a cache line of its
// table, read and written back.
constexpr double kBytesPerBlock = 160;
constexpr size_t kChunkEvents = 256;  // removed, then stored again
constexpr size_t kStreamBytes = size_t{64} << 20;

bool PinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return pthread_setaffinity_np(pthread_self(), sizeof(set), &set) == 0;
}

// The store events that are taken away and stored again while lookups run: the corpus's removals,
// and 30 % of the last events of the long sessions, whose chains every lookup of q6250 walks.
class Churn {
 public:
  explicit Churn(const Corpus& corpus) : corpus_(corpus) {
    for (const uint64_t i : corpus.removals()) events_.push_back(&corpus.events()[i]);
    std::vector<std::unordered_set<uint64_t>> parents(corpus.header().endpoints);
    for (const Event& e : corpus.events()) {
      if (e.set == 1 && e.has_parent != 0) parents[e.endpoint].insert(e.parent);
    }
    Random random(7);
    for (const Event& e : corpus.events()) {
      if (e.set != 1 || random.Below(10) >= 3) continue;
      bool leaf = true;
      for (const uint64_t hash : corpus.hashes(e))
        leaf = leaf && !parents[e.endpoint].contains(hash);
      if (leaf) events_.push_back(&e);
    }
    for (size_t i = events_.size(); i > 1; --i) std::swap(events_[i - 1], events_[random.Below(i)]);
    for (const Event* e : events_) {
      const auto hashes = corpus.hashes(*e);
      tail_first_.emplace_back(hashes.rbegin(), hashes.rend());
    }
  }

  size_t events() const { return events_.size(); }

  uint64_t RemoveRange(KvIndex& index, size_t from, size_t to) const {
    uint64_t blocks = 0;
    for (size_t i = from; i < to; ++i) {
      index.Remove({events_[i]->endpoint, 0}, index::Tier::kGpu, 0, tail_first_[i]);
      blocks += tail_first_[i].size();
    }
    return blocks;
  }
  uint64_t StoreRange(KvIndex& index, size_t from, size_t to) const {
    uint64_t blocks = 0;
    for (size_t i = from; i < to; ++i) {
      if (Apply(index, corpus_, *events_[i])) blocks += events_[i]->count;
    }
    return blocks;
  }

  // Blocks written until `stop`; the index is left as it was.
  uint64_t Run(KvIndex& index, const std::atomic<bool>& stop) {
    uint64_t blocks = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      const size_t to = std::min(next_ + kChunkEvents, events_.size());
      blocks += RemoveRange(index, next_, to);
      blocks += StoreRange(index, next_, to);
      next_ = to == events_.size() ? 0 : to;
    }
    return blocks;
  }

 private:
  const Corpus& corpus_;
  std::vector<const Event*> events_;
  std::vector<std::vector<kv::EngineHash>> tail_first_;
  size_t next_ = 0;
};

// Copies through memory of its own, as many bytes per second; returns how many it moved (read and
// written).
uint64_t Stream(double bytes_per_second, std::vector<char>& from, std::vector<char>& to,
                const std::atomic<bool>& stop) {
  constexpr size_t kPiece = size_t{1} << 16;
  const uint64_t start = WallNanos();
  uint64_t moved = 0;
  size_t at = 0;
  while (!stop.load(std::memory_order_relaxed)) {
    if (static_cast<double>(moved) >
        bytes_per_second * 1e-9 * static_cast<double>(WallNanos() - start))
      continue;
    std::memcpy(to.data() + at, from.data() + at, kPiece);
    at = (at + kPiece) % kStreamBytes;
    moved += 2 * kPiece;
  }
  return moved;
}

enum Mode : uint32_t { kBesideWriter, kBesideStream, kBesideTwin, kAlone, kModes };
constexpr const char* kModeNames[] = {"writer", "stream", "twin", "alone"};

// The least and the most that each lookup may find while the churn goes on.
struct Bounds {
  std::vector<uint32_t> least, most;  // query-major, by endpoint
};

class Reader {
 public:
  Reader(const KvIndex& index, const Corpus& corpus)
      : index_(index), endpoints_(corpus.header().endpoints) {
    for (const Query& q : corpus.queries()) {
      if (q.set == kQ6250 || q.set == kQTrace) queries_.push_back({q.set, corpus.keys(q)});
    }
    Random random(3);
    for (size_t i = queries_.size(); i > 1; --i)
      std::swap(queries_[i - 1], queries_[random.Below(i)]);
  }

  std::vector<uint32_t> Results() {
    std::vector<uint32_t> out(queries_.size() * endpoints_);
    for (size_t i = 0; i < queries_.size(); ++i) {
      index_.Match(queries_[i].keys, found_);
      for (const HolderMatch& m : found_) out[i * endpoints_ + m.holder.endpoint] = m.blocks;
    }
    return out;
  }

  // Lookups for `nanos`; their times, by query set.
  void Window(uint64_t nanos, const Bounds& bounds, std::vector<uint64_t> (&times)[kQuerySets]) {
    const uint64_t until = WallNanos() + nanos;
    for (uint64_t end = 0; end < until;) {
      const auto& [set, keys] = queries_[next_];
      Warm(keys);
      const uint64_t start = WallNanos();
      index_.Match(keys, found_);
      end = WallNanos();
      times[set].push_back(end - start);
      Check(bounds);
      next_ = (next_ + 1) % queries_.size();
      ++lookups_;
    }
  }

  uint64_t wrong() const { return wrong_; }
  uint64_t lookups() const { return lookups_; }

 private:
  void Check(const Bounds& bounds) {
    const uint32_t* least = &bounds.least[next_ * endpoints_];
    const uint32_t* most = &bounds.most[next_ * endpoints_];
    size_t due = 0;
    for (size_t e = 0; e < endpoints_; ++e) due += least[e] > 0;
    for (const HolderMatch& m : found_) {
      const size_t e = m.holder.endpoint;
      if (m.blocks < least[e] || m.blocks > most[e]) ++wrong_;
      due -= least[e] > 0;
    }
    wrong_ += due;
  }

  struct Prepared {
    uint32_t set;
    std::span<const kv::BlockKey> keys;
  };
  const KvIndex& index_;
  const size_t endpoints_;
  std::vector<Prepared> queries_;
  std::vector<HolderMatch> found_;
  size_t next_ = 0;
  uint64_t wrong_ = 0, lookups_ = 0;
};

}  // namespace

int RunConcurrency(const Corpus& corpus, const ModeOptions& options) {
  if (std::thread::hardware_concurrency() < 2 || !PinTo(0)) {
    std::fputs("index_bench: lookups beside a writer need two processors this process may use\n",
               stderr);
    return 2;
  }
  KvIndex index(options.budget_bytes), twin(options.budget_bytes);
  for (const Event& event : corpus.events()) {
    Apply(index, corpus, event);
    Apply(twin, corpus, event);
  }
  Churn churn(corpus), twin_churn(corpus);
  Reader reader(index, corpus);
  Bounds bounds;
  bounds.most = reader.Results();
  churn.RemoveRange(index, 0, churn.events());
  bounds.least = reader.Results();
  churn.StoreRange(index, 0, churn.events());
  std::vector<char> from(kStreamBytes, 1), to(kStreamBytes, 2);

  constexpr double kWindowSeconds = 0.25;
  const int rounds = std::max(1, static_cast<int>((options.seconds > 0 ? options.seconds : 20) /
                                                  (kWindowSeconds * uint32_t{kModes})));
  std::vector<uint64_t> p50[kModes][kQuerySets], p99[kModes][kQuerySets], rates[kModes];
  for (int round = 0; round < rounds; ++round) {
    double bytes_per_second = 0;
    for (uint32_t mode = 0; mode < kModes; ++mode) {
      std::atomic<bool> stop{false}, running{false};
      uint64_t work = 0, nanos = 0;
      std::thread other([&] {
        PinTo(1);
        running.store(true);
        const uint64_t start = WallNanos();
        if (mode == kBesideWriter) work = churn.Run(index, stop);
        if (mode == kBesideStream) work = Stream(bytes_per_second, from, to, stop);
        if (mode == kBesideTwin) work = twin_churn.Run(twin, stop);
        nanos = WallNanos() - start;
      });
      while (!running.load()) {
      }
      std::vector<uint64_t> times[kQuerySets];
      reader.Window(static_cast<uint64_t>(kWindowSeconds * 1e9), bounds, times);
      stop.store(true);
      other.join();
      const double rate =
          static_cast<double>(work) * 1e9 / static_cast<double>(std::max<uint64_t>(nanos, 1));
      if (mode == kBesideWriter) bytes_per_second = rate * kBytesPerBlock;
      rates[mode].push_back(static_cast<uint64_t>(rate));
      for (const QuerySet set : {kQ6250, kQTrace}) {
        p50[mode][set].push_back(Percentile(times[set], 0.5));
        p99[mode][set].push_back(Percentile(times[set], 0.99));
      }
    }
  }
  Json json;
  json.Text("mode", "concurrency");
  for (uint32_t mode = 0; mode < kModes; ++mode) {
    for (const QuerySet set : {kQ6250, kQTrace}) {
      const std::string name = std::string(kModeNames[mode]) + "_" + kQuerySetNames[set];
      json.Count(name + "_p50_ns", Percentile(p50[mode][set], 0.5));
      json.Count(name + "_p99_ns", Percentile(p99[mode][set], 0.5));
    }
  }
  json.Number("writer_mps", static_cast<double>(Percentile(rates[kBesideWriter], 0.5)) / 1e6);
  json.Number("twin_mps", static_cast<double>(Percentile(rates[kBesideTwin], 0.5)) / 1e6);
  json.Number("stream_gbps", static_cast<double>(Percentile(rates[kBesideStream], 0.5)) / 1e9);
  json.Count("lookups", reader.lookups());
  json.Count("wrong", reader.wrong());
  std::fputs(json.Line().c_str(), stdout);
  return reader.wrong() == 0 ? 0 : 1;
}

}  // namespace warmpath::bench
