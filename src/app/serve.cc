#include "app/serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <iterator>
#include <thread>

#include "admin/admin_server.h"
#include "app/tokenizer_loader.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/units.h"
#include "config/endpoint_picker_config.h"
#include "events/manager.h"
#include "fleet/fleet.h"
#include "gateway/gateway.h"
#include "index/kv_index.h"
#include "net/loop.h"
#include "routing/director.h"
#include "scheduling/scheduler.h"

namespace warmpath::app {
namespace {

using namespace std::chrono_literals;

constexpr Duration kTickPeriod = 100ms;
constexpr size_t kMaxQueuedTokenizations = 1024;

Result<config::LoadedConfig> LoadConfig(const ServeOptions& options) {
  if (!options.config_file.empty() && !options.config_text.empty()) {
    return Fail(Code::kInvalidArgument, "--config-file and --config-text exclude each other");
  }
  if (!options.config_file.empty()) return config::LoadConfigFile(options.config_file);
  if (!options.config_text.empty())
    return config::LoadConfigText(options.config_text, "--config-text");
  config::LoadedConfig defaults;
  defaults.scheduler = scheduling::DefaultSchedulerSpec();
  return defaults;
}

// A flag's own mistakes; what the configuration file says is checked where it is read.
Status CheckFlags(const ServeOptions& options, const std::vector<fleet::EndpointSpec>& specs) {
  constexpr std::string_view kScheme = "tcp://";
  const std::string_view bind = options.kv_events_bind;
  const size_t colon = bind.starts_with(kScheme) ? bind.rfind(':') : 0;
  const auto port = ParseInt(bind.substr(std::min(bind.size(), colon + 1)));
  const bool valid = colon > kScheme.size() && port && *port >= 0 && *port <= 65535;
  if (!bind.empty() && !valid) {
    return Fail(Code::kInvalidArgument,
                fmt::format("--kv-events-bind {}: must be tcp://*:PORT or tcp://ADDRESS:PORT",
                            JsonQuote(bind)));
  }
  for (const fleet::EndpointSpec& spec : specs) {
    if (!spec.url.tls) continue;
    return Fail(Code::kInvalidArgument,
                fmt::format("--endpoint {}: https engines are not supported; use http://",
                            JsonQuote(spec.url.ToString())));
  }
  return {};
}

Result<std::string> ReadSecret(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream in(path);
  if (!in)
    return Fail(Code::kUnavailable, fmt::format("--engine-api-key-file {}: cannot be read", path));
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  return std::string(Trim(text));
}

}  // namespace

struct ServeInstance::Impl {
  // In order of construction; destroyed in reverse, so that nobody outlives what it uses.
  Registry metrics;
  const Clock& clock = SystemClock();
  std::unique_ptr<index::KvIndex> index;
  std::unique_ptr<scheduling::Scheduler> scheduler;
  std::unique_ptr<net::Loop> control;
  std::unique_ptr<net::Loop> admin_loop;
  std::unique_ptr<net::LoopGroup> loops;
  std::unique_ptr<CpuPool> pool;
  std::unique_ptr<fleet::Fleet> fleet;
  std::unique_ptr<events::EventsManager> events;
  std::unique_ptr<routing::Director> director;
  std::unique_ptr<TokenizerLoader> tokenizers;
  std::unique_ptr<gateway::Gateway> gateway;
  std::unique_ptr<admin::AdminServer> admin;
  net::Timer tick;
  std::vector<std::string> gateway_urls;
  std::string metrics_host;
  std::atomic<bool> started{false};
  bool stopped = false;

