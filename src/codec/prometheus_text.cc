#include "codec/prometheus_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <string>

#include "base/units.h"

namespace warmpath::codec {

namespace {

bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
}
bool IsName(char c) {
  return IsNameStart(c) || (c >= '0' && c <= '9');
}

void SkipBlanks(std::string_view& s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
}

std::optional<std::string_view> TakeName(std::string_view& s) {
  if (s.empty() || !IsNameStart(s.front())) return std::nullopt;
  size_t n = 1;
  while (n < s.size() && IsName(s[n])) ++n;
  const std::string_view name = s.substr(0, n);
  s.remove_prefix(n);
  return name;
}

bool Take(std::string_view& s, char c) {
  if (s.empty() || s.front() != c) return false;
  s.remove_prefix(1);
  return true;
}

// Room for the texts of one line that had escapes; they are no longer than the line.
class Unescaped {
 public:
  explicit Unescaped(std::string& room) : room_(room) { room_.clear(); }
  // `line` is at least what is left of the line, `raw` of it.
  std::string_view Add(std::string_view raw, size_t line) {
    if (room_.empty()) room_.reserve(line + raw.size());  // texts given do not move
    const size_t start = room_.size();
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] == '\\') {
        ++i;
        room_ += raw[i] == 'n' ? '\n' : raw[i];
      } else {
        room_ += raw[i];
      }
    }
    return std::string_view(room_).substr(start);
  }

 private:
  std::string& room_;
};

// A quoted label value.
std::optional<std::string_view> TakeQuoted(std::string_view& s, Unescaped& store) {
  if (!Take(s, '"')) return std::nullopt;
  size_t n = 0;
  bool escaped = false;
  while (n < s.size() && s[n] != '"') {
    if (s[n] == '\\') {
      escaped = true;
      ++n;
    }
    ++n;
  }
  if (n >= s.size()) return std::nullopt;
  const std::string_view raw = s.substr(0, n);
  s.remove_prefix(n + 1);
  return escaped ? store.Add(raw, s.size()) : raw;
}

std::optional<double> ReadValue(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec == std::errc() && end == text.data() + text.size()) return value;
  if (ec == std::errc::result_out_of_range) return std::numeric_limits<double>::infinity();
  return std::nullopt;
}

using Labels = std::array<PromSample::LabelPair, kMaxPromLabels>;

// What stands behind the name.
bool ReadRest(std::string_view line, PromSample& sample, Labels& labels, Unescaped store,
              size_t max_labels) {
  size_t count = 0;
  SkipBlanks(line);
  if (Take(line, '{')) {
    while (true) {
      SkipBlanks(line);
      if (Take(line, '}')) break;
      const auto key = TakeName(line);
      if (!key || count == max_labels) return false;
      SkipBlanks(line);
      if (!Take(line, '=')) return false;
      SkipBlanks(line);
      const auto value = TakeQuoted(line, store);
      if (!value) return false;
      labels[count++] = {*key, *value};
      SkipBlanks(line);
      if (!Take(line, ',') && !line.starts_with('}')) return false;
    }
  }
  SkipBlanks(line);
  const auto value =
      ReadValue(line.substr(0, line.find_first_of(" \t")));  // a time stamp or exemplar may follow
  if (!value) return false;
  sample.labels = std::span(labels).first(count);
  sample.value = *value;
  return true;
}

// Whether `name` is the name `line` begins with.
bool IsOf(std::string_view line, std::string_view name) {
  return !name.empty() && line.starts_with(name) &&
         (line.size() == name.size() || !IsName(line[name.size()]));
}

class FunctionVisitor final : public PromVisitor {
 public:
  explicit FunctionVisitor(const std::function<void(const PromSample&)>& fn) : fn_(fn) {}
  void OnSample(const PromSample& sample) override { fn_(sample); }

 private:
  const std::function<void(const PromSample&)>& fn_;
};

}  // namespace

std::string_view PromSample::Label(std::string_view key) const {
  for (const auto& [k, v] : labels) {
    if (k == key) return v;
  }
  return {};
}

Result<PromStats> ReadPrometheusText(std::string_view text, PromVisitor& visitor,
                                     PromLimits limits) {
  if (text.size() > limits.max_bytes) {
    return Fail(Code::kOutOfBounds, fmt::format("metrics of {} bytes are over the limit of {}",
                                                text.size(), limits.max_bytes));
  }
  const size_t max_labels = std::min(limits.max_labels, kMaxPromLabels);
  PromStats stats;
  PromSample sample;
  Labels labels;
  std::string unescaped;
  std::string_view unwanted;  // the last name not asked for: most lines are of a histogram
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#' || IsOf(line, unwanted)) continue;
    const auto name = TakeName(line);
    if (name && !visitor.Wants(*name)) {
      unwanted = *name;
      continue;
    }
    if (name && ReadRest(line, sample, labels, Unescaped(unescaped), max_labels)) {
      sample.name = *name;
      ++stats.samples;
      visitor.OnSample(sample);
    } else {
      ++stats.bad_lines;
    }
  }
  return stats;
}

Result<PromStats> ReadPrometheusText(std::string_view text,
                                     const std::function<void(const PromSample&)>& fn,
                                     PromLimits limits) {
  FunctionVisitor visitor(fn);
  return ReadPrometheusText(text, visitor, limits);
}

}  // namespace warmpath::codec
