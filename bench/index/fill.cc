#include <memory>
#include <vector>

#include "measure.h"
#include "modes.h"

namespace warmpath::bench {
namespace {

using index::KvIndex;

constexpr uint32_t kChainBlocks = 1024, kSharedBlocks = 128, kGroups = 256, kEventBlocks = 512;
constexpr uint32_t kNewBlocks = 32;  // of a query, beyond what is stored
constexpr size_t kBatchChains = 64;
constexpr size_t kQueriesPerStop = 4000;

// Chain number `c`: 128 blocks that it shares with a 256th of all chains, 896 of its own.
class Chains {
 public:
  explicit Chains(uint32_t endpoints) : endpoints_(endpoints) {}

  uint32_t endpoint(uint64_t c) const { return static_cast<uint32_t>(c % endpoints_); }
  static uint32_t group(uint64_t c) { return static_cast<uint32_t>(Mix(c) % kGroups); }

  static void Names(uint64_t c, uint32_t blocks, std::vector<kv::EngineHash>* hashes,
                    std::vector<kv::BlockKey>& keys) {
    for (uint32_t i = 0; i < blocks; ++i) {
      const uint64_t owner = i < kSharedBlocks ? group(c) : (c << 8) + kGroups;
      keys.push_back(Mix(Mix(owner) + i));
      if (hashes != nullptr) hashes->push_back(Mix(~keys.back()));
    }
  }

 private:
  uint32_t endpoints_;
};

struct Batch {
  struct Part {
    index::Holder holder;
    uint64_t parent;  // engine hash; 0: none
    size_t begin, count;
  };
  std::vector<Part> parts;
  std::vector<kv::EngineHash> hashes;
  std::vector<kv::BlockKey> keys;
};

}  // namespace

int RunFill(const ModeOptions& options) {
  const auto allowed = static_cast<uint64_t>(
      options.memory_fraction * static_cast<double>(ProcBytes("/proc/meminfo", "MemAvailable")));
  const uint64_t resident = AnonymousBytes();
  KvIndex index(allowed);
  const Chains chains(options.fill_endpoints);
  std::vector<bool> has_shared(size_t{options.fill_endpoints} * kGroups);
  Random random(11);
  const uint64_t deadline =
      WallNanos() + static_cast<uint64_t>((options.seconds > 0 ? options.seconds : 60) * 1e9);
  uint64_t stored = 0, chain = 0, stop_at = std::min<uint64_t>(options.fill_blocks, 1000000),
           wrong = 0;
  uint64_t since = 0;
  double cpu = 0, slowest_batch = 0;
  std::string stops, why = "goal";
  Batch batch;
  for (bool more = true; more;) {
    batch.parts.clear(), batch.hashes.clear(), batch.keys.clear();
    for (size_t i = 0; i < kBatchChains; ++i, ++chain) {
      const size_t at = batch.keys.size();
      Chains::Names(chain, kChainBlocks, &batch.hashes, batch.keys);
      const index::Holder holder{chains.endpoint(chain), 0};
      auto shared = has_shared[size_t{holder.endpoint} * kGroups + Chains::group(chain)];
      for (size_t from = shared ? kSharedBlocks : 0; from < kChainBlocks;) {
        const size_t count = std::min<size_t>(kEventBlocks, kChainBlocks - from);
        batch.parts.push_back(
            {holder, from == 0 ? 0 : batch.hashes[at + from - 1], at + from, count});
        from += count;
        since += count;
      }
      shared = true;
    }
    const double start = CpuSeconds();
    for (const Batch::Part& part : batch.parts) {
      index::Parent parent{kRootKey, 0};
      if (part.parent != 0) parent = index.FindParent(part.holder, 0, part.parent).value_or(parent);
      index.Store(part.holder, index::Tier::kGpu, 0, parent,
                  std::span(batch.hashes).subspan(part.begin, part.count),
                  std::span(batch.keys).subspan(part.begin, part.count));
    }
    const double took = CpuSeconds() - start;
    cpu += took;
    slowest_batch = std::max(slowest_batch, took);
    const auto stats = index.stats();
    if (stats.evicted_budget > 0) why = "memory";
    if (WallNanos() > deadline) why = "time";
    more = why == "goal" && stored + since < options.fill_blocks;
    if (more && stored + since < stop_at) continue;

    stored += since;
    std::vector<uint64_t> nanos;
    std::vector<kv::BlockKey> keys;
    std::vector<index::HolderMatch> found;
    uint64_t holders = 0;
    for (size_t i = 0; i < kQueriesPerStop; ++i) {
      const uint64_t c = random.Below(chain);
      keys.clear();
      Chains::Names(c, kChainBlocks, nullptr, keys);
      for (uint32_t j = 0; j < kNewBlocks; ++j) keys.push_back(random.Next());
      const uint64_t begin = WallNanos();
      index.Match(keys, found);
      nanos.push_back(WallNanos() - begin);
      holders += found.size();
      bool own = false;
      for (const auto& m : found)
        own = own || (m.holder.endpoint == chains.endpoint(c) && m.blocks == kChainBlocks);
      wrong += !own && stats.evicted_budget == 0;
    }
    Json json;
    json.Count("stored", stored);
    json.Count("blocks", stats.blocks);
    json.Number("bytes_per_held", static_cast<double>(stats.bytes) / static_cast<double>(stored));
    json.Number("rss_per_held",
                static_cast<double>(AnonymousBytes() - resident) / static_cast<double>(stored));
    json.Number("store_mps", static_cast<double>(since) / cpu / 1e6);
    json.Number("slowest_batch_ms", slowest_batch * 1e3);
    json.Count("batch_blocks", kBatchChains * kChainBlocks);
    json.Count("lookup_p50_ns", Percentile(nanos, 0.5));
    json.Count("lookup_p99_ns", Percentile(nanos, 0.99));
    json.Number("holders_per_lookup", static_cast<double>(holders) / kQueriesPerStop);
    std::string line = json.Line();
    line.pop_back();
    stops += (stops.empty() ? "" : ", ") + line;
    std::fprintf(stderr, "  fill: %.0f M blocks, %.1f B per held block, %.1f M blocks/s\n",
                 static_cast<double>(stored) / 1e6,
                 static_cast<double>(stats.bytes) / static_cast<double>(stored),
                 static_cast<double>(since) / cpu / 1e6);
    since = 0, cpu = 0, slowest_batch = 0;
    stop_at = std::min(options.fill_blocks, stored * 3);
  }
  std::printf(
      "{\"mode\": \"fill\", \"goal\": %llu, \"endpoints\": %u, \"memory_bytes\": %llu, "
      "\"stopped_by\": \"%s\", "
      "\"wrong\": %llu, \"stops\": [%s]}\n",
      static_cast<unsigned long long>(options.fill_blocks), options.fill_endpoints,
      static_cast<unsigned long long>(allowed), why.c_str(), static_cast<unsigned long long>(wrong),
      stops.c_str());
  return wrong == 0 ? 0 : 1;
}

}  // namespace warmpath::bench
