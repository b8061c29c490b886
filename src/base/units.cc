#include "base/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <span>

namespace warmpath {
namespace {

template <typename T>
Result<T> ParseNumber(std::string_view text, std::string_view what) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is not {}", text, what));
  }
  return value;
}

struct Unit {
  std::string_view name;
  double factor;
};

const Unit* FindUnit(std::span<const Unit> units, std::string_view name) {
  for (const Unit& unit : units) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

constexpr std::array kDurationUnits = {Unit{"ns", 1},    Unit{"us", 1e3}, Unit{"\u00b5s", 1e3},
                                       Unit{"ms", 1e6},  Unit{"s", 1e9},  Unit{"m", 60e9},
                                       Unit{"h", 3600e9}};
constexpr std::array kSizeUnits = {Unit{"", 1},
                                   Unit{"B", 1},
                                   Unit{"k", 1e3},
                                   Unit{"kB", 1e3},
                                   Unit{"K", 1e3},
                                   Unit{"KB", 1e3},
                                   Unit{"M", 1e6},
                                   Unit{"MB", 1e6},
                                   Unit{"G", 1e9},
                                   Unit{"GB", 1e9},
                                   Unit{"T", 1e12},
                                   Unit{"TB", 1e12},
                                   Unit{"Ki", 1024.0},
                                   Unit{"KiB", 1024.0},
                                   Unit{"Mi", 1048576.0},
                                   Unit{"MiB", 1048576.0},
                                   Unit{"Gi", 1073741824.0},
                                   Unit{"GiB", 1073741824.0},
                                   Unit{"Ti", 1099511627776.0},
                                   Unit{"TiB", 1099511627776.0}};

bool IsNumberChar(char c) {
  return (c >= '0' && c <= '9') || c == '.';
}

char LowerOf(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

Result<Duration> ParseDuration(std::string_view text) {
  const auto bad = [&] {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("\"{}\" is not a duration (want for example 500us, 200ms, 1.5s, 2m)", text));
  };
  if (text == "0") return Duration(0);
  std::string_view rest = text;
  double total = 0;
  const bool negative = rest.starts_with('-');
  if (negative) rest.remove_prefix(1);
  if (rest.empty()) return bad();
  while (!rest.empty()) {
    size_t digits = 0;
    while (digits < rest.size() && IsNumberChar(rest[digits])) ++digits;
    size_t end = digits;
    while (end < rest.size() && !IsNumberChar(rest[end])) ++end;
    const auto number = ParseDouble(rest.substr(0, digits));
    const Unit* unit = FindUnit(kDurationUnits, rest.substr(digits, end - digits));
    if (!number || unit == nullptr) return bad();
    total += *number * unit->factor;
    rest.remove_prefix(end);
  }
  if (!(total < 9.2e18)) return bad();
  return Duration(std::llround(negative ? -total : total));
}

Result<uint64_t> ParseSize(std::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && IsNumberChar(text[digits])) ++digits;
  const auto number = ParseDouble(text.substr(0, digits));
  const Unit* unit = FindUnit(kSizeUnits, text.substr(digits));
  if (!number || unit == nullptr || *number * unit->factor >= 1.8e19) {
    return Fail(Code::kInvalidArgument,
                fmt::format("\"{}\" is not a size (want for example 64MiB, 1GiB, 1048576)", text));
  }
  return static_cast<uint64_t>(*number * unit->factor);
}

Result<int64_t> ParseInt(std::string_view text) {
  return ParseNumber<int64_t>(text, "a whole number");
}
Result<double> ParseDouble(std::string_view text) {
  return ParseNumber<double>(text, "a number");
}

std::string FormatDuration(Duration duration) {
  const double ns = static_cast<double>(duration.count());
  if (std::abs(ns) < 1e3) return fmt::format("{:.0f} ns", ns);
  if (std::abs(ns) < 1e6) return fmt::format("{:.1f} us", ns / 1e3);
  if (std::abs(ns) < 1e9) return fmt::format("{:.1f} ms", ns / 1e6);
  return fmt::format("{:.2f} s", ns / 1e9);
}

std::string FormatSize(uint64_t bytes) {
  static constexpr std::array kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kNames[unit]);
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string ToLower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = LowerOf(c);
  return out;
}

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && LowerOf(a[i]) != LowerOf(b[i])) return false;
  }
  return true;
}

}  // namespace warmpath
