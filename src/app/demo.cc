#include "app/demo.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "app/process.h"
#include "app/progress.h"
#include "app/serve.h"
#include "base/log.h"
#include "base/mutex.h"
#include "codec/json.h"
#include "index/kv_index.h"
#include "load/bench.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "prompt/shared_tokenizer.h"
#include "sim/sim.h"

namespace warmpath::app {
namespace {

using namespace std::chrono_literals;

constexpr const char* kModel = "Qwen/Qwen3-0.6B";
constexpr Duration kStopDeadline = 2s;

// The comparison: the shape of the project's judged benchmark (30 groups x 5 questions, engines
// that hold 24,000 tokens each), engines and traffic twice as fast so that it is over in under a
// minute.
constexpr size_t kFleetSize = 4;
constexpr uint32_t kBlockSize = 16;
constexpr uint32_t kCacheTokens = 24'000;
constexpr double kRate = 20;
constexpr uint64_t kRequests = 900;

sim::StepTiming FleetTiming() {
  sim::StepTiming timing;
  timing.prefill_overhead = 10ms;
  timing.prefill_per_token = 50us;
  timing.inter_token_latency = 2ms;
  return timing;
}

// Slow enough for a person to see the difference: the guide's prompt takes 200 ms without a cache.
sim::StepTiming GuideTiming() {
  sim::StepTiming timing;
  timing.prefill_overhead = 10ms;
  timing.prefill_per_token = 1ms;
  timing.inter_token_latency = 5ms;
  return timing;
}

void Say(std::string_view text) {
  fmt::print("{}", text);
  std::fflush(stdout);
}

void Title(std::string_view text) {
  const bool terminal = isatty(fileno(stdout)) != 0;
  Say(fmt::format("\n{}{}{}\n", terminal ? "\x1b[1m" : "", text, terminal ? "\x1b[0m" : ""));
}

// Ctrl-C and SIGTERM as a flag.
class StopFlag {
 public:
  StopFlag()
      : watcher_([this] {
          while (!done_.load() && !stop_.load()) {
            if (WaitForStopSignal(50)) stop_ = true;
          }
        }) {}
  ~StopFlag() {
    done_ = true;
    watcher_.join();
  }
  bool set() const { return stop_.load(); }
  const std::atomic<bool>* flag() const { return &stop_; }

  // True once `condition` holds; false when it still does not at `deadline` or a stop was asked
  // for.
  template <typename Condition>
  bool WaitFor(Condition condition, Duration patience) const {
    const TimePoint deadline = SystemClock().Now() + patience;
    while (!condition()) {
      if (set() || SystemClock().Now() >= deadline) return false;
      std::this_thread::sleep_for(5ms);
    }
    return true;
  }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<bool> done_{false};
  std::thread watcher_;
};

// While it lives the log is the demo's: kept lines can be asked for, the rest is not printed unless
// it is a warning or worse.
class LogWatch {
 public:
  LogWatch() : verbose_(LogEnabled(LogLevel::kVerbose)) {
    if (!verbose_) SetLogVerbosity(static_cast<int>(LogLevel::kDebug));
    SetLogTap([this](std::string_view line) { return Keep(line); });
  }
  ~LogWatch() {
    SetLogTap(nullptr);
    if (!verbose_) SetLogVerbosity(static_cast<int>(LogLevel::kInfo));
  }

  void Forget() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    kept_.clear();
  }
  // The newest line since Forget that contains `text`; "" if none.
  std::string Find(std::string_view text) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    for (auto line = kept_.rbegin(); line != kept_.rend(); ++line) {
      if (line->find(text) != std::string::npos) return *line;
    }
    return {};
  }

 private:
  bool Keep(std::string_view line) EXCLUDES(mutex_) {
    constexpr size_t kMaxKept = 256;
    const bool wanted = line.find("Got pod scores") != std::string_view::npos ||
                        line.find("metrics beat") != std::string_view::npos;
    if (wanted) {
      MutexLock lock(mutex_);
      if (kept_.size() == kMaxKept) kept_.erase(kept_.begin());
      kept_.emplace_back(line);
    }
    const bool bad = line.find("\tWARN\t") != std::string_view::npos ||
                     line.find("\tERROR\t") != std::string_view::npos ||
                     line.find(R"("level":"WARN")") != std::string_view::npos ||
                     line.find(R"("level":"ERROR")") != std::string_view::npos;
    return !verbose_ && !bad;
  }

