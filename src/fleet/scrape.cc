#include "fleet/scrape.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <set>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "codec/json.h"
#include "codec/prometheus_text.h"

namespace warmpath::fleet {
namespace {

using codec::PromSample;

constexpr double kMaxBlockSize = 1 << 20;         // tokens
constexpr double kMaxBlocks = uint64_t{1} << 40;  // more is not believed
constexpr int kMaxRanks = 1024;
constexpr size_t kMaxCandidates = 8;  // of one page: every built-in engine fits
constexpr size_t kMaxVersionBytes = 128;
constexpr std::string_view kVllmRunning = "vllm:num_requests_running";
constexpr std::string_view kVllmUsage = "vllm:kv_cache_usage_perc";
constexpr std::string_view kVllmOldUsage = "vllm:gpu_cache_usage_perc";

// A gauge given once per data-parallel rank.
struct RankGauge {
  double sum = 0;
  int series = 0;
  void Add(double value) {
    if (!std::isfinite(value) || value < 0) return;
    sum += value;
    ++series;
  }
  double mean() const { return series == 0 ? 0 : sum / series; }
};

double CountLabel(const PromSample& sample, std::string_view label) {
  if (label.empty()) return 0;
  const auto value = ParseInt(sample.Label(label));  // "None" before the engine has sized its cache
  return value && *value > 0 ? static_cast<double>(*value) : 0;
}

// Adapter names of a list "a,b"; "" is none.
std::vector<std::string> AdapterList(std::string_view list) {
  std::vector<std::string> names;
  for (const std::string_view part : Split(list, ',')) {
    const std::string_view name = Trim(part);
    if (name.empty() || name.size() > kMaxModelIdBytes) continue;
    if (names.size() == kMaxAdaptersListed) break;
    names.emplace_back(name);
  }
  return names;
}

// What one candidate found on a page.
struct Collector {
  RankGauge running;
  RankGauge waiting;
  RankGauge usage;
  RankGauge old_usage;  // for some releases of vLLM both names are there
  double newest_lora = -1;
  std::map<std::string, RankGauge> custom;
  ScrapedLoad load;

  bool has_load() const {
    return running.series > 0 || waiting.series > 0 || usage.series > 0 || old_usage.series > 0;
  }
  void BlockSize(double tokens) {
    if (tokens >= 1 && tokens <= kMaxBlockSize) load.block_size = static_cast<uint32_t>(tokens);
  }
  // Every rank's series gives the sum over all ranks.
  void Blocks(double count) {
    if (count < 1 || !(count <= kMaxBlocks)) return;
    load.kv_blocks = std::max(load.kv_blocks, static_cast<uint64_t>(count));
  }
  void Lora(const PromSample& sample) {
    if (!(sample.value >= newest_lora)) return;
    newest_lora = sample.value;  // the time of the last change
    load.active_adapters = AdapterList(sample.Label("running_lora_adapters"));
    load.waiting_adapters = AdapterList(sample.Label("waiting_lora_adapters"));
    const auto most = ParseInt(sample.Label("max_lora"));
    load.max_adapters =
        most && *most > 0 ? static_cast<uint32_t>(std::min<int64_t>(*most, kMaxAdaptersListed)) : 0;
  }
  ScrapedLoad Finish() {
    load.running = running.sum;
    load.waiting = waiting.sum;
    load.kv_usage = std::clamp((usage.series > 0 ? usage : old_usage).mean(), 0.0, 1.0);
    if (!load.waiting_adapters.empty()) {
      std::erase_if(load.waiting_adapters,
                    [active = std::set<std::string>(load.active_adapters.begin(),
                                                    load.active_adapters.end())](
                        const std::string& name) { return active.contains(name); });
    }
    for (const auto& [key, gauge] : custom) load.custom.emplace(key, gauge.sum);
    return std::move(load);
  }
};

enum class Field {
  kRunning,
  kWaiting,
  kUsage,
  kOldUsage,
  kLora,
  kCache,
  kBlockSize,
  kBlocks,
  kCustom
};

// One series somebody waits for.
struct Rule {
  size_t candidate = 0;
  Field field = Field::kRunning;
  std::vector<std::pair<std::string, std::string>> labels;
  std::string key;  // of a custom attribute

