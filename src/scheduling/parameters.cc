#include "scheduling/parameters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "base/units.h"

namespace warmpath::scheduling {
namespace {

using Kind = ParameterSchema::Kind;

ParameterSchema Make(std::string name, Kind kind) {
  ParameterSchema schema;
  schema.name = std::move(name);
  schema.kind = kind;
  return schema;
}

std::optional<double> NumberOf(const codec::Json& value) {
  if (value.is_int64()) return static_cast<double>(value.get_int64());
  if (value.is_uint64()) return static_cast<double>(value.get_uint64());
  if (value.is_double()) return value.get_double();
  return std::nullopt;
}

std::string_view TextOf(const codec::Json& value) {
  const auto& text = value.get_string();
  return {text.data(), text.size()};
}

// What `value` should have been; "" when it is right. Members are checked by the caller.
std::string Wrong(const ParameterSchema& schema, const codec::Json& value) {
  switch (schema.kind) {
    case Kind::kBool:
      return value.is_bool() ? "" : "must be true or false";
    case Kind::kInteger:
    case Kind::kNumber: {
      const bool whole = schema.kind == Kind::kInteger;
      const auto number = NumberOf(value);
      if (!number || !std::isfinite(*number) || (whole && *number != std::floor(*number))) {
        return whole ? "must be a whole number" : "must be a number";
      }
      if (*number >= schema.min && *number <= schema.max) return "";
      if (schema.max >= std::numeric_limits<double>::max()) {
        return fmt::format("must be at least {}", schema.min);
      }
      return fmt::format("must be between {} and {}", schema.min, schema.max);
    }
    case Kind::kString:
      if (!value.is_string())
        return NumberOf(value) ? "must be a string: put it in quotes" : "must be a string";
      for (const std::string& choice : schema.choices) {
        if (choice == TextOf(value)) return "";
      }
      if (schema.choices.empty()) return "";
      return fmt::format("'{}' is unknown; allowed: {}", TextOf(value),
                         fmt::join(schema.choices, ", "));
    case Kind::kDuration:
      if (value.is_int64() && value.get_int64() >= 0) return "";
      if (value.is_string() && ParseDuration(TextOf(value))) return "";
      return "must be a duration: nanoseconds as a whole number, or a string such as \"60s\"";
    case Kind::kSize:
      if (value.is_int64() && value.get_int64() >= 0) return "";
      if (value.is_string() && ParseSize(TextOf(value))) return "";
      return "must be a size: bytes as a whole number, or a string such as \"2GiB\"";
    case Kind::kList:
      return value.is_array() ? "" : "must be a list";
    case Kind::kObject:
      return value.is_object() ? "" : "must be a map";
    case Kind::kStringMap:
      if (!value.is_object()) return "must be a map";
      for (const auto& [key, member] : value.get_object()) {
        if (!member.is_string()) return fmt::format("'{}' must be a string", std::string_view(key));
      }
      return "";
    case Kind::kAny:
      return "";
    case Kind::kRefused:
      return schema.help;
  }
  return "";
}

std::optional<ParameterError> Check(const ParameterSchema& schema, const codec::Json& value,
                                    std::vector<std::string>& path) {
  if (value.is_null() && schema.kind != Kind::kRefused) return std::nullopt;
  if (std::string wrong = Wrong(schema, value); !wrong.empty())
    return ParameterError{path, std::move(wrong)};
  if (schema.kind == Kind::kList) {
    const codec::JsonArray& items = value.get_array();
    for (size_t i = 0; i < items.size(); ++i) {
      path.push_back(fmt::format("[{}]", i));
      if (items[i].is_null()) return ParameterError{path, "is empty"};
      if (auto error = Check(schema.members.front(), items[i], path)) return error;
      path.pop_back();
    }
  }
  if (schema.kind != Kind::kObject) return std::nullopt;
  const codec::JsonObject& object = value.get_object();
  for (const auto& [key, member] : object) {
    const std::string_view name(key.data(), key.size());
    const ParameterSchema* found = nullptr;
    for (const ParameterSchema& candidate : schema.members) {
      if (candidate.name == name) found = &candidate;
    }
    path.emplace_back(name);
    if (found == nullptr) {
      std::vector<std::string_view> names;
      for (const ParameterSchema& m : schema.members) {
        if (m.kind != Kind::kRefused) names.push_back(m.name);
      }
      return ParameterError{path, names.empty() ? "unknown parameter; none are allowed here"
                                                : fmt::format("unknown parameter; allowed: {}",
                                                              fmt::join(names, ", "))};
    }
    if (auto error = Check(*found, member, path)) return error;
    path.pop_back();
  }
  for (const ParameterSchema& member : schema.members) {
    if (!member.required) continue;
    const auto it = object.find(member.name);
    if (it == object.end() || it->value().is_null()) {
      path.push_back(member.name);
      return ParameterError{path, "is missing"};
    }
  }
  return std::nullopt;
}

}  // namespace

ParameterSchema Bool(std::string name) {
  return Make(std::move(name), Kind::kBool);
}
ParameterSchema Integer(std::string name, double min) {
  ParameterSchema schema = Make(std::move(name), Kind::kInteger);
  schema.min = min;
  schema.max = std::numeric_limits<double>::max();
  return schema;
}
ParameterSchema Number(std::string name, double min, double max) {
  ParameterSchema schema = Make(std::move(name), Kind::kNumber);
  schema.min = min;
  schema.max = max;
  return schema;
}
ParameterSchema String(std::string name, std::vector<std::string> choices) {
  ParameterSchema schema = Make(std::move(name), Kind::kString);
  schema.choices = std::move(choices);
  return schema;
}
ParameterSchema DurationOf(std::string name) {
  return Make(std::move(name), Kind::kDuration);
}
ParameterSchema SizeOf(std::string name) {
  return Make(std::move(name), Kind::kSize);
}
ParameterSchema List(std::string name, ParameterSchema element) {
  ParameterSchema schema = Make(std::move(name), Kind::kList);
  schema.members.push_back(std::move(element));
  return schema;
}
ParameterSchema Object(std::string name, ParameterList members) {
  ParameterSchema schema = Make(std::move(name), Kind::kObject);
  schema.members = std::move(members);
  return schema;
}
ParameterSchema StringMap(std::string name) {
  return Make(std::move(name), Kind::kStringMap);
}
ParameterSchema Any(std::string name) {
  return Make(std::move(name), Kind::kAny);
}
ParameterSchema Refused(std::string name, std::string help) {
  ParameterSchema schema = Make(std::move(name), Kind::kRefused);
  schema.help = std::move(help);
  return schema;
}
ParameterSchema Required(ParameterSchema schema) {
  schema.required = true;
  return schema;
}

std::string ParameterError::PathText() const {
  std::string text;
  for (const std::string& part : path) {
    if (!text.empty() && !part.starts_with("[")) text += '.';
    text += part;
  }
  return text;
}

std::optional<ParameterError> CheckParameters(const ParameterList& schema,
                                              const codec::Json& value) {
  std::vector<std::string> path;
  return Check(Object("", schema), value, path);
}

const codec::Json* Parameter(const codec::Json& parameters, std::string_view path) {
  const codec::Json* value = &parameters;
  for (const std::string_view part : Split(path, '.')) {
    value = codec::Find(*value, part);
    if (value == nullptr) return nullptr;
  }
  return value->is_null() ? nullptr : value;
}

std::string StringParameter(const codec::Json& parameters, std::string_view path,
                            std::string fallback) {
  const codec::Json* value = Parameter(parameters, path);
  return value != nullptr && value->is_string() ? std::string(TextOf(*value)) : fallback;
}

double NumberParameter(const codec::Json& parameters, std::string_view path, double fallback) {
  const codec::Json* value = Parameter(parameters, path);
  return value == nullptr ? fallback : NumberOf(*value).value_or(fallback);
}

bool BoolParameter(const codec::Json& parameters, std::string_view path, bool fallback) {
  const codec::Json* value = Parameter(parameters, path);
  return value != nullptr && value->is_bool() ? value->get_bool() : fallback;
}

std::optional<Duration> DurationParameter(const codec::Json& parameters, std::string_view path) {
  const codec::Json* value = Parameter(parameters, path);
  if (value == nullptr) return std::nullopt;
  if (value->is_int64()) return Duration(value->get_int64());
  if (!value->is_string()) return std::nullopt;
  const auto duration = ParseDuration(TextOf(*value));
  return duration ? std::optional<Duration>(*duration) : std::nullopt;
}

}  // namespace warmpath::scheduling
