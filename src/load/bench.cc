#include "load/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/mutex.h"
#include "codec/json.h"
#include "load/client.h"
#include "net/http_client.h"
#include "net/loop.h"

namespace warmpath::load {
namespace {

constexpr uint64_t kMaxRequests = 10'000'000;
constexpr Duration kProgressPeriod = std::chrono::milliseconds(200);
// Everything is set up before the first request is due.
constexpr Duration kHeadStart = std::chrono::milliseconds(50);

Status Validate(const BenchOptions& options) {
  if (options.sides.empty()) return Fail(Code::kInvalidArgument, "bench: no target");
  for (const Side& side : options.sides) {
    if (side.targets.empty()) {
      return Fail(Code::kInvalidArgument, fmt::format("bench: side '{}' has no target", side.name));
    }
  }
  if ((options.rate > 0) == (options.concurrency > 0)) {
    return Fail(Code::kInvalidArgument, "bench: give either a rate or a concurrency");
  }
  if (options.requests == 0 && options.duration <= Duration{0}) {
    return Fail(Code::kInvalidArgument, "bench: give a number of requests or a duration");
  }
  const double planned = options.requests != 0
                             ? static_cast<double>(options.requests + options.warmup_requests)
                             : options.rate * ToSeconds(options.duration);
  if (planned > static_cast<double>(kMaxRequests)) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("bench: {:.0f} requests planned, at most {} allowed", planned, kMaxRequests));
  }
  if (options.loops == 0 || options.loops > 256) {
    return Fail(Code::kInvalidArgument, "bench: loops must be 1 to 256");
  }
  return {};
}

Result<std::string> LearnModel(const BenchOptions& options) {
  net::HttpRequest request;
  request.method = "GET";
  request.target = "/v1/models";
  if (!options.api_key.empty()) {
    request.headers.Add("Authorization", "Bearer " + options.api_key);
  }
  const net::Url& target = options.sides.front().targets.front();
  const std::string asking = fmt::format("asking {} for its model", target.ToString());
  auto response =
      net::FetchBlocking(target, std::move(request), std::chrono::seconds(10), size_t{4} << 20);
  if (!response) return Fail(response.error(), asking);
  if (response->status != 200) {
    return Fail(Code::kUnavailable, fmt::format("{}: HTTP status {}", asking, response->status));
  }
  auto answer = codec::ParseJson(response->body);
  if (!answer) return Fail(answer.error(), asking);
  const codec::Json* data = codec::Find(*answer, "data");
  if (data != nullptr && data->is_array() && !data->get_array().empty()) {
    if (const auto id = codec::FindString(data->get_array().front(), "id")) return std::string(*id);
  }
  return Fail(Code::kNotFound, asking + ": the answer names none");
}

// Counts clients that finished; thread-safe.
class Finish {
 public:
  explicit Finish(size_t clients) : left_(clients) {}
  void Done() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    --left_;
    changed_.NotifyAll();
  }
  // True when all are done; waits for `patience` at most.
  bool Wait(Duration patience) EXCLUDES(mutex_) {
    const TimePoint deadline = SystemClock().Now() + patience;
    MutexLock lock(mutex_);
    while (left_ != 0) {
      if (!changed_.WaitUntil(mutex_, deadline)) break;
    }
    return left_ == 0;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  size_t left_ GUARDED_BY(mutex_);
};

Progress Observe(const RunPlan& plan) {
  Progress progress;
  progress.seconds = std::max(0.0, ToSeconds(SystemClock().Now() - plan.start));
  progress.total = plan.total;
  for (const auto& state : plan.sides) {
    SideProgress side;
    side.answered = state->answered.load(std::memory_order_relaxed);
    side.errors = state->errors.load(std::memory_order_relaxed);
    side.sent = std::max(state->sent.load(std::memory_order_relaxed), side.answered + side.errors);
    side.in_flight = side.sent - side.answered - side.errors;
    const auto prompt = static_cast<double>(state->prompt_tokens.load(std::memory_order_relaxed));
    const auto cached = static_cast<double>(state->cached_tokens.load(std::memory_order_relaxed));
    const auto measured = static_cast<double>(state->measured.load(std::memory_order_relaxed));
    const auto ttft = static_cast<double>(state->ttft_us.load(std::memory_order_relaxed)) * 1e-6;
    side.hit_rate = prompt > 0 ? cached / prompt : 0;
    side.ttft_mean = measured > 0 ? ttft / measured : 0;
    progress.sides.push_back(side);
  }
  return progress;
}