  bool Matches(const PromSample& sample) const {
    return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
      return sample.Label(label.first) == label.second;
    });
  }
};

}  // namespace

struct LoadReader::Impl {
  std::vector<EngineMetrics> candidates;
  std::map<std::string, std::vector<Rule>, std::less<>> rules;  // by metric name

  uint64_t lengths = 0;  // of those names: bit n for n characters, the last for longer ones

  static uint64_t LengthBit(size_t length) { return uint64_t{1} << std::min<size_t>(length, 63); }

  void Add(size_t candidate, Field field, const MetricSpec& spec, const std::string& key = "") {
    if (spec.name.empty()) return;
    rules[spec.name].push_back({candidate, field, spec.labels, key});
    lengths |= LengthBit(spec.name.size());
  }

  // Of a page of hundreds of series few are wanted.
  const std::vector<Rule>* Find(std::string_view name) const {
    if ((lengths & LengthBit(name.size())) == 0) return nullptr;
    const auto it = rules.find(name);
    return it == rules.end() ? nullptr : &it->second;
  }

  void Take(const Rule& rule, const PromSample& sample, Collector& found) const {
    const EngineMetrics& engine = candidates[rule.candidate];
    switch (rule.field) {
      case Field::kRunning:
        found.running.Add(sample.value);
        if (engine.running.name == kVllmRunning) {
          found.load.ranks = static_cast<uint16_t>(std::min(found.running.series, kMaxRanks));
        }
        return;
      case Field::kWaiting:
        return found.waiting.Add(sample.value);
      case Field::kUsage:
        return found.usage.Add(sample.value);
      case Field::kOldUsage:
        return found.old_usage.Add(sample.value);
      case Field::kLora:
        return found.Lora(sample);
      case Field::kCache:
        found.BlockSize(CountLabel(sample, engine.cache_block_size_label));
        found.Blocks(CountLabel(sample, engine.cache_num_blocks_label));
        if (sample.Label("enable_prefix_caching") == "False") found.load.prefix_caching = false;
        return;
      case Field::kBlockSize:
        return found.BlockSize(sample.value);
      case Field::kBlocks:
        return found.Blocks(sample.value);
      case Field::kCustom:
        if (std::isfinite(sample.value)) {
          RankGauge& gauge = found.custom[rule.key];
          gauge.sum += sample.value;
          ++gauge.series;
        }
        return;
    }
  }
};

namespace {

template <typename Impl>
class PageVisitor final : public codec::PromVisitor {
 public:
  PageVisitor(const Impl& impl, std::span<Collector> found) : impl_(impl), found_(found) {}

  bool Wants(std::string_view name) override {
    rules_ = impl_.Find(name);
    return rules_ != nullptr;
  }
  void OnSample(const PromSample& sample) override {
    for (const Rule& rule : *rules_) {
      if (rule.Matches(sample)) impl_.Take(rule, sample, found_[rule.candidate]);
    }
  }

 private:
  const Impl& impl_;
  const std::span<Collector> found_;
  const std::vector<Rule>* rules_ = nullptr;  // of the line being read
};

}  // namespace

LoadReader::LoadReader(std::vector<EngineMetrics> candidates) {
  auto impl = std::make_unique<Impl>();
  impl->candidates = std::move(candidates);
  WP_CHECK(impl->candidates.size() <= kMaxCandidates);
  for (size_t i = 0; i < impl->candidates.size(); ++i) {
    const EngineMetrics& engine = impl->candidates[i];
    impl->Add(i, Field::kRunning, engine.running);
    impl->Add(i, Field::kWaiting, engine.queued);
    impl->Add(i, Field::kUsage, engine.kv_usage);
    if (engine.kv_usage.name == kVllmUsage) {
      impl->Add(i, Field::kOldUsage, {std::string(kVllmOldUsage), engine.kv_usage.labels});
    }
    impl->Add(i, Field::kLora, engine.lora);
    impl->Add(i, Field::kCache, engine.cache_info);
    impl->Add(i, Field::kBlockSize, engine.cache_block_size);
    impl->Add(i, Field::kBlocks, engine.cache_num_blocks);
    for (const auto& [key, spec] : engine.custom) impl->Add(i, Field::kCustom, spec, key);
  }
  impl_ = std::move(impl);
}