  const bool verbose_;
  Mutex mutex_;
  std::vector<std::string> kept_ GUARDED_BY(mutex_);
};

// Simulated engines on ports of their own.
struct SimFleet {
  std::unique_ptr<net::LoopGroup> loops;
  std::unique_ptr<sim::Simulator> simulator;

  static Result<SimFleet> Start(size_t count, uint32_t block_size, uint32_t cache_tokens,
                                const sim::StepTiming& timing, const std::string& tokenizer) {
    sim::SimOptions options;
    options.model = kModel;
    options.tokenizer = tokenizer;
    options.host = "127.0.0.1";
    options.port = 0;
    options.count = static_cast<uint32_t>(count);
    options.block_size = block_size;
    options.num_gpu_blocks = cache_tokens / block_size + 1;  // one holds nothing
    options.enable_prompt_tokens_details = true;
    options.kv_events.enable_kv_cache_events = true;
    options.kv_events.endpoint = "tcp://127.0.0.1:0";
    options.kv_events.replay_endpoint = "tcp://127.0.0.1:0";
    options.timing = timing;
    SimFleet fleet;
    fleet.loops = std::make_unique<net::LoopGroup>("sim", 1);
    WP_TRY(fleet.simulator, sim::Simulator::Start(options, *fleet.loops));
    fleet.loops->Start();
    return fleet;
  }
  void Stop() {
    if (simulator == nullptr) return;
    simulator->Stop(kStopDeadline);
    loops->Stop();
    simulator.reset();
  }
  ~SimFleet() { Stop(); }
  SimFleet() = default;
  SimFleet(SimFleet&&) = default;
  SimFleet& operator=(SimFleet&&) = default;
};

Result<std::unique_ptr<ServeInstance>> StartGateway(const SimFleet& fleet,
                                                    const std::string& tokenizer) {
  ServeOptions options;
  options.listen = {"127.0.0.1:0"};
  for (const auto& engine : fleet.simulator->endpoints()) {
    const auto& rank = engine.ranks.front();
    options.endpoints.push_back(
        fmt::format("{},events={},replay={}", engine.url, rank.events, rank.replay));
  }
  options.model = kModel;
  options.tokenizer = tokenizer;
  options.expose_decision = true;
  options.metrics_beat_interval = 500ms;
  options.threads = 1;
  auto gateway = ServeInstance::Create(options);
  if (!gateway) {
    // Somebody has the usual metrics port.
    options.metrics_port = 0;
    gateway = ServeInstance::Create(options);
  }
  if (gateway) (*gateway)->Start();
  return gateway;
}

// The API a user would ask: every engine healthy and its events connected.
bool EveryEngineConnected(const net::Url& metrics) {
  net::HttpRequest request;
  request.method = "GET";
  request.target = "/api/v1/endpoints";
  const auto response = net::FetchBlocking(metrics, std::move(request), 2s, size_t{1} << 20);
  if (!response || response->status != 200) return false;
  const auto body = codec::ParseJson(response->body);
  const codec::Json* endpoints = body ? codec::Find(*body, "endpoints") : nullptr;
  if (endpoints == nullptr || !endpoints->is_array()) return false;
  for (const codec::Json& endpoint : endpoints->get_array()) {
    const codec::Json* events = codec::Find(endpoint, "events");
    if (events == nullptr || codec::FindBool(*events, "connected") != true) return false;
    if (codec::FindString(endpoint, "state") != "healthy") return false;
  }
  return true;
}

// Before the events are connected a first block might be missed.
Status WaitUntilReady(ServeInstance& gateway, const StopFlag& stop) {
  WP_TRY(const net::Url metrics, net::ParseUrl(gateway.metrics_url()));
  std::string why;
  if (stop.WaitFor([&] { return gateway.Ready(&why) && EveryEngineConnected(metrics); }, 20s)) {
    return {};
  }
  if (stop.set()) return Fail(Code::kCancelled, "stopped");
  return Fail(Code::kUnavailable, fmt::format("the gateway did not become ready: {}",
                                              why.empty() ? "no events from the engines" : why));
}

