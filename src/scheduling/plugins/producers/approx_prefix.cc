// approx-prefix-cache-producer: believes that an endpoint holds the prompts it was sent lately.
//
// A prompt is cut into blocks of tokens, the last partial one included; each block's key is chained
// over all before it and starts at the model and the cache salt. Exact and pseudo tokens never
// match one another. At most kMaxBlocks blocks of a request are looked at, whatever is configured.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>

#include "base/hash.h"
#include "base/log.h"
#include "scheduling/plugins/plugins.h"
#include "scheduling/plugins/producers/approx_index.h"
#include "scheduling/prefix_source.h"

namespace warmpath::scheduling {
namespace {

constexpr size_t kMaxBlocks = 65'536;
constexpr size_t kMaxCapacity = size_t{1} << 20;  // blocks per endpoint
constexpr size_t kMaxEntries = size_t{8} << 20;   // of all endpoints: about 256 MiB
constexpr uint32_t kSmallestTunedBlock = 64;
constexpr uint64_t kBytesPerToken = 4;  // as llm-d converts tokens for hit_bytes
constexpr Duration kUnseen = std::chrono::minutes(2);
constexpr Duration kSweepInterval = std::chrono::seconds(10);

struct Chains {
  std::vector<std::vector<uint64_t>> prompts;
  uint32_t block_size = 0;
};

class ApproxPrefixProducer final : public PrefixProducer {
 public:
  explicit ApproxPrefixProducer(const PluginContext& context)
      : PrefixProducer(context.by_default ? Serves::kExactElseProduced : Serves::kProduced,
                       context.slot),
        clock_(context.clock),
        by_default_(context.by_default),
        auto_tune_(BoolParameter(context.parameters, "autoTune", true)),
        block_size_(
            static_cast<uint32_t>(Count(context.parameters, "blockSizeTokens", 16, 1 << 24))),
        max_blocks_(Limit(context.parameters, "maxPrefixBlocksToMatch", 2048)),
        max_tokens_(Limit(context.parameters, "maxPrefixTokensToMatch", 131'072)),
        capacity_(Count(context.parameters, "lruCapacityPerServer", 31'250, kMaxCapacity)),
        index_(kMaxEntries) {
    if (context.metrics == nullptr) return;
    const Labels labels = {{"plugin_name", context.name}, {"plugin_type", context.type}};
    std::vector<double> ratios, bytes = {0};
    for (int i = 0; i <= 10; ++i) ratios.push_back(i / 10.0);
    for (double b = 16; b <= 65'536; b *= 2) bytes.push_back(b);
    Registry& metrics = *context.metrics;
    size_ =
        metrics.AddGauge("llm_d_epp_prefix_indexer_size",
                         "Blocks the approximate prefix index holds, of all endpoints.", labels);
    hit_ratio_ = metrics.AddHistogram("llm_d_epp_prefix_indexer_hit_ratio",
                                      "Share of a prompt's blocks that the picked endpoint is "
                                      "believed to hold.",
                                      ratios, labels);
    hit_bytes_ =
        metrics.AddHistogram("llm_d_epp_prefix_indexer_hit_bytes",
                             "Length of the matched prefix, four bytes to a token.", bytes, labels);
  }

  bool wants_estimated_tokens() const override { return true; }

  void Produce(Request& request) const override {
    if (request.prompts.empty() || request.candidates.empty()) return;
    if (by_default_ && !Needed(request)) return;
    const TimePoint now = clock_.Now();
    const auto chains = std::make_shared<const Chains>(ChainsOf(request));
    std::vector<fleet::EndpointId> endpoints;
    for (const Candidate& c : request.candidates) endpoints.push_back(c.endpoint->id);
    PrefixMatch match;
    match.block_size = chains->block_size;
    for (const auto& chain : chains->prompts) {
      match.total_blocks += static_cast<uint32_t>(chain.size());
    }
    for (Candidate& c : request.candidates) c.produced[slot()] = match;
    for (const auto& chain : chains->prompts) {
      const std::vector<uint32_t> matched = index_.Match(chain, endpoints, now);
      for (size_t i = 0; i < matched.size(); ++i) {
        request.candidates[i].produced[slot()].matched_blocks += matched[i];
      }
    }
    request.produced[slot()] = chains;
  }

  void Picked(const Request& request, const Candidate& picked, PickEffects&) override {
    if (slot() >= request.produced.size() || request.produced[slot()] == nullptr) return;
    if (by_default_ && picked.exact) return;
    const auto& chains = *static_cast<const Chains*>(request.produced[slot()].get());
    const TimePoint now = clock_.Now();
    for (const auto& chain : chains.prompts) {
      index_.Store(picked.endpoint->id, chain, CapacityOf(*picked.endpoint, chains.block_size),
                   now);
    }
    Duration::rep due = next_sweep_.load(std::memory_order_relaxed);
    if (now.time_since_epoch().count() >= due &&
        next_sweep_.compare_exchange_strong(due,
                                            (now + kSweepInterval).time_since_epoch().count())) {
      index_.Sweep(now - kUnseen);
    }
    if (!size_) return;
    const PrefixMatch& match = picked.produced[slot()];
    size_->Set(static_cast<double>(index_.size()));
    hit_ratio_->Observe(match.total_blocks == 0
                            ? 0
                            : static_cast<double>(match.matched_blocks) / match.total_blocks);
    hit_bytes_->Observe(
        static_cast<double>(uint64_t{match.matched_blocks} * match.block_size * kBytesPerToken));
  }

 private:
  // A positive number, or the default in its place.
  static size_t Count(const codec::Json& parameters, const char* name, size_t fallback,
                      size_t max) {
    const double value = NumberParameter(parameters, name, static_cast<double>(fallback));
    return value < 1 ? fallback : static_cast<size_t>(std::min(value, static_cast<double>(max)));
  }
  // 0 = no limit.
  static size_t Limit(const codec::Json& parameters, const char* name, double fallback) {
    return static_cast<size_t>(std::clamp(NumberParameter(parameters, name, fallback), 0.0, 1e12));
  }

  // Whether any candidate must be guessed at.
  bool Needed(const Request& request) const {
    const auto exact = [](const Candidate& c) { return c.exact; };
    const auto& all = request.candidates;
    if (std::any_of(all.begin(), all.end(), exact) && !told_.exchange(true)) {
      WP_LOG(kInfo, "scheduling",
             "endpoints with events are matched exactly; the approximate prefix producer made by "
             "default serves the others only");
    }
    return !std::all_of(all.begin(), all.end(), exact);
  }

  uint32_t BlockSizeFor(const Request& request) const {
    if (!auto_tune_) return block_size_;
    uint32_t engine = 0;
    for (const Candidate& c : request.candidates) {
      engine = c.endpoint->load.block_size;
      if (engine != 0) break;
    }
    return std::max(kSmallestTunedBlock, engine != 0 ? engine : block_size_);
  }

  // Blocks of ours that the engine has room for.
  size_t CapacityOf(const fleet::Endpoint& endpoint, uint32_t block_size) const {
    if (!auto_tune_ || endpoint.load.kv_blocks == 0 || endpoint.load.block_size == 0) {
      return capacity_;
    }
    const double tokens = static_cast<double>(endpoint.load.kv_blocks) *
                          static_cast<double>(endpoint.load.block_size);
    return static_cast<size_t>(
        std::clamp(tokens / block_size, 1.0, static_cast<double>(kMaxCapacity)));
  }

  Chains ChainsOf(const Request& request) const {
    Chains chains;
    chains.block_size = BlockSizeFor(request);
    const size_t size = chains.block_size;
    size_t limit = kMaxBlocks;
    if (max_tokens_ > 0) {
      limit = std::min(limit, max_tokens_ / size);
    } else if (max_blocks_ > 0) {
      limit = std::min(limit, max_blocks_);
    }
    std::string root = request.target_model.empty() ? request.model : request.target_model;
    root += '\0';
    root += request.cache_salt;
    const uint64_t start = Xxh3(root, seed_ + (request.tokens_estimated ? 1 : 0));
    size_t room = kMaxBlocks;
    for (const auto& tokens : request.prompts) {
      std::vector<uint64_t>& chain = chains.prompts.emplace_back();
      const size_t blocks = std::min({(tokens.size() + size - 1) / size, limit, room});
      chain.reserve(blocks);
      room -= blocks;
      uint64_t previous = start;
      for (size_t i = 0; i < blocks; ++i) {
        const auto block = tokens.subspan(i * size, std::min(size, tokens.size() - i * size));
        const uint64_t pair[2] = {Xxh3(std::as_bytes(block), seed_), previous};
        previous = Xxh3(std::as_bytes(std::span(pair)), seed_);
        chain.push_back(previous);
      }
    }
    return chains;
  }

  const Clock& clock_;
  const bool by_default_;
  const bool auto_tune_;
  const uint32_t block_size_;
  const size_t max_blocks_;
  const size_t max_tokens_;
  const size_t capacity_;
  const uint64_t seed_ = ProcessSeed();
  ApproxIndex index_;
  mutable std::atomic<bool> told_{false};
  std::atomic<Duration::rep> next_sweep_{0};
  std::optional<Gauge> size_;
  std::optional<Histogram> hit_ratio_, hit_bytes_;
};

}  // namespace

std::vector<PluginType> ApproxPrefixTypes() {
  PluginType type{"approx-prefix-cache-producer", Role::kProducer, {}, {}, {}};
  type.parameters = {Bool("autoTune"), Integer("blockSizeTokens", 0),
                     Integer("maxPrefixBlocksToMatch", 0), Integer("maxPrefixTokensToMatch", 0),
                     Integer("lruCapacityPerServer", 0)};
  type.note =
      "made by default, it serves only endpoints without events or exact tokens; configured, it "
      "serves all";
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<ApproxPrefixProducer>(context);
  };
  return {type};
}

}  // namespace warmpath::scheduling
