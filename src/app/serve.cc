#include "app/serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <future>
#include <iterator>
#include <utility>

#include "admin/admin_server.h"
#include "app/discovery.h"
#include "app/picker.h"
#include "app/tokenizer_loader.h"
#include "app/version.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/thread.h"
#include "base/units.h"
#include "config/endpoint_picker_config.h"
#include "events/manager.h"
#include "fleet/fleet.h"
#include "gateway/gateway.h"
#include "index/kv_index.h"
#include "net/loop.h"
#include "routing/director.h"
#include "routing/metric_names.h"
#include "scheduling/scheduler.h"

namespace warmpath::app {
namespace {

using namespace std::chrono_literals;

constexpr Duration kTickPeriod = 100ms;
constexpr size_t kMaxQueuedTokenizations = 1024;
// Engines with traffic are asked no more often than this, whatever the flag: what is sent to them
// is counted at once, scrapes only correct it.
constexpr Duration kMinScrapeInterval = 200ms;
constexpr Duration kReleaseTimeout = 2s;  // of the lease
constexpr Duration kHealthInterval = 1s;  // of engines whose /metrics answers
// Where engines of the first generation's guide connect to.
constexpr const char* kLegacyBind = "tcp://*:5557";

Result<config::LoadedConfig> LoadConfig(const ServeOptions& options) {
  if (!options.config_file.empty() && !options.config_text.empty()) {
    return Fail(Code::kInvalidArgument, "--config-file and --config-text exclude each other");
  }
  const config::LoadOptions load{options.allow_experimental_plugins};
  if (!options.config_file.empty()) return config::LoadConfigFile(options.config_file, load);
  if (!options.config_text.empty())
    return config::LoadConfigText(options.config_text, "--config-text", load);
  if (options.llm_d_defaults) return config::DefaultEppConfig();
  config::LoadedConfig defaults;
  defaults.scheduler = scheduling::DefaultSchedulerSpec();
  return defaults;
}

// A flag's own mistakes; what the configuration file says is checked where it is read.
Status CheckFlags(const ServeOptions& options) {
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
  return {};
}

// The configuration's scraping, changed by what the old flags say of the default engine's series.
Result<fleet::ScrapeConfig> MakeScrapeConfig(fleet::ScrapeConfig scrape, const ScrapeFlags& flags) {
  if (!flags.path.empty()) scrape.path = flags.path;
  if (flags.port != 0) scrape.port = flags.port;
  const std::vector<std::pair<std::string, const std::string*>> given = {
      {"total-queued-requests-metric", &flags.queued_metric},
      {"total-running-requests-metric", &flags.running_metric},
      {"kv-cache-usage-percentage-metric", &flags.kv_usage_metric},
      {"lora-info-metric", &flags.lora_metric},
      {"cache-info-metric", &flags.cache_info_metric}};
  fleet::EngineMetrics engine;
  for (const std::vector<fleet::EngineMetrics>* engines :
       {&fleet::BuiltInEngines(), &std::as_const(scrape.engines)}) {
    for (const fleet::EngineMetrics& known : *engines) {
      if (known.engine == scrape.default_engine) engine = known;
    }
  }
  const std::vector<fleet::MetricSpec*> targets = {
      &engine.queued, &engine.running, &engine.kv_usage, &engine.lora, &engine.cache_info};
  std::string named;
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i].second->empty()) continue;
    auto spec = fleet::ParseMetricSpec(*given[i].second);
    if (!spec) return Fail(spec.error(), "--" + given[i].first);
    *targets[i] = *spec;
    named += (named.empty() ? "--" : ", --") + given[i].first;
  }
  if (!named.empty()) {
    WP_LOG(kWarn, "config", "deprecated flags set the series of the default engine",
           {"flags", named}, {"engine", scrape.default_engine},
           {"instead", "engineConfigs of core-metrics-extractor"});
    std::erase_if(scrape.engines, [&](const auto& e) { return e.engine == engine.engine; });
    scrape.engines.push_back(std::move(engine));
  }
  return scrape;
}

