#include "app/epp_flags.h"

#include <fmt/format.h>

#include <memory>

#include "app/cli_flags.h"
#include "base/log.h"

namespace warmpath::app {
namespace {

constexpr const char* kPicker = "Endpoint picker";
constexpr const char* kTls = "TLS of ext_proc";
constexpr const char* kEngineMetrics = "Engine metrics (deprecated: use engineConfigs)";
constexpr const char* kLog = "Logging";
constexpr const char* kNoEffect = "Accepted, no effect here";

constexpr const char* kDestinationKey = "x-gateway-destination-endpoint";
constexpr const char* kDestinationNamespace = "envoy.lb";

// llm-d's names in the order of its documentation, then those of older charts.
constexpr const char* kLlmdFlags[] = {"grpc-port",
                                      "grpc-health-port",
                                      "metrics-port",
                                      "pool-group",
                                      "pool-namespace",
                                      "pool-name",
                                      "endpoint-selector",
                                      "endpoint-target-ports",
                                      "disable-endpoint-subset-filter",
                                      "emit-endpoint-scores",
                                      "ha-enable-leader-election",
                                      "drain-timeout",
                                      "grpc-max-recv-msg-size",
                                      "grpc-max-send-msg-size",
                                      "refresh-metrics-interval",
                                      "refresh-prometheus-metrics-interval",
                                      "metrics-staleness-threshold",
                                      "config-file",
                                      "config-text",
                                      "allow-experimental-plugins",
                                      "secure-serving",
                                      "cert-path",
                                      "enable-cert-reload",
                                      "tls-min-version",
                                      "tls-cipher-suites",
                                      "health-checking",
                                      "metrics-endpoint-auth",
                                      "metrics-cert-dir",
                                      "metrics-client-ca-file",
                                      "enable-pprof",
                                      "tracing",
                                      "enable-grpc-stream-metrics",
                                      "verbosity",
                                      "zap-encoder",
                                      "zap-log-level",
                                      "zap-devel",
                                      "zap-stacktrace-level",
                                      "zap-time-encoding",
                                      "total-queued-requests-metric",
                                      "total-running-requests-metric",
                                      "kv-cache-usage-percentage-metric",
                                      "lora-info-metric",
                                      "cache-info-metric",
                                      "model-server-metrics-path",
                                      "model-server-metrics-port",
                                      "model-server-metrics-scheme",
                                      "model-server-metrics-https-insecure-skip-verify",
                                      "destination-endpoint-hint-key",
                                      "destination-endpoint-hint-metadata-namespace"};

tl::unexpected<Error> Usage(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

// A flag that is read and means nothing here.
template <typename T>
void AddIgnored(CLI::App& app, const std::string& flag, const std::string& why) {
  static std::vector<std::unique_ptr<T>> values;
  values.push_back(std::make_unique<T>());
  CLI::Option* option = nullptr;
  if constexpr (std::is_same_v<T, bool>) {
    option = app.add_flag(flag, *values.back(), why);
  } else {
    option = app.add_option(flag, *values.back(), why);
  }
  option->group(kNoEffect);
}

void AddTlsFlags(CLI::App& app, PickerOptions& p) {
  app.add_flag("--secure-serving", p.secure_serving,
               "TLS on the ext_proc port; true unless told otherwise")
      ->default_str("true")
      ->group(kTls);
  app.add_option("--cert-path", p.cert_path,
                 "directory with tls.crt and tls.key; self-signed when not given")
      ->type_name("DIR")
      ->group(kTls);
  app.add_flag("--enable-cert-reload", p.enable_cert_reload,
               "read the certificate again when its files change")
      ->group(kTls);
  app.add_option("--tls-min-version", p.tls_min_version, "VersionTLS12 or VersionTLS13")
      ->default_str("VersionTLS12")
      ->group(kTls);
  app.add_option("--tls-cipher-suites", p.tls_cipher_suites,
                 "Go's names, comma separated; TLS 1.2 only")
      ->group(kTls);
}

void AddEngineMetricFlags(CLI::App& app, ScrapeFlags& s) {
  const auto add = [&](const char* flag, std::string& target, const char* help) {
    app.add_option(flag, target, help)->group(kEngineMetrics);
  };
  add("--total-queued-requests-metric", s.queued_metric, "series of waiting requests");
  add("--total-running-requests-metric", s.running_metric, "series of running requests");
  add("--kv-cache-usage-percentage-metric", s.kv_usage_metric, "series of KV-cache usage, 0 to 1");
  add("--lora-info-metric", s.lora_metric, "series of LoRA adapters");
  add("--cache-info-metric", s.cache_info_metric, "series of the cache's sizes");
  add("--model-server-metrics-path", s.path, "path of the engines' metrics");
  AddPort(app, "--model-server-metrics-port", s.port, "0", "their port; 0 = the engine's own")
      ->group(kEngineMetrics);
}

}  // namespace

void AddZapFlags(CLI::App& app) {
  app.add_option_function<std::string>(
         "--zap-encoder",
         [](const std::string& encoder) {
           SetLogFormat(encoder == "json" ? LogFormat::kJson : LogFormat::kConsole);
         },
         "as --log-format")
      ->check(CLI::IsMember({"json", "console"}))
      ->group(kLog);
  app.add_option_function<std::string>(
         "--zap-log-level",
         [](const std::string& level) {
           static const std::vector<std::pair<std::string, int>> kNames = {
               {"debug", 4}, {"info", 2}, {"error", 0}, {"panic", 0}};
           for (const auto& [name, verbosity] : kNames) {
             if (name == level) return SetLogVerbosity(verbosity);
           }
           const auto number = ParseInt(level);
           if (!number || *number < 1 || *number > 127) {
             throw CLI::ValidationError("--zap-log-level",
                                        fmt::format("\"{}\" is none of debug, info, error, panic "
                                                    "and no number from 1 to 127",
                                                    level));
           }
           SetLogVerbosity(static_cast<int>(*number));
         },
         "debug, info, error, panic or a number; as -v")
      ->group(kLog);
  app.add_flag_function(
         "--zap-devel",
         [](int64_t given) {
           if (given <= 0) return;
           SetLogFormat(LogFormat::kConsole);
           SetLogVerbosity(4);
         },
         "console lines, debug level")
      ->group(kLog);
}

CLI::Option* AddBypassFlag(CLI::App& app, PickerOptions& options) {
  return app
      .add_flag("--bypass-responses", options.bypass_responses,
                "answers go past the picker: cheaper, but it sees neither tokens nor their end")
      ->group(kPicker);
}

void AddPickerFlags(CLI::App& app, EppCommand& c) {
  ServeOptions& o = c.serve.options;
  PickerOptions& p = *o.picker;
  AddPort(app, "--grpc-port", p.grpc_port, "9002", "ext_proc")->group(kPicker);
  AddPort(app, "--grpc-health-port", p.grpc_health_port, "9003", "gRPC health, plaintext")
      ->group(kPicker);
  app.add_option("--grpc-host", p.host, "address of both ports")
      ->default_str("0.0.0.0")
      ->group(kPicker);
  app.add_flag("--health-checking", p.health_checking, "gRPC health on the ext_proc port too")
      ->group(kPicker);
  app.add_flag("--disable-endpoint-subset-filter", p.disable_endpoint_subset_filter,
               "ignore the proxy's subset hint")
      ->group(kPicker);
  app.add_flag("--emit-endpoint-scores", p.emit_endpoint_scores,
               "scores of all endpoints in the dynamic metadata")
      ->group(kPicker);
  AddBypassFlag(app, p);
  app.add_flag("--enable-grpc-stream-metrics", p.enable_grpc_stream_metrics,
               "llm_d_epp_extproc_* metrics")
      ->group(kPicker);
  app.add_option("--grpc-max-recv-msg-size", p.grpc_max_recv_msg_size,
                 "largest ext_proc message; 4Mi when not given")
      ->type_name("SIZE")
      ->group(kPicker);
  AddSize(app, "--max-buffered-bytes", p.max_buffered_bytes, "512MiB",
          "request bodies held at once, all streams together; beyond it 503")
      ->group(kPicker);
  AddDuration(app, "--drain-timeout", o.drain_timeout, "30s",
              "how long SIGTERM leaves proxies time to move away, and requests to end")
      ->group(kPicker);
  app.add_flag("--conformance-test-headers", p.conformance_test_headers,
               "honour the test headers of the Gateway API conformance suite; not for production")
      ->group(kPicker);
  AddTlsFlags(app, p);
  AddClusterFlags(app, c.cluster);
  AddElectionFlags(app, c.cluster);
  AddDuration(
      app, "--refresh-metrics-interval", o.refresh_metrics_interval, "50ms",
      "an engine with traffic is asked for its load no more often than this, nor more than five "
      "times a second: what is sent to it is counted at once. One without traffic is asked at most "
      "every five seconds, and every two whether it is alive")
      ->group("Engines");
  AddDuration(app, "--refresh-prometheus-metrics-interval", o.refresh_prometheus_metrics_interval,
              "5s", "how often the pool's gauges are computed")
      ->group("Observability");
  AddDuration(app, "--metrics-staleness-threshold", o.metrics_staleness_threshold, "2s",
              "figures this much older than planned do not enter the pool's gauges")
      ->group("Observability");
  AddEngineMetricFlags(app, o.scrape);
  AddZapFlags(app);
  app.add_option("--destination-endpoint-hint-key", c.destination_key, "only the default works")
      ->check(CLI::IsMember({kDestinationKey}))
      ->group(kPicker);
  app.add_option("--destination-endpoint-hint-metadata-namespace", c.destination_namespace,
                 "only the default works")
      ->check(CLI::IsMember({kDestinationNamespace}))
      ->group(kPicker);
  AddIgnored<std::string>(app, "--grpc-max-send-msg-size", "messages sent are small");
  AddIgnored<bool>(app, "--enable-pprof", "Go's profiler; there is none here");
  AddIgnored<bool>(app, "--tracing", "spans are not exported; W3C trace headers pass through");
  AddIgnored<std::string>(app, "--zap-stacktrace-level", "errors carry no stack traces");
  AddIgnored<std::string>(app, "--zap-time-encoding", "times are RFC 3339");
  AddIgnored<std::string>(app, "--model-server-metrics-scheme", "an endpoint's own scheme is used");
  AddIgnored<bool>(app, "--model-server-metrics-https-insecure-skip-verify",
                   "certificates of https engines are verified (--engine-ca-file)");
}

Status CheckPickerFlags(EppCommand& c) {
  ServeOptions& o = c.serve.options;
  if (!o.metrics_cert_dir.empty() && o.metrics_client_ca_file.empty() &&
      !c.cluster.metrics_endpoint_auth) {
    return Usage(
        "\"metrics-cert-dir\" enables metrics TLS without authentication; set "
        "\"metrics-client-ca-file\" or \"metrics-endpoint-auth\"");
  }
  o.pool_name = "epp";
  return ApplyClusterFlags(c.cluster, true, o);
}

std::vector<config::CompatibilityRow> PickerFlagRows(const CLI::App& epp) {
  std::vector<config::CompatibilityRow> rows;
  for (const char* name : kLlmdFlags) {
    const CLI::Option* option = epp.get_option_no_throw(std::string("--") + name);
    if (option == nullptr) {
      rows.push_back({name, "missing", ""});
      continue;
    }
    const std::string group = option->get_group();
    const std::string state = group == kNoEffect        ? "accepted, no effect"
                              : group == kEngineMetrics ? "works, deprecated"
                                                        : "works";
    const std::string shown = std::string(name) == "verbosity" ? "v" : name;
    rows.push_back({shown, state, option->get_description()});
  }
  return rows;
}

}  // namespace warmpath::app
