#include "codec/prometheus_text.h"

#include <fmt/format.h>

#include <charconv>
#include <deque>
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

// A quoted label value; `store` keeps the text of those that had escapes.
std::optional<std::string_view> TakeQuoted(std::string_view& s, std::deque<std::string>& store) {
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
  if (!escaped) return raw;
  std::string& text = store.emplace_back();
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '\\') {
      text += raw[i];
    } else {
      ++i;
      text += raw[i] == 'n' ? '\n' : raw[i];
    }
  }
  return text;
}

std::optional<double> ReadValue(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec == std::errc() && end == text.data() + text.size()) return value;
  if (ec == std::errc::result_out_of_range) return std::numeric_limits<double>::infinity();
  return std::nullopt;
}

bool ReadLine(std::string_view line, PromSample& sample, std::deque<std::string>& store,
              size_t max_labels) {
  const auto name = TakeName(line);
  if (!name) return false;
  sample.name = *name;
  SkipBlanks(line);
  if (Take(line, '{')) {
    while (true) {
      SkipBlanks(line);
      if (Take(line, '}')) break;
      const auto key = TakeName(line);
      if (!key || sample.labels.size() == max_labels) return false;
      SkipBlanks(line);
      if (!Take(line, '=')) return false;
      SkipBlanks(line);
      const auto value = TakeQuoted(line, store);
      if (!value) return false;
      sample.labels.emplace_back(*key, *value);
      SkipBlanks(line);
      if (!Take(line, ',') && !line.starts_with('}')) return false;
    }
  }
  SkipBlanks(line);
  const auto value =
      ReadValue(line.substr(0, line.find_first_of(" \t")));  // a time stamp or exemplar may follow
  if (!value) return false;
  sample.value = *value;
  return true;
}

}  // namespace

std::string_view PromSample::Label(std::string_view key) const {
  for (const auto& [k, v] : labels) {
    if (k == key) return v;
  }
  return {};
}

Result<PromStats> ReadPrometheusText(std::string_view text,
                                     const std::function<void(const PromSample&)>& fn,
                                     PromLimits limits) {
  if (text.size() > limits.max_bytes) {
    return Fail(Code::kOutOfBounds, fmt::format("metrics of {} bytes are over the limit of {}",
                                                text.size(), limits.max_bytes));
  }
  PromStats stats;
  PromSample sample;
  std::deque<std::string> store;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#') continue;
    sample.labels.clear();
    store.clear();
    if (ReadLine(line, sample, store, limits.max_labels)) {
      ++stats.samples;
      fn(sample);
    } else {
      ++stats.bad_lines;
    }
  }
  return stats;
}

}  // namespace warmpath::codec
