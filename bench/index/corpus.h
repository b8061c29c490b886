// The workload that every index in this benchmark is given: block stores, removals and queries in
// one binary file, mapped read-only by our driver and by the peers' (bench/index/peers), so that
// all see the same bytes. A block carries three names: what its engine calls it (`hash`, chained),
// what the router calls it (`key`, chained) and the hash of its tokens alone (`content`, what the
// peers match).
//
// File: Header, then sections as Header::sections says; little-endian, every section 8-byte
// aligned.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace warmpath::bench {

inline constexpr uint64_t kCorpusMagic = 0x3130584449505721;  // changes with the format
inline constexpr uint64_t kRootKey = 1;

// SplitMix64's finalizer: every name and every checksum is made of it.
inline constexpr uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() { return Mix(state_++); }
  uint64_t Below(uint64_t bound) { return Next() % bound; }

 private:
  uint64_t state_;
};

enum Section : uint32_t {
  kHashes,
  kKeys,
  kContents,
  kEvents,
  kRemovals,
  kQueries,
  kQueryKeys,
  kQueryContents,
  kSections
};
enum QuerySet : uint32_t { kQ64, kQ512, kQ6250, kQTrace, kQuerySets };
inline constexpr std::array<const char*, kQuerySets> kQuerySetNames = {"q64", "q512", "q6250",
                                                                       "qtrace"};

// A store of `count` consecutive blocks at [begin, begin + count) of the block sections.
struct Event {
  uint32_t endpoint;
  uint32_t set;  // 0: T, the trace; 1: L, the long sessions. All of T comes first.
  uint64_t begin;
  uint32_t count;
  uint32_t has_parent;
  uint64_t parent;  // engine hash
};

// A lookup of [begin, begin + count) of the query sections.
struct Query {
  uint32_t set;  // QuerySet, ascending
  uint32_t count;
  uint64_t begin;
};

struct Header {
  uint64_t magic;
  uint64_t endpoints;
  uint64_t synthetic;  // 1: the trace was made up
  uint64_t distinct_t;
  uint64_t root_key;
  struct {
    uint64_t offset;  // bytes from the start of the file
    uint64_t count;   // elements
  } sections[kSections];
};

struct CorpusOptions {
  std::string trace;  // JSON lines with hash_ids; empty: one is made up
  uint32_t endpoints = 64;
  uint64_t seed = 42;
  bool quick = false;  // a tenth of everything
};

// False, after a line on stderr, when the trace cannot be read or the file cannot be written.
bool MakeCorpus(const CorpusOptions& options, const std::string& path);

// A mapped corpus file, all pages resident. Exits the process with a message when the file is not
// one.
class Corpus {
 public:
  explicit Corpus(const std::string& path);

  const Header& header() const { return *header_; }
  std::span<const uint64_t> hashes(const Event& e) const {
    return Words(kHashes).subspan(e.begin, e.count);
  }
  std::span<const uint64_t> keys(const Event& e) const {
    return Words(kKeys).subspan(e.begin, e.count);
  }
  std::span<const uint64_t> keys(const Query& q) const {
    return Words(kQueryKeys).subspan(q.begin, q.count);
  }
  std::span<const Event> events() const { return Elements<Event>(kEvents); }
  // Events whose blocks go again, in this order, each tail first.
  std::span<const uint64_t> removals() const { return Words(kRemovals); }
  std::span<const Query> queries() const { return Elements<Query>(kQueries); }

 private:
  template <class T>
  std::span<const T> Elements(Section section) const {
    const auto& s = header_->sections[section];
    return {reinterpret_cast<const T*>(base_ + s.offset), s.count};
  }
  std::span<const uint64_t> Words(Section section) const { return Elements<uint64_t>(section); }

  const char* base_ = nullptr;
  const Header* header_ = nullptr;
};

}  // namespace warmpath::bench
