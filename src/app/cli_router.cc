// The command line of the routers: serve (gateway) and epp (Envoy's endpoint picker).
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "app/cli_flags.h"
#include "app/cluster_flags.h"
#include "app/commands.h"
#include "app/epp_flags.h"
#include "app/go_flags.h"

namespace warmpath::app {
namespace {

// A repeatable flag given by the environment holds its values separated by white space.
void SplitOnSpaces(std::vector<std::string>& values) {
  std::vector<std::string> out;
  for (const std::string& value : values) {
    for (const std::string_view part : Split(value, ' ')) {
      if (!Trim(part).empty()) out.emplace_back(Trim(part));
    }
  }
  values = std::move(out);
}

void AddEngineFlags(CLI::App& app, ServeOptions& o) {
  const std::string group = "Engines";
  app.add_option("--endpoint", o.endpoints,
                 "an engine, repeatable: "
                 "http://host:8000[,events=tcp://host:5557][,replay=tcp://host:5657][,dp=N]"
                 "[,name=NAME][,label.KEY=VALUE]; events=none for an engine without events")
      ->type_name("URL[,key=value...]")
      ->group(group);
  app.add_option("--endpoints-file", o.endpoints_file,
                 "engines from a file (llm-d's file-discovery format), watched; a bad file keeps "
                 "the last good set")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--model", o.model,
                 "served model; learned from the engines' /v1/models when not given")
      ->group(group);
  app.add_option(
         "--tokenizer", o.tokenizer,
         "where tokenizer.json and tokenizer_config.json are: a directory, or a model's "
         "name, looked for in the Hugging Face cache and on the hub (HF_TOKEN, HF_ENDPOINT, "
         "HF_HUB_OFFLINE, HF_HOME); by the served model's name when not given")
      ->type_name("DIR|NAME")
      ->group(group);
  app.add_option("--engine-api-key-file", o.engine_api_key_file,
                 "key sent to engines where the client sends none")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--engine-ca-file", o.engine_ca_file,
                 "certificate authority of https engines; the system's when not given")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--max-scrapes-per-second", o.max_scrapes_per_second,
                 "engines asked for their load in any second, all together; 0 = no bound")
      ->default_str("500")
      ->check(CLI::Range(0, 1'000'000))
      ->group(group);
  app.add_option("--kv-events-bind", o.kv_events_bind,
                 "bind here for KV events and let the engines connect, for example tcp://*:5557")
      ->type_name("ADDRESS")
      ->group(group);
}

void AddRoutingFlags(CLI::App& app, ServeOptions& o, const std::string& without_config) {
  const std::string group = "Routing";
  app.add_option("--config-file", o.config_file,
                 "EndpointPickerConfig (YAML); without one " + without_config)
      ->type_name("FILE")
      ->group(group);
  app.add_option("--config-text", o.config_text, "the same as text")
      ->type_name("YAML")
      ->group(group);
  app.add_option("--policy-file", o.policy_file,
                 "InferenceObjective and InferenceModelRewrite objects (YAML), watched; a bad file "
                 "keeps the last good set")
      ->type_name("FILE")
      ->group(group);
  app.add_flag("--allow-experimental-plugins", o.allow_experimental_plugins,
               "accept plugins of llm-d's stability level Alpha")
      ->group(group);
  AddSize(app, "--index-memory", o.index_memory_bytes, "1GiB", "hard budget of the KV-block index")
      ->group(group);
  AddSize(app, "--max-request-body", o.max_request_body, "64MiB",
          "larger bodies are refused with 413")
      ->group(group);
  AddDuration(app, "--decision-timeout", o.decision_timeout, "1s",
              "a request whose tokens take longer is routed by load, and counted")
      ->group(group);
}

void AddObservabilityFlags(CLI::App& app, ServeOptions& o, const std::string& host) {
  const std::string group = "Observability";
  AddPort(app, "--metrics-port", o.metrics_port, "9090",
          "/metrics, /healthz, /readyz, /api/v1 and the dashboard; 0 picks a free one")
      ->group(group);
  app.add_option("--metrics-host", o.metrics_host, "address of the metrics port")
      ->default_str(host)
      ->group(group);
  app.add_option("--metrics-cert-dir", o.metrics_cert_dir,
                 "directory with tls.crt and tls.key: TLS on the metrics port")
      ->type_name("DIR")
      ->group(group);
  app.add_option("--metrics-client-ca-file", o.metrics_client_ca_file,
                 "clients of the metrics port must present a certificate this authority signed")
      ->type_name("FILE")
      ->group(group);
  app.add_flag("--deprecated-metric-names", o.deprecated_metric_names,
               "emit llm-d's old names beside today's (inference_objective_*, inference_pool_*, "
               "inference_extension_*)")
      ->group(group);
  AddParsed(app, "--metrics-beat-interval", o.metrics_beat_interval, ParseFlagDuration, "DURATION",
            "60s", "how often \"metrics beat\" is logged; 0 = never")
      ->group(group);
}

