// Clocks, percentiles and the checksum of results that our driver and the peers' compute alike.
#pragma once

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "corpus.h"

namespace warmpath::bench {

inline double Seconds(clockid_t clock) {
  timespec t = {};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
inline double CpuSeconds() {
  return Seconds(CLOCK_PROCESS_CPUTIME_ID);
}

inline uint64_t WallNanos() {
  timespec t = {};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000 + static_cast<uint64_t>(t.tv_nsec);
}

// A value of /proc/self/status or /proc/meminfo, in bytes.
inline uint64_t ProcBytes(const char* file, const char* field) {
  std::FILE* f = std::fopen(file, "r");
  if (f == nullptr) return 0;
  char line[256];
  uint64_t kib = 0;
  while (std::fgets(line, sizeof(line), f) != nullptr) {
    unsigned long long value = 0;
    char name[64];
    if (std::sscanf(line, "%63[^:]: %llu", name, &value) == 2 && std::string(name) == field) {
      kib = value;
      break;
    }
  }
  std::fclose(f);
  return kib * 1024;
}
inline uint64_t AnonymousBytes() {
  return ProcBytes("/proc/self/status", "RssAnon");
}

inline uint64_t Percentile(std::vector<uint64_t>& values, double p) {
  if (values.empty()) return 0;
  const auto at =
      values.begin() + static_cast<ptrdiff_t>(p * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

// Adds one (query, endpoint, blocks) to a checksum that does not depend on the order.
inline void AddResult(uint64_t& sum, uint64_t query, uint64_t endpoint, uint64_t blocks) {
  sum += Mix(Mix(query) ^ Mix(endpoint << 32) ^ blocks);
}

// The array was computed a moment ago by whoever asks: it is in the cache.
inline void Warm(std::span<const uint64_t> words) {
  uint64_t sum = 0;
  for (const uint64_t w : words) sum += w;
  asm volatile("" : : "r"(sum));
}

// The lines of one JSON object.
class Json {
 public:
  void Number(const std::string& name, double value) {
    char text[64];
    std::snprintf(text, sizeof(text), "%.6g", value);
    Raw(name, text);
  }
  void Count(const std::string& name, uint64_t value) { Raw(name, std::to_string(value)); }
  void Text(const std::string& name, const std::string& value) { Raw(name, '"' + value + '"'); }
  void Hex(const std::string& name, uint64_t value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
    Text(name, text);
  }
  std::string Line() const { return "{" + body_ + "}\n"; }

 private:
  void Raw(const std::string& name, const std::string& value) {
    body_ += (body_.empty() ? "\"" : ", \"") + name + "\": " + value;
  }
  std::string body_;
};

}  // namespace warmpath::bench