  bool Ready(std::string* why_not) const {
    const auto missing = [&](const char* what) {
      if (why_not != nullptr) *why_not = what;
      return false;
    };
    if (!started.load()) return missing("starting or draining");
    if (!tokenizers->settled()) return missing("tokenizer not loaded yet");
    const auto snapshot = fleet->snapshot();
    for (const auto& endpoint : snapshot->endpoints) {
      if (endpoint->health == fleet::Health::kHealthy) return true;
    }
    return missing("no engine is healthy");
  }
};

ServeInstance::ServeInstance(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ServeInstance::~ServeInstance() {
  Stop(0s);
}

Result<std::unique_ptr<ServeInstance>> ServeInstance::Create(const ServeOptions& options) {
  auto impl = std::make_unique<Impl>();
  Impl& s = *impl;

  WP_TRY(config::LoadedConfig config, LoadConfig(options));
  for (const std::string& warning : config.warnings) {
    WP_LOG(kWarn, "config", "configuration", {"note", warning});
  }
  if (config.kv_events_port != 0 || config.kv_replay_port != 0) {
    WP_LOG(kWarn, "config", "configuration",
           {"note",
            "podDiscoveryConfig: no pods are discovered here; give each engine's ports in "
            "--endpoint as events= and replay="});
  }
  const std::string bind =
      options.kv_events_bind.empty() ? config.kv_events_bind : options.kv_events_bind;
  if (options.endpoints.empty()) {
    return Fail(Code::kInvalidArgument,
                "--endpoint is needed at least once, for example --endpoint http://127.0.0.1:8000");
  }
  WP_TRY(std::vector<fleet::EndpointSpec> specs,
         fleet::ParseEndpoints(options.endpoints, !bind.empty()));
  WP_RETURN_IF_ERROR(CheckFlags(options, specs));
  WP_TRY(s.scheduler, scheduling::Scheduler::Create(config.scheduler));
  WP_TRY(std::string api_key, ReadSecret(options.engine_api_key_file));

  const size_t threads =
      options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  s.index = std::make_unique<index::KvIndex>(options.index_memory_bytes);
  s.control = std::make_unique<net::Loop>("control");
  s.admin_loop = std::make_unique<net::Loop>("admin");
  s.loops = std::make_unique<net::LoopGroup>("gateway", threads);
  s.pool = std::make_unique<CpuPool>("tokenize", threads, kMaxQueuedTokenizations);

  fleet::FleetOptions fleet_options;
  fleet_options.api_key = api_key;
  s.fleet = std::make_unique<fleet::Fleet>(*s.control, fleet_options, s.metrics, s.clock);

  events::EventsOptions events_options;
  events_options.bind = bind;
  WP_TRY(s.events, events::EventsManager::Create(events_options, *s.index, s.metrics, s.clock));

  routing::DirectorOptions director_options;
  if (options.metrics_beat_interval) {
    director_options.beat_interval = *options.metrics_beat_interval;
  } else if (config.metrics_logging_interval) {
    director_options.beat_interval = *config.metrics_logging_interval;
  }
  s.director = std::make_unique<routing::Director>(
      routing::DirectorDeps{*s.fleet, *s.index, s.events.get(), *s.scheduler, s.metrics, s.clock},
      director_options);
  // A thread's first encoding costs tens of milliseconds (its own scratch tables): let no request
  // pay for it.
  const auto warm_up = [raw = impl.get()](std::shared_ptr<const prompt::Encoder> encoder) {
    const auto encode = [encoder = std::move(encoder)] {
      (void)encoder->Encode(prompt::Api::kCompletions, R"({"prompt":"Warm up, once per thread."})");
    };
    for (size_t i = 0; i < raw->loops->size(); ++i) raw->loops->at(i).Post(encode);
  };
  s.tokenizers =
      std::make_unique<TokenizerLoader>(options.model, options.tokenizer, *s.director, warm_up);
  WP_RETURN_IF_ERROR(s.tokenizers->LoadExplicit());

  gateway::GatewayOptions gateway_options;
  for (const std::string& address : options.listen) {
    auto parsed = net::ParseHostPort(address);
    if (!parsed) return Fail(parsed.error(), "--listen " + address);
    gateway_options.listen.push_back(*parsed);
  }
  gateway_options.server.max_body_bytes = options.max_request_body;
  gateway_options.decision_timeout = options.decision_timeout;
  gateway_options.expose_decision = options.expose_decision;
  gateway_options.engine_api_key = api_key;
  WP_TRY(s.gateway, gateway::Gateway::Create(*s.loops, gateway_options,
                                             {*s.director, *s.fleet, *s.pool, s.metrics, s.clock}));
  for (const net::HostPort& address : s.gateway->addresses()) {
    s.gateway_urls.push_back("http://" + address.ToString());
  }

  admin::AdminOptions admin_options;
  admin_options.listen = {options.metrics_host, options.metrics_port};
  admin_options.max_body_bytes = options.max_request_body;
  s.metrics_host = options.metrics_host;
  Impl* raw = impl.get();
  WP_TRY(s.admin, admin::AdminServer::Create(
                      *s.admin_loop, admin_options,
                      {s.metrics, *s.fleet, s.events.get(), *s.index, *s.director, [raw] {
                         admin::Readiness readiness;
                         readiness.ready = raw->Ready(&readiness.why_not);
                         return readiness;
                       }}));

  s.fleet->OnChange([raw](const fleet::Snapshot& snapshot) {
    raw->events->SetEndpoints(snapshot);
    raw->tokenizers->OnFleet(snapshot);
  });
  s.fleet->SetEndpoints(std::move(specs));
  return std::unique_ptr<ServeInstance>(new ServeInstance(std::move(impl)));
}

void ServeInstance::Start() {
  Impl& s = *impl_;
  s.control->Start();
  s.events->Start();
  s.events->SetEndpoints(*s.fleet->snapshot());
  s.fleet->Start();
  s.control->Run([&s] { s.tick = s.control->Every(kTickPeriod, [&s] { s.director->Tick(); }); });
  s.loops->Start();
  s.admin_loop->Start();
  s.started = true;
}

void ServeInstance::Stop(Duration deadline) {
  Impl& s = *impl_;
  if (s.stopped) return;
  s.stopped = true;
  if (!s.started.exchange(false)) return;
  s.gateway->Stop(deadline);
  s.loops->Stop();
  s.pool->Stop();
  s.fleet->Stop();
  s.control->Run([&s] { s.tick.Cancel(); });
  s.events->Stop();
  s.admin->Stop();
  s.admin_loop->Stop();
  s.control->Stop();
}

const std::vector<std::string>& ServeInstance::gateway_urls() const {
  return impl_->gateway_urls;
}
std::string ServeInstance::metrics_url() const {
  return "http://" + net::HostPort{impl_->metrics_host, impl_->admin->port()}.ToString();
}
uint16_t ServeInstance::kv_events_port() const {
  return impl_->events->bound_port();
}
bool ServeInstance::Ready(std::string* why_not) const {
  return impl_->Ready(why_not);
}
std::shared_ptr<const fleet::Snapshot> ServeInstance::endpoints() const {
  return impl_->fleet->snapshot();
}
routing::Director& ServeInstance::director() {
  return *impl_->director;
}
const index::KvIndex& ServeInstance::index() const {
  return *impl_->index;
}

}  // namespace warmpath::app
