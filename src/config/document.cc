#include "config/document.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/units.h"

namespace warmpath::config {
namespace {

constexpr std::string_view kUnknown = "unknown parameter";
constexpr int kMaxLenient = 200;

std::string OneLine(std::string message) {
  constexpr size_t kMaxMessage = 1000;
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  if (message.size() > kMaxMessage) {
    message.resize(kMaxMessage);
    message += "...";
  }
  return message;
}

std::string Text(const Path& path) {
  return scheduling::ParameterError{path, ""}.PathText();
}

// A schema speaks of parameters; in a document they are fields.
std::string Field(std::string message) {
  if (message.starts_with(kUnknown)) message.replace(0, kUnknown.size(), "unknown field");
  return message;
}

size_t IndexOf(std::string_view part) {
  return static_cast<size_t>(ParseInt(part.substr(1, part.size() - 2)).value_or(0));
}

void Remove(codec::Json& value, const Path& path) {
  codec::Json* at = &value;
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    at = at->is_array() ? &at->get_array()[IndexOf(path[i])] : &at->get_object()[path[i]];
  }
  at->get_object().erase(path.back());
}

}  // namespace

Path Below(Path path, std::string_view member) {
  path.emplace_back(member);
  return path;
}
Path Below(Path path, size_t element) {
  path.push_back(fmt::format("[{}]", element));
  return path;
}

Document::Document(std::string_view source, codec::YamlNode root)
    : source_(source), root_(std::move(root)), json_(codec::YamlToJson(root_)) {}

int Document::LineOf(const Path& path) const {
  const codec::YamlNode* node = &root_;
  int line = std::max(1, root_.line);
  for (const std::string& part : path) {
    if (node->is_sequence() && part.starts_with("[")) {
      const size_t index = IndexOf(part);
      if (index >= node->items.size()) break;
      node = &node->items[index];
      line = node->line;
      continue;
    }
    const auto member = std::find_if(node->members.begin(), node->members.end(),
                                     [&](const auto& m) { return m.key == part; });
    if (member == node->members.end()) break;
    line = member->value.key_line;
    node = &member->value;
  }
  return line;
}

tl::unexpected<Error> Document::Wrong(const Path& path, std::string_view what) const {
  const std::string text = Text(path);
  return Fail(Code::kInvalidArgument, OneLine(fmt::format("{}:{}: {}{}{}", source_, LineOf(path),
                                                          text, text.empty() ? "" : ": ", what)));
}

tl::unexpected<Error> Document::WrongLine(const Path& path, std::string_view what) const {
  return Fail(Code::kInvalidArgument,
              OneLine(fmt::format("{}:{}: {}", source_, LineOf(path), what)));
}

std::string Document::Note(const Path& path, std::string_view what) const {
  return OneLine(fmt::format("line {}: {}: {}", LineOf(path), Text(path), what));
}

Status Document::Check(const Path& path, const scheduling::ParameterList& schema,
                       const codec::Json& value) const {
  const auto error = scheduling::CheckParameters(schema, value);
  if (!error) return {};
  Path where = path;
  where.insert(where.end(), error->path.begin(), error->path.end());
  return Wrong(where, Field(error->message));
}

Status Document::CheckLeniently(const Path& path, const scheduling::ParameterList& schema,
                                codec::Json& value, std::vector<std::string>& notes) const {
  for (int removed = 0;; ++removed) {
    const auto error = scheduling::CheckParameters(schema, value);
    if (!error) return {};
    Path where = path;
    where.insert(where.end(), error->path.begin(), error->path.end());
    if (!error->message.starts_with(kUnknown) || removed == kMaxLenient) {
      return Wrong(where, Field(error->message));
    }
    notes.push_back(Note(where, "unknown field, left out as this dialect always did"));
    Remove(value, error->path);
  }
}

tl::unexpected<Error> ParseFailure(std::string_view source, const Error& error) {
  const std::string& message = error.message;
  return Fail(Code::kInvalidArgument,
              OneLine(message.starts_with("line ")
                          ? fmt::format("{}:{}", source, std::string_view(message).substr(5))
                          : fmt::format("{}:1: {}", source, message)));
}

Result<std::string> ReadBoundedFile(const std::string& path, size_t max_bytes) {
  std::error_code error;
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path, error)) {
    return Fail(Code::kNotFound, fmt::format("{}: cannot be read", path));
  }
  std::string text(max_bytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

}  // namespace warmpath::config