struct Answer {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  std::string engine;
  double seconds = 0;
};

Result<Answer> AskGuidesQuestion(const std::string& gateway) {
  WP_TRY(const net::Url url, net::ParseUrl(gateway));
  net::HttpRequest request;
  request.method = "POST";
  request.target = "/v1/completions";
  request.headers = {{"Content-Type", "application/json"}};
  request.body = fmt::format(R"({{"model":{},"prompt":{},"max_tokens":50}})", JsonQuote(kModel),
                             JsonQuote(load::GuidePrompt()));
  const TimePoint start = SystemClock().Now();
  WP_TRY(const net::HttpResponse response,
         net::FetchBlocking(url, std::move(request), 10s, size_t{1} << 20));
  Answer answer;
  answer.seconds = ToSeconds(SystemClock().Now() - start);
  if (response.status != 200) {
    return Fail(Code::kUnavailable,
                fmt::format("the gateway answered {}: {}", response.status, response.body));
  }
  if (const auto engine = response.headers.Get("x-warmpath-endpoint")) answer.engine = *engine;
  WP_TRY(const codec::Json body, codec::ParseJson(response.body));
  if (const codec::Json* usage = codec::Find(body, "usage")) {
    answer.prompt_tokens = codec::FindInt(*usage, "prompt_tokens").value_or(0);
    answer.completion_tokens = codec::FindInt(*usage, "completion_tokens").value_or(0);
    if (const codec::Json* details = codec::Find(*usage, "prompt_tokens_details")) {
      answer.cached_tokens = codec::FindInt(*details, "cached_tokens").value_or(0);
    }
  }
  return answer;
}

void ShowAnswer(std::string_view which, const Answer& answer, const std::string& scores) {
  Say(fmt::format(
      "\n  {} answer after {:.0f} ms from {}\n"
      "    usage: prompt_tokens {}, completion_tokens {}, of the prompt already cached: {}\n"
      "    log:   {}\n",
      which, answer.seconds * 1e3, answer.engine, answer.prompt_tokens, answer.completion_tokens,
      answer.cached_tokens, scores));
}

// Part one: the guide's request, twice.
Status RunGuide(const std::string& tokenizer, LogWatch& log, const StopFlag& stop) {
  Title("1. The guide's request, twice");
  WP_TRY(SimFleet fleet, SimFleet::Start(2, 64, 64 * 1024, GuideTiming(), tokenizer));
  WP_TRY(const std::unique_ptr<ServeInstance> gateway, StartGateway(fleet, tokenizer));
  WP_RETURN_IF_ERROR(WaitUntilReady(*gateway, stop));
  for (const auto& engine : fleet.simulator->endpoints()) {
    Say(fmt::format("  engine   {}   (simulated vLLM, its KV events on {})\n", engine.url,
                    engine.ranks.front().events));
  }
  Say(fmt::format("  gateway  {}\n", gateway->gateway_urls().front()));
  Say(fmt::format("  POST /v1/completions, {} bytes of lorem ipsum, max_tokens 50\n",
                  load::GuidePrompt().size()));

  WP_TRY(const Answer first, AskGuidesQuestion(gateway->gateway_urls().front()));
  ShowAnswer("First", first, log.Find("Got pod scores"));
  // The engine's events say what it stored: three full blocks.
  const auto blocks = static_cast<uint64_t>(first.prompt_tokens + first.completion_tokens - 1) / 64;
  stop.WaitFor([&] { return gateway->index().stats().admissions >= blocks; }, 5s);
  if (stop.set()) return Fail(Code::kCancelled, "stopped");
  log.Forget();
  WP_TRY(const Answer second, AskGuidesQuestion(gateway->gateway_urls().front()));
  ShowAnswer("Second", second, log.Find("Got pod scores"));

  log.Forget();
  std::string beat;
  stop.WaitFor([&] { return !(beat = log.Find("metrics beat")).empty(); }, 5s);
  Say(fmt::format("\n  metrics: {}\n", beat));
  Say(
      fmt::format("\n  The engine announced the {} blocks of 64 tokens it now holds (admissions); "
                  "the second request found\n"
                  "  {} of them usable (hits; the last prompt token is always computed), went to "
                  "the same engine, and {} of\n"
                  "  its {} prompt tokens were not computed again.\n",
                  gateway->index().stats().admissions, second.cached_tokens / 64,
                  second.cached_tokens, second.prompt_tokens));
  gateway->Stop(kStopDeadline);
  return {};
}

