#include "app/cli.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include "app/cli_flags.h"
#include "app/commands.h"
#include "app/demo.h"
#include "app/epp_flags.h"
#include "app/go_flags.h"
#include "app/process.h"

namespace warmpath::app {
namespace {

// Every flag can come from WARMPATH_<FLAG_WITH_UNDERSCORES>.
void AddEnvironment(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    std::string name;
    for (const std::string& long_name : option->get_lnames()) {
      if (name.empty() && !long_name.starts_with("help") && long_name != "version")
        name = long_name;
    }
    if (name.empty()) continue;
    std::string variable = "WARMPATH_";
    for (const char c : name) variable += c == '-' ? '_' : static_cast<char>(std::toupper(c));
    option->envname(variable);
  }
  for (CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    AddEnvironment(*sub);
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
  static bool allow_experimental = false;
  check.add_flag("--allow-experimental-plugins", allow_experimental,
                 "accept plugins of llm-d's stability level Alpha");
  AddCommon(check);
  check.callback([&action] { action = [] { return RunConfigCheck(files, allow_experimental); }; });
  CLI::App& compatibility = *app.add_subcommand(
      "compatibility", "every plugin, flag and metric of llm-d's and its state here, as Markdown");
  compatibility.callback([&action, &root] {
    action = [&root] { return RunCompatibility(PickerFlagRows(*root.get_subcommand("epp"))); };
  });
}

int UsageError(std::string_view command, std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  fmt::print(stderr, "{}: {} (see {} --help)\n", command, message, command);
  return kExitUsage;
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
  return UsageError(name, std::move(message));
}

}  // namespace

int RunCli(int argc, char** argv) {
  BlockStopSignals();
  RaiseOpenFilesLimit();
  CLI::App root("Routes LLM requests to the engine whose KV cache is warm for them.", "warmpath");
  root.set_version_flag("--version", VersionLine());
  root.require_subcommand(1);
  root.set_help_all_flag("--help-all", "help of every command");
  Action action;
  AddServe(root, action);
  AddEpp(root, action);
  AddDemo(root, action);
  AddSim(root, action);
  AddSidecar(root, action);
  AddBench(root, action);
  AddClientCommands(root, action);
  AddConfig(root, action);
  AddEnvironment(root);
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (const std::string implied = ImpliedCommand(arguments); !implied.empty())
    arguments.insert(arguments.begin(), implied);
  const std::string command = arguments.empty() ? "" : arguments.front();
  if (command == "epp" || command == "sidecar") {
    const auto normalize = command == "epp" ? NormalizeEppArguments : NormalizeSidecarArguments;
    auto normalized = normalize(root, {arguments.begin() + 1, arguments.end()});
    if (!normalized) return UsageError("warmpath " + command, normalized.error().message);
    arguments = std::move(*normalized);
    arguments.insert(arguments.begin(), command);
  }
  try {
    std::reverse(arguments.begin(), arguments.end());  // the order CLI11's vector overload reads
    root.parse(arguments);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return root.exit(error);
    return UsageError(root, error, argc > 1 ? argv[1] : nullptr);
  }
  return action();
}

}  // namespace warmpath::app
