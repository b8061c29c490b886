#include "app/go_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <string_view>

namespace warmpath::app {
namespace {

std::string Key(std::string_view name) {
  std::string key;
  for (const char c : name) {
    if (c != '-' && c != '_') key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return key;
}

std::optional<bool> GoBool(std::string_view text) {
  static constexpr std::array<std::string_view, 6> kTrue = {"1", "t", "T", "true", "TRUE", "True"};
  static constexpr std::array<std::string_view, 6> kFalse = {"0",     "f",     "F",
                                                             "false", "FALSE", "False"};
  if (std::find(kTrue.begin(), kTrue.end(), text) != kTrue.end()) return true;
  if (std::find(kFalse.begin(), kFalse.end(), text) != kFalse.end()) return false;
  return std::nullopt;
}

// Without dashes; `argument` begins with one.
std::string_view NameAndValue(std::string_view argument) {
  return argument.substr(argument.starts_with("--") ? 2 : 1);
}

tl::unexpected<Error> Wrong(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

}  // namespace

Result<std::vector<std::string>> NormalizeGoFlags(const std::vector<std::string>& arguments,
                                                  const std::vector<GoFlag>& flags) {
  std::map<std::string, const GoFlag*> known;
  for (const GoFlag& flag : flags) {
    known.emplace(Key(flag.name), &flag);
    for (const std::string& alias : flag.aliases) known.emplace(Key(alias), &flag);
  }

  std::vector<std::string> out;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "-h" || argument == "--help" || argument == "-help") {
      out.insert(out.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
      return out;
    }
    if (!argument.starts_with('-') || argument == "-" || argument == "--") {
      return Wrong(fmt::format("\"{}\" is no flag; flags begin with - or --", argument));
    }
    const std::string_view text = NameAndValue(argument);
    const size_t equals = text.find('=');
    const auto found = known.find(Key(text.substr(0, equals)));
    if (found == known.end()) {
      out.push_back(argument);
      // What follows is its value: the flag library's error is to be about the flag.
      const bool value_follows = equals == std::string_view::npos && i + 1 < arguments.size() &&
                                 !arguments[i + 1].starts_with('-');
      if (value_follows) out.push_back(arguments[++i]);
      continue;
    }
    const GoFlag& flag = *found->second;
    std::string value;
    if (equals != std::string_view::npos) {
      value = text.substr(equals + 1);
    } else if (flag.boolean) {
      value = "true";
    } else if (++i < arguments.size()) {
      value = arguments[i];
    } else {
      return Wrong(fmt::format("flag needs an argument: --{}", flag.name));
    }
    if (flag.boolean) {
      const auto parsed = GoBool(value);
      if (!parsed) {
        return Wrong(
            fmt::format("--{}: invalid boolean value \"{}\"; true or false", flag.name, value));
      }
      value = *parsed ? "true" : "false";
    }
    out.push_back(fmt::format("--{}={}", flag.name, value));
  }
  return out;
}

std::string ImpliedCommand(const std::vector<std::string>& arguments) {
  static constexpr std::array<std::string_view, 6> kPicker = {"poolname",         "poolnamespace",
                                                              "endpointselector", "configfile",
                                                              "configtext",       "grpchealthport"};
  static constexpr std::array<std::string_view, 6> kSidecar = {
      "port", "vllmport", "modelserverport", "connector", "kvconnector", "secureproxy"};
  if (arguments.empty() || !arguments.front().starts_with('-')) return "";
  for (const std::string& argument : arguments) {
    if (!argument.starts_with('-')) continue;
    const std::string_view text = NameAndValue(argument);
    const std::string key = Key(text.substr(0, text.find('=')));
    if (std::find(kPicker.begin(), kPicker.end(), key) != kPicker.end()) return "epp";
    if (std::find(kSidecar.begin(), kSidecar.end(), key) != kSidecar.end()) return "sidecar";
  }
  return "";
}

}  // namespace warmpath::app
