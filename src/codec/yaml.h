// YAML as a tree that knows its line numbers, for configuration files whose errors must say
// file:line. JSON text is YAML too.
//
// Pure functions, thread-safe. Bounded in bytes, depth and nodes; aliases are expanded and count as
// what they expand to.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "codec/json.h"

namespace warmpath::codec {

struct YamlMember;

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  std::string scalar;               // text of a scalar, unresolved
  bool quoted = false;              // a scalar in quotes or block style: always a string
  int line = 0;                     // 1-based
  int key_line = 0;                 // of a map's member: the line of its key
  std::vector<YamlNode> items;      // of a sequence
  std::vector<YamlMember> members;  // of a map, in order; keys are unique
  bool is_map() const { return kind == Kind::kMap; }
  bool is_sequence() const { return kind == Kind::kSequence; }
  bool is_scalar() const { return kind == Kind::kScalar; }
  bool is_null() const { return kind == Kind::kNull; }

  // Member of a map; nullptr when absent or no map.
  const YamlNode* Find(std::string_view key) const;
  // Scalar values by the core schema (true/false, decimal and 0x integers, floats, .inf, .nan).
  // nullopt for other types; a quoted scalar is a string only. AsBool also takes yes/no/on/off, as
  // llm-d's YAML library does.
  std::optional<bool> AsBool() const;
  std::optional<int64_t> AsInt() const;
  std::optional<double> AsDouble() const;
};

struct YamlMember {
  std::string key;
  YamlNode value;
};

struct YamlLimits {
  size_t max_bytes = size_t{8} << 20;
  size_t max_depth = 64;
  size_t max_nodes = 200'000;
};

// The documents of a stream; an empty text has none. A key given twice in one map is an error.
// Errors read "line N: what".
Result<std::vector<YamlNode>> ParseYamlStream(std::string_view text, YamlLimits limits = {});
// Exactly one document (an empty text is a null node).
Result<YamlNode> ParseYaml(std::string_view text, YamlLimits limits = {});

// By the core schema; line numbers are lost.
Json YamlToJson(const YamlNode& node);

}  // namespace warmpath::codec
