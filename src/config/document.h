// One document of a configuration file: its values, and errors that say where something stands.
// Plain data; for the loaders of this folder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "codec/json.h"
#include "codec/yaml.h"
#include "scheduling/parameters.h"

namespace warmpath::config {

// Member names from the root of a document; "[2]" for an element of a list.
using Path = std::vector<std::string>;
Path Below(Path path, std::string_view member);
Path Below(Path path, size_t element);

class Document {
 public:
  Document(std::string_view source, codec::YamlNode root);

  // Null for an empty document.
  const codec::Json& json() const { return json_; }
  // Of the value itself where it exists, else of the deepest parent that does.
  int LineOf(const Path& path) const;

  // "source:LINE: a.b[2]: what", one line of bounded length whatever it quotes.
  tl::unexpected<Error> Wrong(const Path& path, std::string_view what) const;
  // "source:LINE: what", for what names the place in its own words.
  tl::unexpected<Error> WrongLine(const Path& path, std::string_view what) const;
  // "line LINE: a.b[2]: what".
  std::string Note(const Path& path, std::string_view what) const;
  // The first violation of `schema` by the member at `path`, which is `value`.
  Status Check(const Path& path, const scheduling::ParameterList& schema,
               const codec::Json& value) const;
  // As Check, but unknown members are taken out of `value` and noted instead; at most 200.
  Status CheckLeniently(const Path& path, const scheduling::ParameterList& schema,
                        codec::Json& value, std::vector<std::string>& notes) const;
  Status CheckLeniently(const scheduling::ParameterList& schema, std::vector<std::string>& notes) {
    return CheckLeniently({}, schema, json_, notes);
  }

 private:
  std::string source_;
  codec::YamlNode root_;
  codec::Json json_;
};

// A YAML library's "line 3: what" becomes "source:3: what".
tl::unexpected<Error> ParseFailure(std::string_view source, const Error& error);

// At most `max_bytes` + 1 bytes of a file; kNotFound when it cannot be read.
Result<std::string> ReadBoundedFile(const std::string& path, size_t max_bytes);

}  // namespace warmpath::config
