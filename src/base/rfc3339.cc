#include "base/rfc3339.h"

#include <chrono>

namespace warmpath {
namespace {

// The digits of `text` at [start, start + length); nullopt when one is none.
std::optional<int> Digits(std::string_view text, size_t start, size_t length) {
  int value = 0;
  if (start + length > text.size()) return std::nullopt;
  for (const char c : text.substr(start, length)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

}  // namespace

std::optional<int64_t> ParseRfc3339(std::string_view text) {
  using namespace std::chrono;
  const auto y = Digits(text, 0, 4), mo = Digits(text, 5, 2), d = Digits(text, 8, 2);
  const auto h = Digits(text, 11, 2), mi = Digits(text, 14, 2), s = Digits(text, 17, 2);
  if (!y || !mo || !d || !h || !mi || !s || text[4] != '-' || text[7] != '-' ||
      (text[10] != 'T' && text[10] != 't') || text[13] != ':' || text[16] != ':') {
    return std::nullopt;
  }
  const year_month_day date{year{*y}, month{static_cast<unsigned>(*mo)},
                            day{static_cast<unsigned>(*d)}};
  if (!date.ok() || *h > 23 || *mi > 59 || *s > 60) return std::nullopt;
  std::string_view zone = text.substr(19);
  if (zone.starts_with('.')) {
    const size_t end = zone.find_first_not_of("0123456789", 1);
    if (end == 1 || end == std::string_view::npos) return std::nullopt;
    zone.remove_prefix(end);
  }
  int64_t offset = 0;
  if (zone != "Z" && zone != "z") {
    const auto hours = Digits(zone, 1, 2), minutes = Digits(zone, 4, 2);
    if (zone.size() != 6 || (zone[0] != '+' && zone[0] != '-') || zone[3] != ':' || !hours ||
        !minutes || *hours > 23 || *minutes > 59) {
      return std::nullopt;
    }
    offset = (*hours * 3600 + *minutes * 60) * (zone[0] == '-' ? -1 : 1);
  }
  const int64_t midnight = int64_t{sys_days(date).time_since_epoch().count()} * 86400;
  return midnight + *h * 3600 + *mi * 60 + *s - offset;
}

}  // namespace warmpath
