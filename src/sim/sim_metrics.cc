#include "sim/sim_metrics.h"

#include <utility>

namespace warmpath::sim {
namespace {

const std::vector<double> kFirstTokenBuckets = {0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                                                0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                                                20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
const std::vector<double> kTokenBuckets = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                                           0.3,  0.4,   0.5,  0.75,  1.0, 2.5,  5.0,
                                           7.5,  10.0,  20.0, 40.0,  80.0};
const std::vector<double> kRequestBuckets = {0.3,  0.5,   0.8,   1.0,   1.5,   2.0,    2.5,
                                             5.0,  10.0,  15.0,  20.0,  30.0,  40.0,   50.0,
                                             60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};

}  // namespace

struct SimMetrics::Rank {
  const EngineCore* core;
  Gauge running, waiting, usage;
  Counter queries, hits, preemptions, prompt_tokens, generation_tokens;
  Counter stopped, length, aborted;
  Histogram first_token, next_token, request;
  CoreStats shown;  // what the counters have

  void Refresh() {
    running.Set(static_cast<double>(core->running()));
    waiting.Set(static_cast<double>(core->waiting()));
    usage.Set(core->usage());
    const CoreStats now = core->stats();
    auto add = [](const Counter& counter, uint64_t value, uint64_t before) {
      counter.Add(static_cast<double>(value - before));
    };
    add(queries, now.prefix_queries, shown.prefix_queries);
    add(hits, now.prefix_hits, shown.prefix_hits);
    add(preemptions, now.preemptions, shown.preemptions);
    add(prompt_tokens, now.prompt_tokens, shown.prompt_tokens);
    add(generation_tokens, now.generation_tokens, shown.generation_tokens);
    shown = now;
  }
};

SimMetrics::SimMetrics(const SimOptions& options, const std::string& model_name,
                       std::vector<const EngineCore*> cores) {
  for (size_t i = 0; i < cores.size(); ++i) {
    const std::string engine = std::to_string(i);
    const Labels labels = {{"engine", engine}, {"model_name", model_name}};
    auto success = [&](const std::string& reason) {
      return registry_.AddCounter(
          "vllm:request_success_total", "Count of successfully processed requests.",
          {{"engine", engine}, {"finished_reason", reason}, {"model_name", model_name}});
    };
    success("abort");  // vLLM leaves it at 0 when a client goes away
    success("error");
    ranks_.push_back(std::make_unique<Rank>(Rank{
        cores[i],
        registry_.AddGauge("vllm:num_requests_running",
                           "Number of requests in model execution batches.", labels),
        registry_.AddGauge("vllm:num_requests_waiting",
                           "Number of requests waiting to be processed.", labels),
        registry_.AddGauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.",
                           labels),
        registry_.AddCounter("vllm:prefix_cache_queries_total",
                             "Prefix cache queries, in terms of number of queried tokens.", labels),
        registry_.AddCounter("vllm:prefix_cache_hits_total",
                             "Prefix cache hits, in terms of number of cached tokens.", labels),
        registry_.AddCounter("vllm:num_preemptions_total",
                             "Cumulative number of preemption from the engine.", labels),
        registry_.AddCounter("vllm:prompt_tokens_total", "Number of prefill tokens processed.",
                             labels),
        registry_.AddCounter("vllm:generation_tokens_total",
                             "Number of generation tokens processed.", labels),
        success("stop"),
        success("length"),
        registry_.AddCounter("warmpath_sim_aborted_requests_total",
                             "Requests whose client went away.", labels),
        registry_.AddHistogram("vllm:time_to_first_token_seconds",
                               "Histogram of time to first token in seconds.", kFirstTokenBuckets,
                               labels),
        registry_.AddHistogram("vllm:inter_token_latency_seconds",
                               "Histogram of inter-token latency in seconds.", kTokenBuckets,
                               labels),
        registry_.AddHistogram("vllm:e2e_request_latency_seconds",
                               "Histogram of e2e request latency in seconds.", kRequestBuckets,
                               labels),
        {}}));
    registry_
        .AddGauge("vllm:cache_config_info", "Information of the LLMEngine CacheConfig",
                  {{"block_size", std::to_string(options.block_size)},
                   {"cache_dtype", "auto"},
                   {"enable_prefix_caching", options.enable_prefix_caching ? "True" : "False"},
                   {"engine", engine},
                   {"kv_cache_size_tokens",
                    std::to_string(uint64_t{options.num_gpu_blocks - 1} * options.block_size)},
                   {"num_gpu_blocks", std::to_string(options.num_gpu_blocks)},
                   {"prefix_caching_hash_algo", std::string(kv::HashAlgoName(options.hash_algo))}})
        .Set(1);
  }
  if (!options.lora_modules.empty()) {
    registry_
        .AddGauge("vllm:lora_requests_info", "Running stats on lora requests.",
                  {{"max_lora", std::to_string(options.max_loras)},
                   {"running_lora_adapters", ""},
                   {"waiting_lora_adapters", ""}})
        .Set(ToSeconds(SystemClock().WallNow().time_since_epoch()));
  }
}

SimMetrics::~SimMetrics() = default;

void SimMetrics::FirstToken(uint32_t rank, Duration since_arrival) {
  ranks_[rank]->first_token.Observe(ToSeconds(since_arrival));
}

void SimMetrics::NextToken(uint32_t rank, Duration since_last) {
  ranks_[rank]->next_token.Observe(ToSeconds(since_last));
}

void SimMetrics::Finished(uint32_t rank, std::string_view reason, Duration since_arrival) {
  (reason == "stop" ? ranks_[rank]->stopped : ranks_[rank]->length).Add();
  ranks_[rank]->request.Observe(ToSeconds(since_arrival));
}

void SimMetrics::Aborted(uint32_t rank) {
  ranks_[rank]->aborted.Add();
}

std::string SimMetrics::Render() {
  for (const auto& rank : ranks_) rank->Refresh();
  return registry_.Render();
}

}  // namespace warmpath::sim
