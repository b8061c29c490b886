#include "codec/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <charconv>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>

#include "base/units.h"

namespace warmpath::codec {

namespace {

// Ends yaml-cpp's parse from inside its callbacks; never leaves ParseYamlStream.
struct Abort {
  Error error;
};

size_t CountNodes(const YamlNode& node) {
  size_t n = 1;
  for (const auto& item : node.items) n += CountNodes(item);
  for (const YamlMember& member : node.members) n += 1 + CountNodes(member.value);
  return n;
}

class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const YamlLimits& limits) : limits_(limits) {}

  void OnDocumentStart(const YAML::Mark&) override {
    root_ = YamlNode();
    anchors_.clear();
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode node;
    node.line = mark.line + 1;
    Keep(anchor, node);
    Add(std::move(node), mark);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto it = anchors_.find(anchor);
    if (it == anchors_.end()) Stop(mark, "alias inside its own anchor");
    if (it->second.depth + open_.size() > limits_.max_depth) Stop(mark, "nested too deeply");
    Count(mark, CountNodes(it->second.node));
    Add(it->second.node, mark);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.line = mark.line + 1;
    node.scalar = value;
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    if (!node.quoted &&
        (value.empty() || value == "~" || value == "null" || value == "Null" || value == "NULL")) {
      node.kind = YamlNode::Kind::kNull;
    }
    Keep(anchor, node);
    Add(std::move(node), mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, YamlNode::Kind::kSequence, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, YamlNode::Kind::kMap, anchor);
  }
  void OnMapEnd() override { Close(); }

  YamlNode Take() { return std::move(root_); }

 private:
  struct Level {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    YAML::Mark mark;
    std::optional<std::string> key;
    int key_line = 0;
    std::set<std::string, std::less<>> seen;
    size_t depth_below = 0;
  };
  struct Anchored {
    YamlNode node;
    size_t depth = 0;
  };

  [[noreturn]] static void Stop(const YAML::Mark& mark, std::string_view what) {
    throw Abort{{Code::kInvalidArgument, fmt::format("line {}: {}", mark.line + 1, what)}};
  }
  void Count(const YAML::Mark& mark, size_t nodes) {
    nodes_ += nodes;
    if (nodes_ > limits_.max_nodes) {
      throw Abort{{Code::kOutOfBounds, fmt::format("line {}: more than {} YAML nodes",
                                                   mark.line + 1, limits_.max_nodes)}};
    }
  }
  void Keep(YAML::anchor_t anchor, const YamlNode& node, size_t depth = 0) {
    if (anchor == 0) return;
    anchors_[anchor] = {node, depth};
  }
  void Open(const YAML::Mark& mark, YamlNode::Kind kind, YAML::anchor_t anchor) {
    if (open_.size() >= limits_.max_depth) {
      throw Abort{{Code::kOutOfBounds, fmt::format("line {}: nested deeper than {}", mark.line + 1,
                                                   limits_.max_depth)}};
    }
    if (!open_.empty() && open_.back().node.is_map() && !open_.back().key)
      Stop(mark, "a map key must be a scalar");
    Level& level = open_.emplace_back();
    level.node.kind = kind;
    level.node.line = mark.line + 1;
    level.anchor = anchor;
    level.mark = mark;
  }
  void Close() {
    Level level = std::move(open_.back());
    open_.pop_back();
    const size_t depth = level.depth_below + 1;
    if (!open_.empty()) open_.back().depth_below = std::max(open_.back().depth_below, depth);
    // An anchored container is copied: counted again, so that anchors cannot multiply memory
    // unseen.
    if (level.anchor != 0) Count(level.mark, CountNodes(level.node));
    Keep(level.anchor, level.node, depth);
    Add(std::move(level.node), level.mark);
  }
  void Add(YamlNode node, const YAML::Mark& mark) {
    Count(mark, 1);
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Level& top = open_.back();
    if (top.node.is_sequence()) {
      top.node.items.push_back(std::move(node));
    } else if (top.key) {
      node.key_line = top.key_line;
      top.node.members.push_back({std::move(*top.key), std::move(node)});
      top.key.reset();
    } else {
      if (node.is_map() || node.is_sequence()) Stop(mark, "a map key must be a scalar");
      std::string key = node.scalar;
      if (!top.seen.insert(key).second) Stop(mark, fmt::format("key \"{}\" is given twice", key));
      top.key = std::move(key);
      top.key_line = mark.line + 1;
    }
  }

