#include "routing/metrics.h"

#include <algorithm>
#include <atomic>

namespace warmpath::routing {
namespace {

constexpr size_t kMaxModels = 1000;
constexpr size_t kMaxFairnessIds = 1000;
constexpr size_t kMaxLabelSets = 4096;
constexpr size_t kMaxAttemptSeries = 10'000;
constexpr size_t kMaxLabelBytes = 256;
constexpr char kOther[] = "other";

const std::vector<double> kLatencyBuckets = {
    .005, .025, .05, .1, .2, .4,  .6,  .8,  1,   1.25, 1.5, 2,   3,   4,    5,    6,    8,   10,
    15,   20,   30,  45, 60, 120, 180, 240, 300, 360,  480, 600, 900, 1200, 1800, 2700, 3600};
const std::vector<double> kTtftBuckets = {.005, .025, .05, .1, .2, .4, .6, .8, 1,  1.25, 1.5, 2,
                                          3,    4,    5,   6,  8,  10, 15, 20, 30, 45,   60,  120};
const std::vector<double> kFastBuckets = {.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1};
const std::vector<double> kTokenBuckets = {1,     8,      16,     32,     64,     128,   256,
                                           512,   1024,   2048,   4096,   8192,   16384, 32778,
                                           65536, 131072, 262144, 524288, 1048576};
const std::vector<double> kOutputTokenBuckets = {1,   8,   16,   32,   64,   128,
                                                 256, 512, 1024, 2048, 4096, 8192};
const std::vector<double> kResponseBytesBuckets = {1,    8,    16,   32,   64,    128,   256,  512,
                                                   1024, 2048, 4096, 8192, 16384, 32778, 65536};
const std::vector<double> kNtpotBuckets = {.001, .002, .005, .01, .02, .05, .1,
                                           .2,   .5,   1,    2,   5,   10};
const std::vector<double> kTpotBuckets = {.0005, .00205, .005, .01, .02, .04, .06, .08, .1, .125,
                                          .15,   .2,     .3,   .4,  .5,  .6,  .8,  1,   2};
const std::vector<double> kItlBuckets = {.001, .005, .01, .02, .04, .06, .08, .1,
                                         .15,  .2,   .3,  .5,  .75, 1,   2};
const std::vector<double> kRequestProcessingBuckets = {
    .0005, .001, .002, .005, .01, .015, .025, .04, .06, .1, .25, .5, 1, 2.5, 5, 10};
const std::vector<double> kResponseProcessingBuckets = {
    .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5};
// A lookup takes microseconds; the reference's buckets start at 5 ms and would show one bar.
const std::vector<double> kLookupBuckets = {1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4,
                                            2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2};

std::vector<double> RequestBytesBuckets() {
  std::vector<double> buckets;
  for (int power = 6; power <= 30; ++power) buckets.push_back(static_cast<double>(1 << power));
  return buckets;
}

// Bytes of the UTF-8 sequence that `text` starts with; 0 when it is none.
size_t SequenceLength(std::string_view text) {
  const auto at = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                        : first >= 0xe0 && first <= 0xef ? 3
                        : first >= 0xf0 && first <= 0xf4 ? 4
                                                         : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (first == 0xe0 && at(1) < 0xa0) || (first == 0xf0 && at(1) < 0x90);
  const bool beyond = (first == 0xed && at(1) > 0x9f) || (first == 0xf4 && at(1) > 0x8f);
  return overlong || beyond ? 0 : length;
}

// Scrapers refuse a whole page for one value that is not UTF-8.
bool IsCleanLabel(std::string_view text) {
  if (text.size() > kMaxLabelBytes) return false;
  while (!text.empty()) {
    if (static_cast<unsigned char>(text.front()) < 0x20 || text.front() == 0x7f) return false;
    const size_t length = SequenceLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string KeyOf(const RequestLabels& labels) {
  std::string key;
  key.reserve(labels.model.size() + labels.target_model.size() + labels.fairness_id.size() + 16);
  key.append(labels.model).push_back('\0');
  key.append(labels.target_model).push_back('\0');
  key.append(labels.fairness_id).push_back('\0');
  key.append(std::to_string(labels.priority));
  return key;
}

uint64_t NextNumber() {
  static std::atomic<uint64_t> made{0};
  return ++made;
}

// Labels that have a set of their own keep it.
struct LastLabels {
  uint64_t owner = 0;
  std::string model;
  std::string target_model;
  std::string fairness_id;
  int32_t priority = 0;
  const RequestMetrics* metrics = nullptr;

  bool Is(uint64_t number, const RequestLabels& labels) const {
    return owner == number && priority == labels.priority && model == labels.model &&
           target_model == labels.target_model && fairness_id == labels.fairness_id;
  }
  void Set(uint64_t number, const RequestLabels& labels, const RequestMetrics& found) {
    owner = number;
    model = labels.model;
    target_model = labels.target_model;
    fairness_id = labels.fairness_id;
    priority = labels.priority;
    metrics = &found;
  }
};

std::unique_ptr<RequestMetrics> MakeSeries(Registry& registry, const std::string& model,
                                           const std::string& target, const std::string& fairness,
                                           const std::string& priority, uint32_t target_number) {
  using Label = std::pair<std::string, std::string>;
  const Labels labels = {Label{"model_name", model}, Label{"target_model_name", target},
                         Label{"fairness_id", fairness}, Label{"priority", priority}};
  const auto histogram = [&](const char* name, const char* help,
                             const std::vector<double>& buckets) {
    return registry.AddHistogram(name, help, buckets, labels);
  };
  const auto ttft = [&](const char* streaming) {
    return registry.AddHistogram(
        "llm_d_epp_request_ttft_seconds",
        "Time from the request's arrival to the first byte of the answer's body.", kTtftBuckets,
        {{"model_name", model},
         {"target_model_name", target},
         {"fairness_id", fairness},
         {"priority", priority},
         {"streaming", streaming}});
  };
  return std::make_unique<RequestMetrics>(RequestMetrics{
      model, target, fairness, priority, target_number,
      registry.AddCounter("llm_d_epp_request_total", "Requests to be routed.", labels),
      registry.AddGauge("llm_d_epp_request_running", "Requests routed and not yet answered.",
                        labels),
      histogram("llm_d_epp_request_duration_seconds",
                "Time from the request's arrival to the end of its answer.", kLatencyBuckets),
      histogram("llm_d_epp_request_size_bytes", "Bytes of a request's body.",
                RequestBytesBuckets()),
      histogram("llm_d_epp_response_size_bytes", "Bytes of an answer's body.",
                kResponseBytesBuckets),
      histogram("llm_d_epp_request_input_tokens", "Prompt tokens of a request.", kTokenBuckets),
      histogram("llm_d_epp_request_cached_tokens",
                "Prompt tokens the engine reused, as it reported them.", kTokenBuckets),
      histogram("llm_d_epp_request_output_tokens", "Tokens of an answer.", kOutputTokenBuckets),
      histogram("llm_d_epp_request_ntpot_seconds",
                "Duration of a request divided by its output tokens.", kNtpotBuckets),
      ttft("true"), ttft("false"),
      histogram("llm_d_epp_request_streaming_tpot_seconds",
                "Time per output token after the first, of streams.", kTpotBuckets),
      histogram("llm_d_epp_request_streaming_itl_seconds",
                "Time between two chunks of a stream's body.", kItlBuckets)});
}

}  // namespace

RoutingMetrics::RoutingMetrics(Registry& registry)
    : lookups(registry.AddCounter("llm_d_epp_kv_cache_index_lookup_requests_total",
                                  "Prompts looked up in the KV-block index for routing.")),
      lookup_hits(registry.AddCounter(
          "llm_d_epp_kv_cache_index_lookup_hits_total",
          "Usable KV blocks of the endpoint with the longest match, summed over lookups.")),
      lookup_best(registry.AddCounter(
          "llm_d_epp_kv_cache_index_max_pod_hit_count_total",
          "Resident KV blocks of the endpoint with the longest match, summed over lookups.")),
      lookup_latency_seconds(
          registry.AddHistogram("llm_d_epp_kv_cache_index_lookup_latency_seconds",
                                "Time of one index lookup.", kLookupBuckets)),
      scheduler_seconds(registry.AddHistogram("llm_d_epp_scheduler_e2e_duration_seconds",
                                              "Time of one scheduling decision.", kFastBuckets)),
      request_processing_seconds(registry.AddHistogram(
          "llm_d_epp_request_processing_duration_seconds",
          "Time from a request's arrival to its decision.", kRequestProcessingBuckets)),
      response_processing_seconds(
          registry.AddHistogram("llm_d_epp_response_processing_duration_seconds",
                                "Time spent on observing an answer, summed over its chunks.",
                                kResponseProcessingBuckets)),
      prepare_seconds(registry.AddHistogram("warmpath_prepare_duration_seconds",
                                            "Time to parse and tokenize one request.",
                                            kFastBuckets)),
      foreseen_bytes(registry.AddCounter(
          "warmpath_foreseen_text_bytes_total",
          "Bytes of prompts that were tokenized while the rest of their request was on its way.")),
      predictions_exact(registry.AddCounter(
          "warmpath_predictions_total",
          "Responses by how the predicted cached tokens compare with those the engine reported.",
          {{"result", "exact"}})),
      predictions_over(registry.AddCounter("warmpath_predictions_total", "", {{"result", "over"}})),
      predictions_under(
          registry.AddCounter("warmpath_predictions_total", "", {{"result", "under"}})),
      token_parity_mismatches(registry.AddCounter(
          "warmpath_token_parity_mismatches_total",
          "Responses whose prompt_tokens differ from our own count of the prompt.")),
      registry_(registry),
      number_(NextNumber()) {}

const RequestMetrics& RoutingMetrics::For(const RequestLabels& labels) {
  thread_local LastLabels last;
  if (last.Is(number_, labels)) return *last.metrics;
  {
    ReaderLock lock(mutex_);
    const auto it = sets_.find(KeyOf(labels));
    if (it != sets_.end()) {
      last.Set(number_, labels, *it->second);
      return *it->second;
    }
  }
  return MakeFor(labels);
}

const RequestMetrics& RoutingMetrics::MakeFor(const RequestLabels& labels) {
  WriterLock lock(mutex_);
  std::string model = ModelLabel(labels.model);
  std::string target = ModelLabel(labels.target_model);
  std::string fairness = FairnessLabel(labels.fairness_id);
  const auto find = [&]() REQUIRES(mutex_) {
    return sets_.find(KeyOf({model, target, fairness, labels.priority}));
  };
  auto it = find();
  if (it == sets_.end() && sets_.size() >= kMaxLabelSets) {
    fairness = kOther;
    it = find();
    if (it == sets_.end() && sets_.size() >= 2 * kMaxLabelSets) {
      if (!protected_.contains(model)) model = kOther;
      if (!protected_.contains(target)) target = kOther;
      it = find();
    }
  }
  if (it != sets_.end()) return *it->second;
  const auto number =
      target_numbers_.try_emplace(target, static_cast<uint32_t>(target_numbers_.size()))
          .first->second;
  auto series =
      MakeSeries(registry_, model, target, fairness, std::to_string(labels.priority), number);
  return *sets_.emplace(KeyOf({model, target, fairness, labels.priority}), std::move(series))
              .first->second;
}

void RoutingMetrics::ProtectModels(const Policies& policies) {
  WriterLock lock(mutex_);
  for (const ModelRewrite& rewrite : policies.rewrites) {
    for (const RewriteRule& rule : rewrite.rules) {
      protected_.insert(rule.models.begin(), rule.models.end());
      for (const RewriteTarget& target : rule.targets) protected_.insert(target.model);
    }
  }
}

std::string RoutingMetrics::ModelLabel(std::string_view model) {
  std::string label(model);
  if (protected_.contains(label) || models_.contains(label)) return label;
  if (models_.size() >= kMaxModels || !IsCleanLabel(label)) return kOther;
  models_.insert(label);
  return label;
}

std::string RoutingMetrics::FairnessLabel(std::string_view id) {
  std::string label(id);
  if (fairness_ids_.contains(label)) return label;
  if (fairness_ids_.size() >= kMaxFairnessIds || !IsCleanLabel(label)) return kOther;
  fairness_ids_.insert(label);
  return label;
}

void RoutingMetrics::CountError(const RequestMetrics& request, int code) {
  registry_
      .AddCounter("llm_d_epp_request_error_total", "Requests that ended in an error.",
                  {{"model_name", request.model},
                   {"target_model_name", request.target_model},
                   {"fairness_id", request.fairness_id},
                   {"priority", request.priority},
                   {"error_code", std::to_string(code)}})
      .Add();
}

void RoutingMetrics::CountAttempt(const RequestMetrics& request, const fleet::Endpoint* endpoint) {
  // Ids of endpoints start at 1: 0 stands for none, the largest for those beyond the cap.
  uint64_t key = (uint64_t{request.target_number} << 32) | (endpoint == nullptr ? 0 : endpoint->id);
  {
    ReaderLock lock(mutex_);
    const auto it = attempts_.find(key);
    if (it != attempts_.end()) {
      it->second.Add();
      return;
    }
  }
  WriterLock lock(mutex_);
  const bool folded = endpoint != nullptr && attempts_.size() >= kMaxAttemptSeries;
  if (folded) key |= UINT32_MAX;
  const auto it = attempts_.find(key);
  if (it != attempts_.end()) {
    it->second.Add();
    return;
  }
  const bool named = endpoint != nullptr && !folded;
  const Counter counter = registry_.AddCounter(
      "llm_d_epp_scheduler_attempts_total", "Scheduling decisions, by how they ended and where.",
      {{"status", endpoint != nullptr ? "success" : "failure"},
       {"target_model_name", request.target_model},
       {"endpoint_name", named    ? endpoint->name()
                         : folded ? kOther
                                  : ""},
       {"namespace", named ? endpoint->spec.ns : ""},
       {"port", named ? std::to_string(endpoint->spec.url.address.port) : ""}});
  counter.Add();
  attempts_.emplace(key, counter);
}

void RoutingMetrics::CountRewrite(const RequestMetrics& request, const std::string& rewrite) {
  registry_
      .AddCounter("llm_d_epp_model_rewrite_decisions_total",
                  "Requests whose model an InferenceModelRewrite replaced.",
                  {{"model_rewrite_name", rewrite},
                   {"model_name", request.model},
                   {"target_model", request.target_model}})
      .Add();
}

void RoutingMetrics::CountInexact(const std::string& reason) {
  registry_
      .AddCounter("warmpath_requests_without_exact_tokens_total",
                  "Requests routed by load because exact tokens could not be had.",
                  {{"reason", reason}})
      .Add();
}

}  // namespace warmpath::routing