// For https engines; null when there is nothing special about them.
Result<std::shared_ptr<net::TlsContext>> MakeEngineTls(const ServeOptions& options) {
  if (options.engine_ca_file.empty()) return nullptr;
  net::TlsClientOptions tls;
  tls.ca_file = options.engine_ca_file;
  auto context = net::TlsContext::Client(tls);
  if (!context) return Fail(context.error(), "--engine-ca-file");
  return context;
}

Result<std::shared_ptr<net::TlsContext>> MakeMetricsTls(const ServeOptions& options) {
  if (options.metrics_cert_dir.empty()) {
    if (options.metrics_client_ca_file.empty()) return nullptr;
    return Fail(Code::kInvalidArgument, "\"metrics-client-ca-file\" requires \"metrics-cert-dir\"");
  }
  net::TlsServerOptions tls;
  tls.cert_dir = options.metrics_cert_dir;
  tls.client_ca_file = options.metrics_client_ca_file;
  tls.alpn = {"http/1.1"};
  return net::TlsContext::Server(tls);
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
  std::unique_ptr<Discovery> discovery;
  std::unique_ptr<Cluster> cluster;           // null: no Kubernetes; lives on `control`
  std::unique_ptr<gateway::Gateway> gateway;  // null: none
  std::unique_ptr<Picker> picker;             // null: none
  std::unique_ptr<admin::AdminServer> admin;
  net::Timer tick;
  std::vector<std::string> gateway_urls;
  std::string metrics_host;
  std::string metrics_scheme;
  std::atomic<bool> started{false};
  std::atomic<bool> draining{false};
  bool stopped = false;

  bool Ready(std::string* why_not) const {
    const auto missing = [&](const char* what) {
      if (why_not != nullptr) *why_not = what;
      return false;
    };
    if (!started.load() || draining.load()) return missing("starting or draining");
    if (!tokenizers->settled()) return missing("tokenizer not loaded yet");
    if (cluster != nullptr && !cluster->synced(why_not)) return false;
    const auto snapshot = fleet->snapshot();
    for (const auto& endpoint : snapshot->endpoints) {
      if (endpoint->health == fleet::Health::kHealthy) return true;
    }
    return missing("no engine is healthy");
  }

  Status BindGateway(const ServeOptions& options, const std::string& api_key,
                     const std::shared_ptr<net::TlsContext>& engine_tls) {
    if (options.listen.empty()) return {};
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
    gateway_options.client.tls = engine_tls;
    WP_TRY(gateway, gateway::Gateway::Create(*loops, gateway_options,
                                             {*director, *fleet, *pool, metrics, clock}));
    for (const net::HostPort& address : gateway->addresses()) {
      gateway_urls.push_back("http://" + address.ToString());
    }
    return {};
  }

  Status BindPicker(const ServeOptions& options, const config::LoadedConfig& config) {
    if (!options.picker) return {};
    extproc::ExtProcOptions base;
    base.decision_timeout = options.decision_timeout;
    base.max_request_body = options.max_request_body;
    base.parsers = {config.parse_openai, config.parse_vllmhttp, config.parse_passthrough};
    const auto health = [this] {
      extproc::HealthInputs inputs;
      inputs.pool_synced =
          started.load() && (cluster == nullptr || cluster->synced(/*why_not=*/nullptr));
      inputs.draining = draining.load();
      inputs.elects = cluster != nullptr && cluster->elects();
      inputs.leading = inputs.elects && cluster->leading();
      return inputs;
    };
    WP_TRY(picker, Picker::Create(
                       *options.picker, base,
                       {*loops, *admin_loop, {*director, *fleet, *pool, metrics, clock, health}}));
    return {};
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
  std::string bind = options.kv_events_bind;
  if (bind.empty()) bind = config.kv_events_bind;
  if (bind.empty() && config.legacy_cache_tracking && options.llm_d_defaults) bind = kLegacyBind;
  DiscoveryOptions discovery;
  if (!options.endpoints_file.empty()) discovery.endpoint_files.push_back({options.endpoints_file});
  if (!config.discovery_file.empty()) {
    discovery.endpoint_files.push_back({config.discovery_file, config.watch_discovery_file});
  }
  discovery.policy_file = options.policy_file;
  if (config.kv_events_port != 0) discovery.defaults.events_port = config.kv_events_port;
  if (!bind.empty() && config.kv_events_port == 0) discovery.defaults.events_port = 0;
  discovery.defaults.replay_port = config.kv_replay_port;
  if (options.endpoints.empty() && discovery.endpoint_files.empty() && !options.cluster) {
    return Fail(Code::kInvalidArgument,
                "no endpoints: give --endpoint at least once, for example --endpoint "
                "http://127.0.0.1:8000, or --endpoints-file, or in Kubernetes --pool-name or "
                "--endpoint-selector");
  }
  WP_TRY(std::vector<fleet::EndpointSpec> specs,
         fleet::ParseEndpoints(options.endpoints, !bind.empty()));
  WP_RETURN_IF_ERROR(CheckFlags(options));
  discovery.fixed = std::move(specs);
  WP_TRY(s.scheduler,
         scheduling::Scheduler::Create(config.scheduler,
                                       {options.allow_experimental_plugins, &s.metrics, &s.clock}));
  WP_TRY(std::string api_key, ReadSecret(options.engine_api_key_file));

  const size_t threads = options.threads != 0 ? options.threads : net::UsableCores();
  s.index = std::make_unique<index::KvIndex>(options.index_memory_bytes);
  s.control = std::make_unique<net::Loop>("control");
  s.admin_loop = std::make_unique<net::Loop>("admin");
  s.loops = std::make_unique<net::LoopGroup>("io", threads);
  s.pool = std::make_unique<CpuPool>("tokenize", threads, kMaxQueuedTokenizations);

  fleet::FleetOptions fleet_options;
  fleet_options.api_key = api_key;
  fleet_options.pool_name = options.pool_name;
  fleet_options.max_scrapes_per_second = options.max_scrapes_per_second;
  fleet_options.active_interval = std::max<Duration>(
      kMinScrapeInterval, config.scrape_interval.value_or(options.refresh_metrics_interval));
  fleet_options.gauges_interval = options.refresh_prometheus_metrics_interval;
  fleet_options.staleness = options.metrics_staleness_threshold;
  WP_TRY(const std::shared_ptr<net::TlsContext> engine_tls, MakeEngineTls(options));
  fleet_options.tls = engine_tls;
  fleet_options.deprecated_metrics = false;  // all old names come from routing::AddDeprecatedNames
  fleet_options.health_interval = kHealthInterval;
  WP_TRY(fleet_options.scrape, MakeScrapeConfig(config.scrape, options.scrape));
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
  director_options.add_estimated_output_tokens = config.add_estimated_output_tokens;
  director_options.output_ratio = config.output_ratio;
  director_options.max_estimated_output_tokens = config.max_estimated_output_tokens;
  director_options.estimate = config.estimate;
  director_options.speculative_blocks = config.speculative_indexing;
  director_options.any_model = options.picker && options.picker->conformance_test_headers;
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
  TokenizerLoaderOptions tokenizer_options;
  tokenizer_options.model = options.model;
  tokenizer_options.source = options.tokenizer;
  tokenizer_options.hub = prompt::HubOptionsFromEnvironment();
  s.tokenizers = std::make_unique<TokenizerLoader>(std::move(tokenizer_options), *s.director,
                                                   s.metrics, warm_up);
  WP_RETURN_IF_ERROR(s.tokenizers->LoadExplicit());

  if (options.cluster) {
    ClusterOptions cluster = *options.cluster;
    cluster.pods.events_port = discovery.defaults.events_port;
    cluster.pods.replay_port = discovery.defaults.replay_port;
    cluster.policies = options.policy_file.empty();
    WP_TRY(s.cluster,
           Cluster::Create(cluster, {*s.control, *s.fleet, *s.director, s.metrics, s.clock}));
  }

  WP_RETURN_IF_ERROR(s.BindGateway(options, api_key, engine_tls));
  WP_RETURN_IF_ERROR(s.BindPicker(options, config));

  admin::AdminOptions admin_options;
  admin_options.listen = {options.metrics_host, options.metrics_port};
  admin_options.max_body_bytes = options.max_request_body;
  WP_TRY(admin_options.tls, MakeMetricsTls(options));
  if (s.cluster != nullptr) admin_options.authorize = s.cluster->authorize();
  s.metrics_scheme = admin_options.tls != nullptr ? "https://" : "http://";
  s.metrics
      .AddGauge("llm_d_epp_info", "Build of the running program; always 1.",
                {{"commit", WARMPATH_GIT_REVISION}, {"build_ref", WARMPATH_VERSION}})
      .Set(1);
  if (options.deprecated_metric_names) routing::AddDeprecatedNames(s.metrics);
  s.metrics_host = options.metrics_host;
  Impl* raw = impl.get();
  WP_TRY(s.admin,
         admin::AdminServer::Create(*s.admin_loop, admin_options,
                                    {s.metrics, *s.fleet, s.events.get(), *s.index, *s.director,
                                     [raw] {
                                       admin::Readiness readiness;
                                       readiness.ready = raw->Ready(&readiness.why_not);
                                       return readiness;
                                     },
                                     [raw] { return raw->tokenizers->info(); }}));

  s.fleet->OnChange([raw](const fleet::Snapshot& snapshot) {
    raw->events->SetEndpoints(snapshot);
    raw->tokenizers->OnFleet(snapshot);
  });
  WP_TRY(s.discovery, Discovery::Create(std::move(discovery), *s.fleet, *s.director, s.metrics));
  return std::unique_ptr<ServeInstance>(new ServeInstance(std::move(impl)));
}

void ServeInstance::Start() {
  Impl& s = *impl_;
  s.control->Start();
  s.control->Post(BecomeBackground);
  s.events->Start();
  s.events->SetEndpoints(*s.fleet->snapshot());
  s.fleet->Start();
  s.control->Run([&s] {
    s.tick = s.control->Every(kTickPeriod, [&s] { s.director->Tick(); });
    s.discovery->Start(*s.control);
    if (s.cluster != nullptr) s.cluster->Start();
    if (s.picker != nullptr) s.picker->WatchCertificate(*s.control);
  });
  s.loops->Start();
  s.admin_loop->Start();
  s.started = true;
}

void ServeInstance::Stop(Duration deadline) {
  Impl& s = *impl_;
  if (s.stopped) return;
  s.stopped = true;
  if (!s.started.load()) return;
  BeginDrain();
  const TimePoint until = s.clock.Now() + deadline;
  if (s.gateway != nullptr) s.gateway->Stop(deadline);
  if (s.picker != nullptr) s.picker->Stop(std::max(Duration::zero(), until - s.clock.Now()));
  s.started = false;
  s.loops->Stop();
  s.pool->Stop();
  s.fleet->Stop();
  s.control->Run([&s] {
    s.tick.Cancel();
    s.discovery->Stop();
    if (s.picker != nullptr) s.picker->StopWatching();
  });
  s.events->Stop();
  s.admin->Stop();
  s.admin_loop->Stop();
  s.control->Run([&s] { s.cluster.reset(); });
  s.control->Stop();
}

const std::vector<std::string>& ServeInstance::gateway_urls() const {
  return impl_->gateway_urls;
}
std::string ServeInstance::metrics_url() const {
  return impl_->metrics_scheme +
         net::HostPort{impl_->metrics_host, impl_->admin->port()}.ToString();
}
uint16_t ServeInstance::kv_events_port() const {
  return impl_->events->bound_port();
}
std::string ServeInstance::grpc_address() const {
  return impl_->picker == nullptr ? "" : impl_->picker->grpc_address();
}
std::string ServeInstance::health_address() const {
  return impl_->picker == nullptr ? "" : impl_->picker->health_address();
}
void ServeInstance::BeginDrain() {
  Impl& s = *impl_;
  if (s.draining.exchange(true) || !s.started.load()) return;
  s.events->Unbind();
  if (s.cluster == nullptr) return;
  auto released = std::make_shared<std::promise<void>>();
  s.control->Post([&s, released] { s.cluster->Stop([released] { released->set_value(); }); });
  released->get_future().wait_for(kReleaseTimeout);
}
size_t ServeInstance::grpc_connections() const {
  return impl_->picker == nullptr ? 0 : impl_->picker->connections();
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