LoadReader::~LoadReader() = default;

const std::string& LoadReader::health_path() const {
  static const std::string usual = "/health";
  return impl_->candidates.empty() ? usual : impl_->candidates.front().health_path;
}

Result<ScrapedLoad> LoadReader::Read(std::string_view metrics_text) const {
  std::array<Collector, kMaxCandidates> collectors;
  const std::span found(collectors.data(), impl_->candidates.size());
  PageVisitor visitor(*impl_, found);
  WP_TRY([[maybe_unused]] const codec::PromStats stats,
         codec::ReadPrometheusText(metrics_text, visitor));
  for (Collector& collected : found) {
    if (collected.has_load()) return collected.Finish();
  }
  std::string names;
  for (const EngineMetrics& engine : impl_->candidates) {
    names += (names.empty() ? "" : ", ") + engine.engine;
  }
  return Fail(Code::kUnsupported, "no load metrics on the page; looked for those of " + names);
}

EngineChoice LoadReaders::For(const std::map<std::string, std::string>& labels) {
  EngineChoice choice;
  if (const auto label = labels.find(config_.engine_label); label != labels.end()) {
    choice.engine = label->second;
  }
  const EngineMetrics* named = choice.engine.empty() ? nullptr : FindEngine(config_, choice.engine);
  choice.known = choice.engine.empty() || named != nullptr;
  auto& reader = readers_[named != nullptr ? named->engine : ""];
  if (!reader) {
    reader = std::make_shared<const LoadReader>(named != nullptr ? std::vector{*named} : Guesses());
  }
  choice.reader = reader;
  return choice;
}

// For endpoints that do not say what they are.
std::vector<EngineMetrics> LoadReaders::Guesses() const {
  std::vector<EngineMetrics> guesses;
  for (const std::string& name :
       {config_.default_engine, std::string("vllm"), std::string("sglang")}) {
    const EngineMetrics* engine = FindEngine(config_, name);
    const bool again = std::any_of(guesses.begin(), guesses.end(),
                                   [&](const auto& guess) { return guess.engine == name; });
    if (engine != nullptr && !again) guesses.push_back(*engine);
  }
  return guesses;
}

Result<ScrapedLoad> ParseLoad(std::string_view metrics_text) {
  static const LoadReader reader({BuiltInEngines().begin(), BuiltInEngines().begin() + 2});
  return reader.Read(metrics_text);
}

Result<std::vector<ServedModel>> ParseModels(std::string_view body) {
  WP_TRY(const codec::Json json, codec::ParseJson(body));
  const codec::Json* data = codec::Find(json, "data");
  if (data == nullptr || !data->is_array()) {
    return Fail(Code::kInvalidArgument, "no \"data\" list in the answer");
  }
  std::vector<ServedModel> models;
  for (const codec::Json& entry : data->get_array()) {
    const auto id = codec::FindString(entry, "id");
    if (!id || id->empty() || id->size() > kMaxModelIdBytes) continue;
    const auto text = [&](std::string_view key) {
      return std::string(codec::FindString(entry, key).value_or("").substr(0, kMaxModelIdBytes));
    };
    models.push_back({std::string(*id), text("root"), text("parent")});
    if (models.size() == kMaxServedModels) break;
  }
  if (models.empty()) return Fail(Code::kInvalidArgument, "no model in the answer");
  return models;
}

Result<std::string> ParseVersion(std::string_view body) {
  WP_TRY(const codec::Json json, codec::ParseJson(body));
  const auto version = codec::FindString(json, "version");
  if (!version) return Fail(Code::kInvalidArgument, "no \"version\" in the answer");
  return std::string(version->substr(0, kMaxVersionBytes));
}

}  // namespace warmpath::fleet