// From clients that finished, `options.loops` of them per side; takes their records.
BenchReport Collect(const BenchOptions& options,
                    const std::vector<std::unique_ptr<Client>>& clients, bool stopped) {
  BenchReport report;
  report.workload = WorkloadName(options.workload.kind);
  report.model = options.workload.model;
  report.seed = options.workload.seed;
  report.rate = options.rate;
  report.concurrency = options.concurrency;
  report.stopped = stopped;
  for (size_t side = 0; side < options.sides.size(); ++side) {
    std::vector<RequestRecord> records;
    std::vector<float> gaps;
    for (size_t shard = 0; shard < options.loops; ++shard) {
      Client& client = *clients[side * options.loops + shard];
      std::move(client.records().begin(), client.records().end(), std::back_inserter(records));
      gaps.insert(gaps.end(), client.gaps().begin(), client.gaps().end());
    }
    if (stopped) {
      std::erase_if(records, [](const RequestRecord& r) { return r.error == "cancelled"; });
    }
    const Side& what = options.sides[side];
    const size_t endpoints = what.targets.size() > 1 ? what.targets.size() : what.endpoints;
    report.sides.push_back(BuildReport(what.name, records, std::move(gaps), endpoints));
  }
  return report;
}

}  // namespace

Result<BenchReport> RunBench(const BenchOptions& given, const ProgressFn& progress) {
  WP_RETURN_IF_ERROR(Validate(given));
  BenchOptions options = given;
  if (options.workload.model.empty()) {
    WP_TRY(options.workload.model, LearnModel(options));
  }
  WP_TRY(const std::unique_ptr<Workload> workload, Workload::Create(options.workload));

  RunPlan plan;
  plan.options = &options;
  plan.workload = workload.get();
  plan.total = options.requests == 0 ? 0 : options.requests + options.warmup_requests;
  if (options.rate > 0) {
    plan.arrivals =
        PoissonArrivals(options.rate, plan.total, options.duration, options.workload.seed);
    if (options.duration > Duration{0}) {
      std::erase_if(plan.arrivals, [&](Duration at) { return at >= options.duration; });
    }
    plan.total = plan.arrivals.size();
    if (plan.total == 0) {
      return Fail(Code::kInvalidArgument,
                  "bench: no request falls into this duration at this rate");
    }
  }
  for (size_t side = 0; side < options.sides.size(); ++side) {
    plan.sides.push_back(std::make_unique<SideState>());
  }

  net::LoopGroup loops("bench", options.loops);
  loops.Start();
  Finish finish(options.loops * options.sides.size());
  std::vector<std::unique_ptr<Client>> clients;
  plan.start = SystemClock().Now() + kHeadStart;
  for (size_t side = 0; side < options.sides.size(); ++side) {
    for (size_t shard = 0; shard < options.loops; ++shard) {
      const size_t workers = options.concurrency / options.loops +
                             (shard < options.concurrency % options.loops ? 1 : 0);
      clients.push_back(std::make_unique<Client>(loops.at(shard), plan, side, shard, options.loops,
                                                 workers, [&finish] { finish.Done(); }));
    }
  }
  const auto each = [&](const std::function<void(Client&)>& work) {
    for (size_t i = 0; i < clients.size(); ++i) {
      loops.at(i % options.loops).Run([&] { work(*clients[i]); });
    }
  };
  each([](Client& client) { client.Start(); });

  // Per-call limits end most of what hangs; this ends answers that trickle on.
  TimePoint limit = TimePoint::max();
  if (!plan.arrivals.empty()) {
    limit = plan.start + plan.arrivals.back() + options.request_timeout;
  } else if (options.duration > Duration{0}) {
    limit = plan.start + options.duration + options.request_timeout;
  }
  bool stopped = false;
  while (!finish.Wait(kProgressPeriod)) {
    if (progress) progress(Observe(plan));
    const bool stop = options.stop != nullptr && options.stop->load();
    if (stop && !stopped) {
      stopped = true;
      each([](Client& client) { client.Cancel("cancelled"); });
    } else if (SystemClock().Now() > limit) {
      each([](Client& client) { client.Cancel("timeout"); });
    }
  }
  if (progress) progress(Observe(plan));

  BenchReport report = Collect(options, clients, stopped);
  for (size_t i = 0; i < clients.size(); ++i) {
    loops.at(i % options.loops).Run([&] { clients[i].reset(); });
  }
  loops.Stop();
  return report;
}

}  // namespace warmpath::load
