// What one routing decision costs once its prompt is tokenized: Decide and the whole life of its
// Outcome, over the number of endpoints, with the default policy and with llm-d's precise one.
// Nothing waits and nobody else runs: times are CPU.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "kv/keys.h"
#include "routing/director.h"

namespace warmpath::routing {
namespace {

constexpr uint32_t kBlock = 64;
constexpr char kModel[] = "Qwen/Qwen3-0.6B";

scheduling::SchedulerSpec PreciseSpec() {
  scheduling::SchedulerSpec spec;
  spec.plugins = {{"single-profile-handler", "single-profile-handler", "{}"},
                  {"decode-filter", "decode-filter", "{}"},
                  {"precise-prefix-cache-producer", "precise-prefix-cache-producer", "{}"},
                  {"prefix-cache-scorer", "prefix-cache-scorer",
                   R"({"prefixMatchInfoProducerName":"precise-prefix-cache-producer"})"},
                  {"kv-cache-utilization-scorer", "kv-cache-utilization-scorer", "{}"},
                  {"queue-scorer", "queue-scorer", "{}"},
                  {"max-score-picker", "max-score-picker", "{}"}};
  spec.profiles = {{"default",
                    {{"decode-filter"},
                     {"prefix-cache-scorer", 2},
                     {"kv-cache-utilization-scorer", 1},
                     {"queue-scorer", 1},
                     {"max-score-picker"}}}};
  return spec;
}

template <typename T>
T Must(Result<T> result) {
  if (!result) fmt::print(stderr, "{}\n", result.error().message);
  WP_CHECK(result.has_value());
  return std::move(*result);
}

// Engines that answered their first scrape, each with a few blocks, and a Director before them.
struct Rig {
  Rig(const scheduling::SchedulerSpec& spec, size_t count)
      : events(Must(events::EventsManager::Create({}, index, metrics, SystemClock()))),
        scheduler(Must(scheduling::Scheduler::Create(
            spec, scheduling::SchedulerOptions{.metrics = &metrics}))),
        fleet(loop, {}, metrics, SystemClock()),
        director({fleet, index, events.get(), *scheduler, metrics, SystemClock()}, {}) {
    std::vector<fleet::EndpointSpec> specs(count);
    for (size_t i = 0; i < count; ++i) {
      specs[i].name = fmt::format("engine-{}", i);
      specs[i].url =
          Must(net::ParseUrl(fmt::format("http://10.0.{}.{}:8000", i / 250, i % 250 + 1)));
      specs[i].labels["llm-d.ai/role"] = "decode";
    }
    fleet.SetEndpoints(std::move(specs));
    const auto snapshot = fleet.snapshot();
    for (const auto& endpoint : snapshot->endpoints) {
      fleet.UpdateForTest(endpoint->id, [](fleet::Endpoint& e) {
        e.health = fleet::Health::kHealthy;
        e.models = {{kModel, kModel, ""}};
        e.load.block_size = kBlock;
        e.load.kv_blocks = 16384;
        e.load.kv_usage = 0.25;
        e.load.at = SystemClock().Now();
      });
    }
    events->SetEndpoints(*fleet.snapshot());
  }

  // `tokens` of which every fourth endpoint holds the first half.
  Prepared Request(size_t tokens) {
    Prepared prepared;
    prepared.request_id = "d290f1ee-6c54-4b01-90e6-d701748f0851";
    prepared.view.model = prepared.target_model = kModel;
    prepared.view.stream = true;
    prepared.fairness_id = "default-flow";
    prepared.body_bytes = 300;
    prepared.tokens_known = true;
    prepared.prompt_tokens = tokens;
    std::vector<kv::TokenId> ids(tokens);
    for (size_t i = 0; i < tokens; ++i) ids[i] = static_cast<kv::TokenId>(i);
    const auto& prompt = prepared.prompts.emplace_back(std::move(ids));
    const kv::BlockKey root = kv::RootKey(kBlock, "", "");
    std::vector<index::BlockAlias> blocks;
    for (const kv::BlockKey key : prompt.Keys(root, kBlock)) blocks.push_back({key, key});
    blocks.resize(blocks.size() / 2);
    const auto snapshot = fleet.snapshot();
    for (const auto& endpoint : snapshot->endpoints) {
      if (endpoint->id % 4 == 1) index.Store({endpoint->id, 0}, index::Tier::kGpu, 0, root, blocks);
    }
    return prepared;
  }

  Registry metrics;
  net::Loop loop{"bench"};
  index::KvIndex index{uint64_t{256} << 20};
  std::unique_ptr<events::EventsManager> events;
  std::unique_ptr<scheduling::Scheduler> scheduler;
  fleet::Fleet fleet;
  Director director;
};

// One answer of one token as the proxies report it.
void Answer(Outcome& outcome, uint64_t prompt_tokens) {
  outcome.ResponseHead(200, true);
  outcome.BodyChunk(180);
  outcome.Usage(prompt_tokens, 0, 1);
  outcome.Finish(200);
}

void Decide(benchmark::State& state, const scheduling::SchedulerSpec& spec, size_t tokens) {
  Rig rig(spec, static_cast<size_t>(state.range(0)));
  Prepared request = rig.Request(tokens);
  uint64_t number = 0;
  const auto one = [&] {
    const std::string id = fmt::format("{:08x}", ++number);
    request.request_id.replace(0, id.size(), id);
    request.decisions = 0;
    request.started = SystemClock().Now();
    Outcome outcome = Must(rig.director.Decide(request));
    Answer(outcome, tokens);
    if (number % 1000 == 0) rig.director.Tick();
  };
  // The store of decision records is full in the steady state, by number or by bytes.
  const int records = state.range(0) <= 64 ? 10'500 : 2'500;
  for (int i = 0; i < records; ++i) one();
  for (auto _ : state) one();
}

// A prompt shorter than a block, and one of 32k tokens.
void Default(benchmark::State& state) {
  Decide(state, scheduling::DefaultSchedulerSpec(), 60);
}
void Precise(benchmark::State& state) {
  Decide(state, PreciseSpec(), 60);
}
void PreciseLong(benchmark::State& state) {
  Decide(state, PreciseSpec(), 32'768);
}
// Iterations are given, so that the rig is warmed up once.
void Sizes(benchmark::internal::Benchmark* bench) {
  bench->Unit(benchmark::kMicrosecond)->Iterations(10'000);
  for (const int endpoints : {8, 64, 256, 1000}) bench->Arg(endpoints);
}
BENCHMARK(Default)->Apply(Sizes);
BENCHMARK(Precise)->Apply(Sizes);
BENCHMARK(PreciseLong)->Apply(Sizes);

}  // namespace
}  // namespace warmpath::routing

BENCHMARK_MAIN();