std::string Bar(double part) {
  constexpr int kWidth = 24;
  const int full = std::min(kWidth, static_cast<int>(part * kWidth));
  return fmt::format("[{}{}]", std::string(full, '#'), std::string(kWidth - full, '.'));
}

std::string Times(double worse, double better) {
  return better > 0 ? fmt::format("{:.1f}x", worse / better) : std::string();
}

void ShowComparison(const load::SideReport& rr, const load::SideReport& precise) {
  const auto row = [](std::string_view label, std::string a, std::string b, std::string note) {
    Say(fmt::format("  {:<28}{:>14}{:>14}   {}\n", label, a, b, note));
  };
  const auto ms = [](double seconds) { return fmt::format("{:.0f} ms", seconds * 1e3); };
  const auto count = [](const load::SideReport& side) {
    return fmt::format("{} / {}", side.requests - side.errors, side.errors);
  };
  Say("\n");
  row("", "round robin", "warmpath", "");
  row("answered / errors", count(rr), count(precise), "");
  row("prompt tokens from cache", fmt::format("{:.1f} %", rr.hit_rate * 100),
      fmt::format("{:.1f} %", precise.hit_rate * 100),
      Times(precise.hit_rate, rr.hit_rate) + " more");
  row("time to first token, mean", ms(rr.ttft.mean), ms(precise.ttft.mean),
      Times(rr.ttft.mean, precise.ttft.mean) + " sooner");
  row("                     p50", ms(rr.ttft.p50), ms(precise.ttft.p50),
      Times(rr.ttft.p50, precise.ttft.p50) + " sooner");
  row("                     p90", ms(rr.ttft.p90), ms(precise.ttft.p90),
      Times(rr.ttft.p90, precise.ttft.p90) + " sooner");
  row("busiest engine / mean", fmt::format("{:.2f}", rr.imbalance),
      fmt::format("{:.2f}", precise.imbalance), "");
  row("cached tokens foretold", "-", fmt::format("{:.1f} %", precise.prediction_exact * 100),
      "of requests, to the token");
  const auto computed = [](const load::SideReport& side) {
    return side.prompt_tokens - side.cached_tokens;
  };
  Say(
      fmt::format("\n  Same engines, same requests: sent where their prefixes were known to be, "
                  "the engines computed {} prompt\n"
                  "  tokens instead of {}, and the first token came {} sooner on average.\n",
                  computed(precise), computed(rr), Times(rr.ttft.mean, precise.ttft.mean)));
}

Result<std::vector<net::Url>> EngineUrls(const SimFleet& fleet) {
  std::vector<net::Url> urls;
  for (const auto& engine : fleet.simulator->endpoints()) {
    WP_TRY(net::Url url, net::ParseUrl(engine.url));
    urls.push_back(std::move(url));
  }
  return urls;
}

// Light traffic so that the dashboard has something to show.
Status Hold(const net::Url& gateway, load::WorkloadOptions workload, const ServeInstance& instance,
            const StopFlag& stop) {
  Say(fmt::format("\n  Holding until Ctrl-C: gateway {}, dashboard {}, 5 requests/s\n",
                  instance.gateway_urls().front(), instance.metrics_url()));
  load::BenchOptions options;
  options.workload = std::move(workload);
  options.sides = {{.name = "warmpath", .targets = {gateway}, .endpoints = kFleetSize}};
  options.rate = 5;
  options.duration = 1h;
  options.stop = stop.flag();
  while (!stop.set()) {
    ++options.workload.seed;
    WP_RETURN_IF_ERROR(load::RunBench(options));
  }
  return {};
}

