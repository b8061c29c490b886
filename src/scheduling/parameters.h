// Plugin parameters: what a type accepts, as data, so that every unknown name and wrong type is
// refused with its path, and readers of checked parameters. Pure functions, thread-safe.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "codec/json.h"

namespace warmpath::scheduling {

struct ParameterSchema {
  enum class Kind {
    kBool,
    kInteger,
    kNumber,
    kString,
    kDuration,   // nanoseconds as an integer, or Go's syntax as a string
    kSize,       // bytes as an integer, or a quantity as a string
    kList,       // of `members[0]`
    kObject,     // with `members` and no others
    kStringMap,  // any names, string values
    kAny,        // not looked into
    kRefused,    // known, and not possible: `help` says what to do instead
  };

  std::string name;
  Kind kind = Kind::kAny;
  std::vector<ParameterSchema> members;
  double min = -std::numeric_limits<double>::infinity();  // numbers only, inclusive
  double max = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices;  // strings only; empty: any
  bool required = false;
  std::string help;
};
using ParameterList = std::vector<ParameterSchema>;

// Short forms for tables of parameters.
ParameterSchema Bool(std::string name);
ParameterSchema Integer(std::string name, double min = std::numeric_limits<double>::lowest());
ParameterSchema Number(std::string name, double min = std::numeric_limits<double>::lowest(),
                       double max = std::numeric_limits<double>::max());
ParameterSchema String(std::string name, std::vector<std::string> choices = {});
ParameterSchema DurationOf(std::string name);
ParameterSchema SizeOf(std::string name);
ParameterSchema List(std::string name, ParameterSchema element);
ParameterSchema Object(std::string name, ParameterList members);
ParameterSchema StringMap(std::string name);
ParameterSchema Any(std::string name);
ParameterSchema Refused(std::string name, std::string help);
ParameterSchema Required(ParameterSchema schema);

struct ParameterError {
  std::vector<std::string> path;  // member names; "[2]" for a list element
  std::string message;            // what is wrong and what is allowed
  std::string PathText() const;   // a.b[2].c
};

// The first violation, if any. null counts as absent.
std::optional<ParameterError> CheckParameters(const ParameterList& schema,
                                              const codec::Json& value);

// Readers of parameters that were checked; `path` is dotted
// ("indexerConfig.kvBlockIndexConfig.enableMetrics").
const codec::Json* Parameter(const codec::Json& parameters, std::string_view path);
std::string StringParameter(const codec::Json& parameters, std::string_view path,
                            std::string fallback);
double NumberParameter(const codec::Json& parameters, std::string_view path, double fallback);
bool BoolParameter(const codec::Json& parameters, std::string_view path, bool fallback);
std::optional<Duration> DurationParameter(const codec::Json& parameters, std::string_view path);

}  // namespace warmpath::scheduling