  const YamlLimits limits_;
  YamlNode root_;
  std::vector<Level> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  size_t nodes_ = 0;
};

}  // namespace

const YamlNode* YamlNode::Find(std::string_view key) const {
  for (const auto& [k, value] : members) {
    if (k == key) return &value;
  }
  return nullptr;
}

std::optional<bool> YamlNode::AsBool() const {
  if (!is_scalar() || quoted) return std::nullopt;
  const std::string lower = ToLower(scalar);
  if (lower == "true" || lower == "yes" || lower == "on") return true;
  if (lower == "false" || lower == "no" || lower == "off") return false;
  return std::nullopt;
}

std::optional<int64_t> YamlNode::AsInt() const {
  if (!is_scalar() || quoted) return std::nullopt;
  std::string_view text = scalar;
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0o")) {
    base = text[1] == 'x' ? 16 : 8;
    text.remove_prefix(2);
  }
  uint64_t magnitude = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  const uint64_t limit =
      static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) + (negative ? 1 : 0);
  if (magnitude > limit) return std::nullopt;
  return static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
}

std::optional<double> YamlNode::AsDouble() const {
  if (!is_scalar() || quoted) return std::nullopt;
  std::string_view text = scalar;
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const std::string lower = ToLower(text);
  if (lower == ".inf")
    return negative ? -std::numeric_limits<double>::infinity()
                    : std::numeric_limits<double>::infinity();
  if (lower == ".nan") return std::numeric_limits<double>::quiet_NaN();
  if (text.empty() || (text[0] != '.' && (text[0] < '0' || text[0] > '9'))) return std::nullopt;
  if (const auto whole = AsInt()) return static_cast<double>(*whole);
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return negative ? -value : value;
}

Result<std::vector<YamlNode>> ParseYamlStream(std::string_view text, YamlLimits limits) {
  if (text.size() > limits.max_bytes) {
    return Fail(Code::kOutOfBounds, fmt::format("YAML of {} bytes is over the limit of {}",
                                                text.size(), limits.max_bytes));
  }
  std::vector<YamlNode> documents;
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    TreeBuilder builder(limits);
    while (parser.HandleNextDocument(builder)) documents.push_back(builder.Take());
  } catch (const Abort& abort) {
    return tl::unexpected(abort.error);
  } catch (const YAML::Exception& e) {
    return Fail(Code::kInvalidArgument, fmt::format("line {}: {}", e.mark.line + 1, e.msg));
  } catch (const std::exception& e) {
    return Fail(Code::kInvalidArgument, fmt::format("not valid YAML: {}", e.what()));
  }
  return documents;
}

Result<YamlNode> ParseYaml(std::string_view text, YamlLimits limits) {
  WP_TRY(std::vector<YamlNode> documents, ParseYamlStream(text, limits));
  if (documents.empty()) return YamlNode();
  if (documents.size() > 1) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("line {}: a second YAML document where one is expected", documents[1].line));
  }
  return std::move(documents[0]);
}

Json YamlToJson(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return nullptr;
    case YamlNode::Kind::kSequence: {
      JsonArray array;
      array.reserve(node.items.size());
      for (const YamlNode& item : node.items) array.push_back(YamlToJson(item));
      return array;
    }
    case YamlNode::Kind::kMap: {
      JsonObject object;
      for (const YamlMember& member : node.members) object[member.key] = YamlToJson(member.value);
      return object;
    }
    case YamlNode::Kind::kScalar:
      break;
  }
  if (!node.quoted) {
    const std::string lower = ToLower(node.scalar);
    if (lower == "true") return true;
    if (lower == "false") return false;
    if (const auto i = node.AsInt()) return *i;
    if (const auto d = node.AsDouble()) return *d;
  }
  return Json(boost::json::string_view(node.scalar));
}

}  // namespace warmpath::codec
