// The long-running commands: serve, sim, bench.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <stop_token>
#include <thread>

#include <unistd.h>

#include "app/commands.h"
#include "app/process.h"
#include "base/log.h"
#include "fleet/endpoint.h"
#include "net/loop.h"
#include "prompt/hub.h"
#include "prompt/tokenizer.h"

namespace warmpath::app {
namespace {

using namespace std::chrono_literals;

// Long enough for every engine to have been asked once.
constexpr int kTableWaitMs = 2500;
constexpr int kPollMs = 50;
// Of --drain-timeout, for requests that are still under way when nothing new is taken any more.
constexpr Duration kDrainReserve = 2s;

bool AllAsked(const fleet::Snapshot& snapshot) {
  if (snapshot.endpoints.empty()) return false;  // the cluster has not said yet
  for (const auto& endpoint : snapshot.endpoints) {
    if (endpoint->health == fleet::Health::kUnknown) return false;
  }
  return true;
}

// Logs where everything listens and writes the ready file.
Status Announce(const ServeInstance& serve, const std::string& ready_file) {
  std::vector<std::pair<std::string, std::string>> listeners;
  for (size_t i = 0; i < serve.gateway_urls().size(); ++i) {
    listeners.emplace_back(i == 0 ? "gateway" : fmt::format("gateway_{}", i),
                           serve.gateway_urls()[i]);
    WP_LOG(kInfo, "serve", "gateway listening", {"url", serve.gateway_urls()[i]});
  }
  if (!serve.grpc_address().empty()) {
    listeners.emplace_back("grpc", serve.grpc_address());
    listeners.emplace_back("health", serve.health_address());
    WP_LOG(kInfo, "serve", "ext_proc listening", {"address", serve.grpc_address()});
    WP_LOG(kInfo, "serve", "gRPC health listening", {"address", serve.health_address()});
  }
  listeners.emplace_back("metrics", serve.metrics_url());
  WP_LOG(kInfo, "serve", "dashboard, API and metrics", {"url", serve.metrics_url()});
  if (serve.kv_events_port() != 0) {
    listeners.emplace_back("kv_events", fmt::format("tcp://*:{}", serve.kv_events_port()));
    WP_LOG(kInfo, "serve", "KV events bound", {"port", serve.kv_events_port()});
  }
  return WriteReadyFile(ready_file, listeners);
}

// Prints the fleet once every engine was asked, then waits for a signal.
void WaitWithTable(const ServeInstance& serve) {
  for (int waited = 0; waited < kTableWaitMs && !AllAsked(*serve.endpoints()); waited += kPollMs) {
    if (WaitForStopSignal(kPollMs)) return;
  }
  if (LogEnabled(LogLevel::kInfo) && GetLogFormat() == LogFormat::kConsole) {
    fmt::print(stderr, "{}", fleet::DescribeTable(*serve.endpoints()));
  }
  WaitForStopSignal();
}

// A name that is in no local cache is fetched from the hub before the engines listen, as vLLM does
// it. A directory stays what it is.
Status FetchTokenizer(const std::string& tokenizer) {
  if (tokenizer.empty() || prompt::FindTokenizerDirectory(tokenizer)) return {};
  const auto name = prompt::ParseHubName(tokenizer);
  if (!name) return {};  // loading names what is wrong
  WP_LOG(kInfo, "sim", "fetching the tokenizer", {"name", tokenizer});
  std::stop_source stop;
  std::atomic<bool> done{false};
  std::thread watcher([&] {
    while (!done.load()) {
      if (WaitForStopSignal(100)) {
        stop.request_stop();
        return;
      }
    }
  });
  const auto directory =
      prompt::DownloadTokenizer(prompt::HubOptionsFromEnvironment(), *name, stop.get_token());
  done = true;
  watcher.join();
  if (stop.stop_requested()) return Fail(Code::kCancelled, "stopped");
  if (directory) return {};
  return Fail(directory.error(), fmt::format("--tokenizer {}", tokenizer));
}

}  // namespace

int RunServe(ServeCommand& command, const ClusterFlags& cluster) {
  if (auto applied = ApplyClusterFlags(cluster, false, command.options); !applied) {
    return ReportError(applied.error());
  }
  auto instance = ServeInstance::Create(command.options);
  if (!instance) return ReportError(instance.error());
  ServeInstance& serve = **instance;
  serve.Start();
  if (auto written = Announce(serve, command.ready_file); !written)
    return ReportError(written.error());
  WaitWithTable(serve);
  WP_LOG(kInfo, "serve", "draining; a second signal ends at once");
  serve.BeginDrain();
  serve.Stop(command.options.drain_timeout);
  return kExitOk;
}

int RunEpp(EppCommand& command) {
  if (auto checked = CheckPickerFlags(command); !checked) return ReportError(checked.error());
  const ServeOptions& options = command.serve.options;
  auto instance = ServeInstance::Create(options);
  if (!instance) return ReportError(instance.error());
  ServeInstance& serve = **instance;
  if (command.cluster.metrics_endpoint_auth && !options.cluster) {
    WP_LOG(kInfo, "serve", "metrics authentication is off: it needs Kubernetes discovery",
           {"flag", "--metrics-endpoint-auth"});
  }
  serve.Start();
  if (auto written = Announce(serve, command.serve.ready_file); !written)
    return ReportError(written.error());
  WaitWithTable(serve);

  // Health says NOT_SERVING first; proxies that ask it move away while their requests still work.
  // Nobody connected means nobody to wait for.
  WP_LOG(kInfo, "serve", "draining; a second signal ends at once");
  serve.BeginDrain();
  const auto end = std::chrono::steady_clock::now() + options.drain_timeout;
  while (serve.grpc_connections() > 0 && std::chrono::steady_clock::now() + kDrainReserve < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
  }
  serve.Stop(std::max<Duration>(Duration::zero(), end - std::chrono::steady_clock::now()));
  return kExitOk;
}

int RunSim(const SimCommand& command) {
  if (auto fetched = FetchTokenizer(command.options.tokenizer); !fetched) {
    return fetched.error().code == Code::kCancelled ? kExitOk : ReportError(fetched.error());
  }
  net::LoopGroup loops("sim", std::min<size_t>(4, net::UsableCores()));
  auto simulator = sim::Simulator::Start(command.options, loops);
  if (!simulator) return ReportError(simulator.error());
  loops.Start();
  std::vector<std::pair<std::string, std::string>> listeners;
  for (size_t i = 0; i < (*simulator)->endpoints().size(); ++i) {
    const sim::Simulator::Endpoint& endpoint = (*simulator)->endpoints()[i];
    const std::string suffix = i == 0 ? "" : fmt::format("_{}", i);
    listeners.emplace_back("engine" + suffix, endpoint.url);
    for (size_t rank = 0; rank < endpoint.ranks.size(); ++rank) {
      const auto& [events, replay] = endpoint.ranks[rank];
      const std::string of_rank = rank == 0 ? suffix : fmt::format("{}_rank_{}", suffix, rank);
      if (!events.empty()) listeners.emplace_back("events" + of_rank, events);
      if (!replay.empty()) listeners.emplace_back("replay" + of_rank, replay);
      WP_LOG(kInfo, "sim", "engine listening", {"url", endpoint.url}, {"rank", rank},
             {"events", events}, {"replay", replay});
    }
  }
  if (auto written = WriteReadyFile(command.ready_file, listeners); !written)
    return ReportError(written.error());
  WaitForStopSignal();
  (*simulator)->Stop(5s);
  loops.Stop();
  return kExitOk;
}

int RunBenchCommand(const BenchCommand& command) {
  std::atomic<bool> stop{false};
  std::atomic<bool> done{false};
  std::thread watcher([&] {
    while (!done.load()) {
      if (WaitForStopSignal(100)) stop = true;
    }
  });
  load::BenchOptions options = command.options;
  options.stop = &stop;
  const bool progress = isatty(fileno(stderr)) != 0;
  const auto report = load::RunBench(options, [&](const load::Progress& p) {
    if (!progress || p.sides.empty()) return;
    const load::SideProgress& side = p.sides.front();
    fmt::print(
        stderr,
        "\r{:6.1f} s  sent {}{}  answered {}  errors {}  hit {:.1f} %  TTFT mean {:.1f} ms   ",
        p.seconds, side.sent, p.total > 0 ? fmt::format("/{}", p.total) : "", side.answered,
        side.errors, side.hit_rate * 100, side.ttft_mean * 1e3);
  });
  if (progress) fmt::print(stderr, "\n");
  done = true;
  watcher.join();
  if (!report) return ReportError(report.error());
  // A target that answered nothing was not measured.
  const bool answered =
      std::none_of(report->sides.begin(), report->sides.end(), [](const load::SideReport& side) {
        return side.requests > 0 && side.errors == side.requests;
      });
  if (command.json_file == "-") {
    fmt::print("{}\n", load::FormatJson(*report));
    return answered ? kExitOk : kExitRuntime;
  }
  fmt::print("{}", load::FormatTable(*report));
  if (!command.json_file.empty()) {
    std::ofstream out(command.json_file);
    out << load::FormatJson(*report) << "\n";
    out.flush();
    if (!out)
      return ReportError(
          {Code::kUnavailable, fmt::format("--json {}: cannot be written", command.json_file)});
  }
  return answered ? kExitOk : kExitRuntime;
}

}  // namespace warmpath::app
