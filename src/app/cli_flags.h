// Pieces of the command line that several subcommands share. Included only by the cli*.cc files:
// CLI11 is slow to compile.
#pragma once

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <functional>
#include <string>
#include <vector>

#include "app/go_flags.h"
#include "base/log.h"
#include "base/units.h"

namespace warmpath::app {

// What to run once the command line is read; returns the exit code.
using Action = std::function<int()>;

// Each adds its subcommand to `root` and, when it is the one chosen, sets `action`.
void AddServe(CLI::App& root, Action& action);
void AddEpp(CLI::App& root, Action& action);
void AddSim(CLI::App& root, Action& action);
void AddSidecar(CLI::App& root, Action& action);
void AddBench(CLI::App& root, Action& action);

// The flags of a command whose arguments are written for Go's flag packages. The first of an
// option's long names is the flag, the others are aliases.
std::vector<GoFlag> GoFlagsOf(const CLI::App& command);
// The arguments after "epp" or "sidecar", in the one spelling their flags are declared in.
Result<std::vector<std::string>> NormalizeEppArguments(const CLI::App& root,
                                                       const std::vector<std::string>& arguments);
Result<std::vector<std::string>> NormalizeSidecarArguments(
    const CLI::App& root, const std::vector<std::string>& arguments);

// A flag whose text `parse` turns into a value; its error becomes the usage error, naming the flag.
template <typename T, typename Parse>
CLI::Option* AddParsed(CLI::App& app, const std::string& flag, T& target, Parse parse,
                       const std::string& type, const std::string& fallback,
                       const std::string& help) {
  auto* option = app.add_option_function<std::string>(
      flag,
      [flag, &target, parse](const std::string& text) {
        auto value = parse(text);
        if (!value) throw CLI::ValidationError(flag, value.error().message);
        target = static_cast<T>(*value);
      },
      help);
  option->type_name(type);
  if (!fallback.empty()) option->default_str(fallback);
  return option;
}

// Flags take no time that runs backwards.
inline Result<Duration> ParseFlagDuration(std::string_view text) {
  WP_TRY(const Duration duration, ParseDuration(text));
  if (duration >= Duration(0)) return duration;
  return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is less than 0", text));
}

template <typename T>
CLI::Option* AddDuration(CLI::App& app, const std::string& flag, T& target,
                         const std::string& fallback, const std::string& help) {
  return AddParsed(app, flag, target, ParseFlagDuration, "DURATION", fallback, help);
}

inline CLI::Option* AddSize(CLI::App& app, const std::string& flag, uint64_t& target,
                            const std::string& fallback, const std::string& help) {
  return AddParsed(
      app, flag, target,
      [](std::string_view text) -> Result<uint64_t> {
        WP_TRY(const uint64_t size, ParseSize(text));
        if (size > 0) return size;
        return Fail(Code::kInvalidArgument, fmt::format("\"{}\" must be more than 0", text));
      },
      "SIZE", fallback, help);
}

inline CLI::Option* AddPort(CLI::App& app, const std::string& flag, uint16_t& target,
                            const std::string& fallback, const std::string& help) {
  return AddParsed(
      app, flag, target,
      [](std::string_view text) -> Result<int64_t> {
        const auto port = ParseInt(text);
        if (port && *port >= 0 && *port <= 65535) return *port;
        return Fail(Code::kInvalidArgument,
                    fmt::format("\"{}\" is not a port (0 to 65535; 0 picks a free one)", text));
      },
      "PORT", fallback, help);
}

// Flags of every subcommand. Verbosities above 5 act as 5.
inline void AddCommon(CLI::App& app, int max_verbosity = 5) {
  const std::string group = "Logging";
  app.add_option_function<int>(
         "-v,--verbosity", [](const int& level) { SetLogVerbosity(level); },
         "0 errors, 1 warnings, 2 info, 3 verbose, 4 debug (\"Got pod scores\"), 5 trace")
      ->check(CLI::Range(0, max_verbosity))
      ->type_name("0..5")
      ->default_str("2")
      ->group(group);
  app.add_option_function<std::string>(
         "--log-format",
         [](const std::string& format) {
           SetLogFormat(format == "json" ? LogFormat::kJson : LogFormat::kConsole);
         },
         "how log lines look")
      ->check(CLI::IsMember({"console", "json"}))
      ->default_str("console")
      ->group(group);
}

inline void AddReadyFile(CLI::App& app, std::string& ready_file) {
  app.add_option("--ready-file", ready_file,
                 "once every listener is bound, write their addresses here as JSON")
      ->type_name("FILE")
      ->group("Process");
}

}  // namespace warmpath::app
