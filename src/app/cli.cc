#include "app/cli.h"

#include <fmt/format.h>

#include <cctype>
#include <string>
#include <vector>

#include "app/cli_flags.h"
#include "app/commands.h"
#include "app/demo.h"
#include "app/process.h"

namespace warmpath::app {
namespace {

// Every flag can come from WARMPATH_<FLAG_WITH_UNDERSCORES>.
void AddEnvironment(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    std::string name;
    for (const std::string& long_name : option->get_lnames()) {
      if (!long_name.starts_with("help") && long_name != "version") name = long_name;
    }
    if (name.empty()) continue;
    std::string variable = "WARMPATH_";
    for (const char c : name) variable += c == '-' ? '_' : static_cast<char>(std::toupper(c));
    option->envname(variable);
  }
  for (CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    AddEnvironment(*sub);
}

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

void AddServe(CLI::App& root, Action& action) {
  static ServeCommand command;
  ServeOptions& o = command.options;
  CLI::App& app = *root.add_subcommand(
      "serve", "route requests to engines: an OpenAI-compatible HTTP front door");
  app.add_option("--endpoint", o.endpoints,
                 "an engine, repeatable: "
                 "http://host:8000[,events=tcp://host:5557][,replay=tcp://host:5657][,dp=N]"
                 "[,name=NAME][,label.KEY=VALUE]; events=none for an engine without events")
      ->type_name("URL[,key=value...]")
      ->group("Engines");
  app.add_option("--model", o.model,
                 "served model; learned from the engines' /v1/models when not given")
      ->group("Engines");
  app.add_option("--tokenizer", o.tokenizer,
                 "where tokenizer.json and tokenizer_config.json are: a directory, or a name in "
                 "the Hugging Face "
                 "cache; found by the model's name when not given")
      ->type_name("DIR|NAME")
      ->group("Engines");
  app.add_option("--engine-api-key-file", o.engine_api_key_file,
                 "key sent to engines where the client sends none")
      ->type_name("FILE")
      ->group("Engines");
  app.add_option("--kv-events-bind", o.kv_events_bind,
                 "bind here for KV events and let the engines connect, for example tcp://*:5557")
      ->type_name("ADDRESS")
      ->group("Engines");
  app.add_option("--listen", o.listen, "gateway address, repeatable; port 0 picks a free one")
      ->type_name("HOST:PORT")
      ->default_str("127.0.0.1:8080")
      ->group("Gateway");
  AddSize(app, "--max-request-body", o.max_request_body, "64MiB",
          "larger bodies are refused with 413")
      ->group("Gateway");
  AddDuration(app, "--decision-timeout", o.decision_timeout, "1s",
              "a request whose tokens take longer is routed by load, and counted")
      ->group("Gateway");
  app.add_flag("--expose-decision", o.expose_decision,
               "answers carry x-warmpath-endpoint and x-warmpath-cached-tokens (predicted)")
      ->group("Gateway");
  AddDuration(app, "--drain-timeout", o.drain_timeout, "30s",
              "how long a stop waits for requests under way")
      ->group("Gateway");
  app.add_option("--config-file", o.config_file,
                 "EndpointPickerConfig (YAML); without one requests go by expected cost")
      ->type_name("FILE")
      ->group("Routing");
  app.add_option("--config-text", o.config_text, "the same as text")
      ->type_name("YAML")
      ->group("Routing");
  AddSize(app, "--index-memory", o.index_memory_bytes, "1GiB", "hard budget of the KV-block index")
      ->group("Routing");
  app.add_option("--threads", o.threads, "gateway threads; 0 = one per core")
      ->check(CLI::Range(0, 256))
      ->group("Process");
  AddPort(app, "--metrics-port", o.metrics_port, "9090",
          "/metrics, /healthz, /readyz, /api/v1 and the dashboard; 0 picks a free one")
      ->group("Observability");
  app.add_option("--metrics-host", o.metrics_host, "address of the metrics port")
      ->default_str("127.0.0.1")
      ->group("Observability");
  AddParsed(app, "--metrics-beat-interval", o.metrics_beat_interval, ParseFlagDuration, "DURATION",
            "60s", "how often \"metrics beat\" is logged; 0 = never")
      ->group("Observability");
  AddReadyFile(app, command.ready_file);
  AddCommon(app);
  app.callback([&action] {
    SplitOnSpaces(command.options.endpoints);
    SplitOnSpaces(command.options.listen);
    action = [] { return RunServe(command); };
  });
}

void AddDemo(CLI::App& root, Action& action) {
  static DemoOptions options;
  CLI::App& app = *root.add_subcommand(
      "demo", "simulated engines, the guide's request twice, then precise against round robin");
  app.add_option("--tokenizer", options.tokenizer, "directory of the Qwen3 tokenizer")
      ->type_name("DIR");
  app.add_flag("--hold", options.hold,
               "keep everything running until Ctrl-C, to look at the dashboard");
  AddCommon(app);
  app.callback([&action] { action = [] { return RunDemo(options); }; });
}

void AddClientOptions(CLI::App& app, ClientCommand& command) {
  app.add_option("--server", command.server, "metrics address of the router")
      ->default_str("http://127.0.0.1:9090")
      ->type_name("URL");
  app.add_flag("--json", command.json, "print the API's answer as it is");
  AddCommon(app);
}

void AddClientCommands(CLI::App& root, Action& action) {
  static ClientCommand endpoints, explain, tokenize;
  for (ClientCommand* command : {&endpoints, &explain, &tokenize})
    command->server = "http://127.0.0.1:9090";

  CLI::App& endpoints_app =
      *root.add_subcommand("endpoints", "the live fleet: what each engine holds, sends and serves");
  AddClientOptions(endpoints_app, endpoints);
  endpoints_app.add_flag("--watch", endpoints.follow, "print again every second until Ctrl-C");
  endpoints_app.callback([&action] { action = [] { return RunEndpoints(endpoints); }; });

  CLI::App& explain_app =
      *root.add_subcommand("explain", "why a request went where it went, or where it would go");
  CLI::Option* id =
      explain_app.add_option("ID", explain.request_id, "x-request-id of a request served");
  explain_app
      .add_option("--body", explain.body_file,
                  "an OpenAI request body to explain; - reads standard input")
      ->type_name("FILE")
      ->excludes(id);
  explain_app.add_option("--path", explain.path, "the path the body would be sent to")
      ->default_str(explain.path);
  AddClientOptions(explain_app, explain);
  explain_app.callback([&action] {
    if (explain.request_id.empty() && explain.body_file.empty())
      throw CLI::RequiredError("ID or --body FILE");
    action = [] { return RunExplain(explain); };
  });

  CLI::App& tokenize_app =
      *root.add_subcommand("tokenize", "the exact tokens of a text or request body");
  CLI::Option* text =
      tokenize_app.add_option("TEXT", tokenize.text, "text to tokenize as a completions prompt");
  tokenize_app.add_option("--body", tokenize.body_file, "a request body; - reads standard input")
      ->type_name("FILE")
      ->excludes(text);
  tokenize_app.add_option("--path", tokenize.path, "the path the body would be sent to")
      ->default_str(tokenize.path);
  tokenize_app
      .add_option("--tokenizer", tokenize.tokenizer,
                  "use this tokenizer here instead of asking a router")
      ->type_name("DIR|NAME");
  AddClientOptions(tokenize_app, tokenize);
  tokenize_app.callback([&action] {
    if (tokenize.text.empty() && tokenize.body_file.empty())
      throw CLI::RequiredError("TEXT or --body FILE");
    action = [] { return RunTokenize(tokenize); };
  });
}

void AddConfig(CLI::App& root, Action& action) {
  static std::vector<std::string> files;
  CLI::App& app = *root.add_subcommand("config", "work with EndpointPickerConfig files");
  app.require_subcommand(1);
  CLI::App& check = *app.add_subcommand(
      "check", "validate files; exit 2 and file:line: on the first error of each");
  check.add_option("FILE", files, "configuration files")->required();
  AddCommon(check);
  check.callback([&action] { action = [] { return RunConfigCheck(files); }; });
}

// One line that names the flag, the value and what is allowed.
int UsageError(const CLI::App& root, const CLI::ParseError& error, const char* first_word) {
  std::string name = "warmpath";
  const CLI::App* at = &root;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    name += " " + at->get_name();
  }
  std::string message = error.what();
  if (at == &root && first_word != nullptr && *first_word != '-') {
    message = fmt::format("\"{}\" is not a command; commands are", first_word);
    for (const CLI::App* command : root.get_subcommands([](const CLI::App*) { return true; })) {
      message += " " + command->get_name();
    }
  }
  for (char& c : message) {
    if (c == '\n') c = ' ';
  }
  fmt::print(stderr, "{}: {} (see {} --help)\n", name, message, name);
  return kExitUsage;
}

}  // namespace

int RunCli(int argc, char** argv) {
  BlockStopSignals();
  CLI::App root("Routes LLM requests to the engine whose KV cache is warm for them.", "warmpath");
  root.set_version_flag("--version", VersionLine());
  root.require_subcommand(1);
  root.set_help_all_flag("--help-all", "help of every command");
  Action action;
  AddServe(root, action);
  AddDemo(root, action);
  AddSim(root, action);
  AddBench(root, action);
  AddClientCommands(root, action);
  AddConfig(root, action);
  AddEnvironment(root);
  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return root.exit(error);
    return UsageError(root, error, argc > 1 ? argv[1] : nullptr);
  }
  return action();
}

}  // namespace warmpath::app