// Part two: the same requests at the same moments, once in turn, once where they are warm.
Status RunComparison(const std::string& tokenizer, bool hold, const StopFlag& stop) {
  Title("2. Round robin against warmpath, side by side");
  WP_TRY(SimFleet turns,
         SimFleet::Start(kFleetSize, kBlockSize, kCacheTokens, FleetTiming(), tokenizer));
  WP_TRY(SimFleet warm,
         SimFleet::Start(kFleetSize, kBlockSize, kCacheTokens, FleetTiming(), tokenizer));
  WP_TRY(const std::unique_ptr<ServeInstance> gateway, StartGateway(warm, tokenizer));
  WP_RETURN_IF_ERROR(WaitUntilReady(*gateway, stop));

  load::BenchOptions options;
  options.workload.model = kModel;
  WP_TRY(std::vector<net::Url> engines, EngineUrls(turns));
  WP_TRY(const net::Url front, net::ParseUrl(gateway->gateway_urls().front()));
  options.sides = {{.name = "round robin", .targets = std::move(engines), .endpoints = kFleetSize},
                   {.name = "warmpath", .targets = {front}, .endpoints = kFleetSize}};
  options.rate = kRate;
  options.requests = kRequests;
  options.request_timeout = 30s;
  options.stop = stop.flag();
  const load::WorkloadOptions& workload = options.workload;
  const uint32_t working_set =
      workload.groups *
      (workload.system_tokens + workload.prompts_per_group * workload.question_tokens);
  Say(
      fmt::format("  Two equal fleets of {} simulated engines. {} system prompts of {} tokens, {} "
                  "questions of {} tokens each:\n"
                  "  {} tokens in use, while an engine's cache holds {}. {} requests, {:.0f} per "
                  "second, to both fleets at once.\n"
                  "  Live: {}\n\n",
                  kFleetSize, workload.groups, workload.system_tokens, workload.prompts_per_group,
                  workload.question_tokens, working_set, kCacheTokens, kRequests, kRate,
                  gateway->metrics_url()));

  Result<load::BenchReport> report = [&] {
    ProgressLine line(stdout);
    return load::RunBench(options, [&](const load::Progress& p) {
      const load::SideProgress& rr = p.sides[0];
      const load::SideProgress& precise = p.sides[1];
      line.Show(
          fmt::format("  {} {:>3}/{}   cached {:2.0f} % | {:2.0f} %   first token {:3.0f} ms | "
                      "{:3.0f} ms   (round robin | warmpath)",
                      Bar(static_cast<double>(precise.answered) / static_cast<double>(p.total)),
                      precise.answered, p.total, rr.hit_rate * 100, precise.hit_rate * 100,
                      rr.ttft_mean * 1e3, precise.ttft_mean * 1e3));
    });
  }();
  if (!report) return tl::unexpected(report.error());
  if (report->stopped) return Fail(Code::kCancelled, "stopped");
  ShowComparison(report->sides[0], report->sides[1]);
  if (hold) WP_RETURN_IF_ERROR(Hold(front, options.workload, *gateway, stop));
  gateway->Stop(kStopDeadline);
  return {};
}

void ShowOwnEngines() {
  Title("With your own vLLM");
  Say(fmt::format(
      "  vllm serve {} --port 8000 --enable-prompt-tokens-details \\\n"
      "    --kv-events-config "
      "'{{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\",\"endpoint\":\"tcp://*:5557\"}}'\n"
      "  warmpath serve --endpoint http://HOST:8000          (once per engine)\n"
      "  then send your requests to http://127.0.0.1:8080.\n",
      kModel));
}

}  // namespace

int RunDemo(const DemoOptions& options) {
  const std::string tokenizer = options.tokenizer.empty() ? kModel : options.tokenizer;
  StopFlag stop;
  LogWatch log;
  Say("warmpath routes each request to the engine whose KV cache is already warm for it. All below "
      "runs\n"
      "in this one process with simulated engines; nothing stays behind. Ctrl-C ends it.\n");
  const Status status = [&]() -> Status {
    // Held throughout, so that it is loaded once for all engines and gateways.
    WP_TRY(const std::string directory, prompt::FindTokenizerDirectory(tokenizer));
    WP_TRY(const auto held, prompt::LoadSharedTokenizer(directory));
    WP_RETURN_IF_ERROR(RunGuide(directory, log, stop));
    return RunComparison(directory, options.hold, stop);
  }();
  if (stop.set()) {
    Say("\nStopped; nothing is left running.\n");
    return kExitOk;
  }
  if (!status) return ReportError(status.error());
  ShowOwnEngines();
  return kExitOk;
}

}  // namespace warmpath::app