void AddProcessFlags(CLI::App& app, ServeCommand& command) {
  app.add_option("--threads", command.options.threads, "request threads; 0 = one per core")
      ->check(CLI::Range(0, 256))
      ->group("Process");
  AddReadyFile(app, command.ready_file);
}

}  // namespace

void AddServe(CLI::App& root, Action& action) {
  static ServeCommand command;
  static uint16_t grpc_port = 0;
  static PickerOptions picker;
  static ClusterFlags cluster;
  cluster.metrics_endpoint_auth = false;  // the metrics port is the loopback's
  ServeOptions& o = command.options;
  CLI::App& app = *root.add_subcommand(
      "serve", "route requests to engines: an OpenAI-compatible HTTP front door");
  AddEngineFlags(app, o);
  app.add_option("--listen", o.listen, "gateway address, repeatable; port 0 picks a free one")
      ->type_name("HOST:PORT")
      ->default_str("127.0.0.1:8080")
      ->group("Gateway");
  app.add_flag("--expose-decision", o.expose_decision,
               "answers carry x-warmpath-endpoint and x-warmpath-cached-tokens (predicted)")
      ->group("Gateway");
  AddDuration(app, "--drain-timeout", o.drain_timeout, "30s",
              "how long a stop waits for requests under way")
      ->group("Gateway");
  CLI::Option* grpc =
      AddPort(app, "--grpc-port", grpc_port, "", "serve Envoy's ext_proc here too (plaintext)");
  grpc->group("Endpoint picker");
  CLI::Option* health = AddPort(app, "--grpc-health-port", picker.grpc_health_port, "9003",
                                "gRPC health, with --grpc-port");
  health->group("Endpoint picker")->needs(grpc);
  AddBypassFlag(app, picker)->needs(grpc);
  AddClusterFlags(app, cluster);
  AddRoutingFlags(app, o, "requests go by expected cost");
  AddObservabilityFlags(app, o, "127.0.0.1");
  AddProcessFlags(app, command);
  AddCommon(app);
  app.callback([&action, grpc] {
    SplitOnSpaces(command.options.endpoints);
    SplitOnSpaces(command.options.listen);
    if (!grpc->empty()) {
      picker.host = "127.0.0.1";
      picker.grpc_port = grpc_port;
      picker.secure_serving = false;
      command.options.picker = picker;
    }
    action = [] { return RunServe(command, cluster); };
  });
}

void AddEpp(CLI::App& root, Action& action) {
  static EppCommand command;
  ServeOptions& o = command.serve.options;
  o.listen.clear();
  o.picker.emplace();
  o.llm_d_defaults = true;
  o.metrics_host = "0.0.0.0";
  o.refresh_metrics_interval = std::chrono::milliseconds(50);
  CLI::App& app = *root.add_subcommand(
      "epp", "pick endpoints for Envoy (ext_proc): llm-d's endpoint picker, flag by flag");
  AddPickerFlags(app, command);
  AddEngineFlags(app, o);
  AddRoutingFlags(app, o, "requests go by llm-d's built-in default");
  AddObservabilityFlags(app, o, "0.0.0.0");
  AddProcessFlags(app, command.serve);
  AddCommon(app, 127);
  // Go's flag packages let the last of several count.
  for (CLI::Option* option : app.get_options()) {
    if (option->get_expected_max() == 1) option->take_last();
  }
  app.callback([&action] {
    SplitOnSpaces(command.serve.options.endpoints);
    action = [] { return RunEpp(command); };
  });
}

std::vector<GoFlag> GoFlagsOf(const CLI::App& command) {
  std::vector<GoFlag> flags;
  for (const CLI::Option* option : command.get_options()) {
    const auto& names = option->get_lnames();
    if (names.empty() || names.front().starts_with("help")) continue;
    GoFlag flag{
        names.front(), option->get_items_expected_max() == 0, {names.begin() + 1, names.end()}};
    if (flag.name == "verbosity") flag.aliases.push_back("v");
    flags.push_back(std::move(flag));
  }
  return flags;
}

Result<std::vector<std::string>> NormalizeEppArguments(const CLI::App& root,
                                                       const std::vector<std::string>& arguments) {
  return NormalizeGoFlags(arguments, GoFlagsOf(*root.get_subcommand("epp")));
}

}  // namespace warmpath::app
