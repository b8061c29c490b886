#include <memory>
#include <vector>

#include "measure.h"
#include "modes.h"

namespace warmpath::bench {
namespace {

using index::HolderMatch;
using index::KvIndex;

struct Stores {
  uint64_t blocks = 0;
  uint64_t orphans = 0;
  double cpu = 0;
};

Stores StoreSet(KvIndex& index, const Corpus& corpus, uint32_t set) {
  Stores out;
  const double start = CpuSeconds();
  for (const Event& event : corpus.events()) {
    if (event.set != set) continue;
    if (Apply(index, corpus, event)) {
      out.blocks += event.count;
    } else {
      ++out.orphans;
    }
  }
  out.cpu = CpuSeconds() - start;
  return out;
}

// Every query of every set; with `json`, the times of each set into it.
void Ask(const KvIndex& index, const Corpus& corpus, const std::string& stage, bool times,
         Json& json) {
  std::vector<HolderMatch> out;
  std::vector<uint64_t> nanos[kQuerySets];
  uint64_t sums[kQuerySets] = {}, pairs = 0, number = 0;
  for (const Query& query : corpus.queries()) {
    const auto keys = corpus.keys(query);
    Warm(keys);
    const uint64_t start = WallNanos();
    index.Match(keys, out);
    nanos[query.set].push_back(WallNanos() - start);
    for (const HolderMatch& m : out) {
      if (m.blocks == 0) continue;
      AddResult(sums[query.set], number, m.holder.endpoint, m.blocks);
      ++pairs;
    }
    ++number;
  }
  for (size_t set = 0; set < kQuerySets; ++set) {
    const std::string name = kQuerySetNames[set];
    if (times) {
      json.Count(name + "_p50_ns", Percentile(nanos[set], 0.5));
      json.Count(name + "_p99_ns", Percentile(nanos[set], 0.99));
    }
    json.Hex("check_" + stage + "_" + name, sums[set]);
  }
  json.Count("check_" + stage + "_pairs", pairs);
}

}  // namespace

int RunWorkload(const Corpus& corpus, const ModeOptions& options) {
  Json json;
  json.Text("index", "warmpath");
  json.Count("endpoints", corpus.header().endpoints);
  const uint64_t resident = AnonymousBytes();
  KvIndex index(options.budget_bytes);
  const Stores t = StoreSet(index, corpus, 0);
  const auto after_t = index.stats();
  const uint64_t resident_t = AnonymousBytes();
  const Stores l = StoreSet(index, corpus, 1);
  json.Count("held_t", t.blocks);
  json.Count("held_l", l.blocks);
  json.Count("orphans", t.orphans + l.orphans);
  json.Number("store_new_mps", static_cast<double>(t.blocks) / t.cpu / 1e6);
  json.Number("store_known_mps", static_cast<double>(l.blocks) / l.cpu / 1e6);
  json.Count("bytes_t", after_t.bytes);
  json.Count("rss_t", resident_t - resident);
  json.Count("bytes_all", index.stats().bytes);
  json.Count("rss_all", AnonymousBytes() - resident);
  Ask(index, corpus, "stored", true, json);

  std::vector<std::vector<kv::EngineHash>> removals;
  uint64_t removed = 0;
  for (const uint64_t i : corpus.removals()) {
    const auto hashes = corpus.hashes(corpus.events()[i]);
    removals.emplace_back(hashes.rbegin(), hashes.rend());
    removed += hashes.size();
  }
  double start = CpuSeconds();
  for (size_t i = 0; i < removals.size(); ++i) {
    index.Remove({corpus.events()[corpus.removals()[i]].endpoint, 0}, index::Tier::kGpu, 0,
                 removals[i]);
  }
  json.Number("remove_mps", static_cast<double>(removed) / (CpuSeconds() - start) / 1e6);
  json.Count("removed", removed);
  Ask(index, corpus, "removed", false, json);

  start = CpuSeconds();
  index.Clear(index::Holder{0, 0});
  json.Number("clear_ms", (CpuSeconds() - start) * 1e3);
  Ask(index, corpus, "cleared", false, json);
  const auto stats = index.stats();
  json.Count("evicted_budget", stats.evicted_budget);
  json.Count("unknown_removals", stats.unknown_removals);
  std::fputs(json.Line().c_str(), stdout);
  return stats.evicted_budget == 0 && t.orphans + l.orphans == 0 ? 0 : 1;
}

int RunEviction(const Corpus& corpus, const ModeOptions& options) {
  uint64_t needed = 0;
  {
    KvIndex full(options.budget_bytes);
    StoreSet(full, corpus, 0);
    needed = full.stats().bytes;
  }
  const uint64_t budget = needed / 2 * 8 / 7;  // an eighth of a budget is for holds
  KvIndex index(budget);
  uint64_t blocks = 0, orphans = 0, most = 0;
  const double start = CpuSeconds();
  for (const Event& event : corpus.events()) {
    if (event.set != 0) break;
    Apply(index, corpus, event) ? blocks += event.count : ++orphans;
    if ((blocks & 63) == 0) most = std::max(most, index.stats().bytes);
  }
  const double cpu = CpuSeconds() - start;
  const auto stats = index.stats();
  most = std::max(most, stats.bytes);
  Json json;
  json.Text("mode", "eviction");
  json.Count("budget_bytes", budget);
  json.Count("most_bytes", most);
  json.Count("stored", blocks);
  json.Count("orphans", orphans);
  json.Count("evicted", stats.evicted_budget);
  json.Number("store_evicting_mps", static_cast<double>(blocks) / cpu / 1e6);
  std::fputs(json.Line().c_str(), stdout);
  return most <= budget ? 0 : 1;
}

}  // namespace warmpath::bench
