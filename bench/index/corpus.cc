#include "corpus.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <unordered_map>
#include <vector>

namespace warmpath::bench {
namespace {

constexpr uint32_t kBlocksPerId = 32;  // 512 tokens in blocks of 16
constexpr uint32_t kEventBlocks = 512;
constexpr uint32_t kSessionBlocks = 6250, kGroupBlocks = 2500, kCommonBlocks = 625,
                   kGroupSessions = 10;
constexpr uint32_t kSessionHolders = 16;

struct Block {
  uint64_t hash, key, content;
};

// A chain's next block, named after everything before it and its own content.
Block Extend(const Block& parent, uint64_t content) {
  return {Mix(parent.hash ^ Mix(content ^ 0x5bd1e995)), Mix(parent.key ^ Mix(content ^ 0xc2b2ae35)),
          content};
}
constexpr Block kRoot = {0x6a09e667f3bcc909, kRootKey, 0};

using Ids = std::vector<uint32_t>;

bool ReadTrace(const std::string& path, size_t limit, std::vector<Ids>& out) {
  std::ifstream in(path);
  std::string line;
  while (out.size() < limit && std::getline(in, line)) {
    const size_t at = line.find("\"hash_ids\"");
    const size_t open = at == std::string::npos ? at : line.find('[', at);
    if (open == std::string::npos) continue;
    Ids ids;
    for (const char* p = line.c_str() + open + 1;;) {
      char* end = nullptr;
      const unsigned long id = std::strtoul(p, &end, 10);
      if (end == p) break;
      ids.push_back(static_cast<uint32_t>(id));
      p = end;
      while (*p == ',' || *p == ' ') ++p;
    }
    if (!ids.empty()) out.push_back(std::move(ids));
  }
  if (out.empty())
    std::fprintf(stderr, "index_bench: no requests with \"hash_ids\" in %s\n", path.c_str());
  return !out.empty();
}

// Of the conversation trace's shape: one id common to all, a third of the requests go on with an
// earlier conversation, 24 ids per request on average, few very long.
std::vector<Ids> MakeTrace(size_t requests, Random& random) {
  std::vector<Ids> out;
  std::vector<Ids> conversations;
  uint32_t next = 1;
  const auto grow = [&](Ids& ids, double mean) {
    const double u = (static_cast<double>(random.Below(1 << 20)) + 1) / ((1 << 20) + 1);
    const double v = (static_cast<double>(random.Below(1 << 20)) + 1) / ((1 << 20) + 1);
    const size_t more = static_cast<size_t>(mean * -__builtin_log(u) * -__builtin_log(v)) + 1;
    for (size_t i = 0; i < more && ids.size() < 240; ++i) ids.push_back(next++);
  };
  for (size_t r = 0; r < requests; ++r) {
    if (random.Below(3) == 0 && !conversations.empty()) {
      Ids& ids = conversations[conversations.size() - 1 -
                               random.Below(std::min<size_t>(conversations.size(), 2000))];
      grow(ids, 4);
      out.push_back(ids);
    } else {
      Ids ids{0};
      grow(ids, 17);
      out.push_back(ids);
      conversations.push_back(std::move(ids));
    }
  }
  return out;
}

class Writer {
 public:
  explicit Writer(const CorpusOptions& options) : options_(options), random_(options.seed) {}

  bool Run(const std::string& path) {
    const size_t limit = options_.quick ? 1200 : std::numeric_limits<size_t>::max();
    if (options_.trace.empty()) {
      trace_ = MakeTrace(options_.quick ? 1200 : 12031, random_);
    } else if (!ReadTrace(options_.trace, limit, trace_)) {
      return false;
    }
    StoreTrace();
    const size_t trace_events = events_.size();
    StoreSessions(options_.quick ? 20 : 100);
    ChooseRemovals(trace_events);
    MakeQueries(options_.quick ? 400 : 4000);
    return Write(path);
  }

 private:
  struct Node {
    Block tail;  // the last of its 32 blocks
  };

  // The trie node of `id` under `parent`, made when new.
  uint32_t Child(uint32_t parent, uint32_t id) {
    const auto [it, fresh] =
        children_.try_emplace((uint64_t{parent} << 32) | id, static_cast<uint32_t>(nodes_.size()));
    if (fresh) {
      Block tail = nodes_[parent].tail;
      for (uint32_t j = 0; j < kBlocksPerId; ++j) tail = Extend(tail, Mix((uint64_t{id} << 8) | j));
      nodes_.push_back({tail});
    }
    return it->second;
  }

  static void AppendId(std::vector<Block>& chain, uint32_t id) {
    for (uint32_t j = 0; j < kBlocksPerId; ++j) {
      chain.push_back(Extend(chain.empty() ? kRoot : chain.back(), Mix((uint64_t{id} << 8) | j)));
    }
  }

  std::vector<Block> TraceChain(const Ids& ids) const {
    std::vector<Block> chain;
    for (const uint32_t id : ids) AppendId(chain, id);
    return chain;
  }

  // What an endpoint that has the first `held` blocks announces when it computes all of `chain`.
  void Store(uint32_t endpoint, uint32_t set, std::span<const Block> chain, size_t held) {
    while (held < chain.size()) {
      const size_t count = std::min<size_t>(kEventBlocks, chain.size() - held);
      events_.push_back({endpoint, set, hashes_.size(), static_cast<uint32_t>(count), held > 0,
                         held > 0 ? chain[held - 1].hash : 0});
      for (const Block& b : chain.subspan(held, count)) {
        hashes_.push_back(b.hash);
        keys_.push_back(b.key);
        contents_.push_back(b.content);
      }
      held += count;
    }
  }

  void StoreTrace() {
    nodes_.push_back({kRoot});
    std::vector<std::vector<bool>> held(options_.endpoints);
    for (const Ids& ids : trace_) {
      const auto endpoint = static_cast<uint32_t>(random_.Below(options_.endpoints));
      auto& mine = held[endpoint];
      uint32_t node = 0;
      size_t known = 0;
      bool prefix = true;
      for (const uint32_t id : ids) {
        node = Child(node, id);
        if (mine.size() <= node) mine.resize(node + 1);
        prefix = prefix && mine[node];
        if (prefix) known += kBlocksPerId;
        mine[node] = true;
      }
      const std::vector<Block> chain = TraceChain(ids);
      Store(endpoint, 0, chain, known);
    }
    distinct_t_ = (nodes_.size() - 1) * kBlocksPerId;
  }

  std::vector<Block> SessionChain(uint32_t session) const {
    std::vector<Block> chain;
    chain.reserve(kSessionBlocks);
    for (uint32_t i = 0; i < kSessionBlocks; ++i) {
      const uint64_t owner = i < kCommonBlocks  ? 0
                             : i < kGroupBlocks ? 1 + session / kGroupSessions
                                                : 1000 + session;
      chain.push_back(Extend(chain.empty() ? kRoot : chain.back(),
                             Mix((uint64_t{1} << 60) | (owner << 20) | i)));
    }
    return chain;
  }

  void StoreSessions(uint32_t sessions) {
    sessions_ = sessions;
    // Per endpoint, how far it holds: the common part, each group's, each session's own.
    std::vector<std::unordered_map<uint64_t, uint32_t>> depth(options_.endpoints);
    for (uint32_t s = 0; s < sessions; ++s) {
      const std::vector<Block> chain = SessionChain(s);
      std::vector<uint32_t> endpoints(options_.endpoints);
      for (uint32_t e = 0; e < options_.endpoints; ++e) endpoints[e] = e;
      const size_t holders = std::min<size_t>(kSessionHolders, endpoints.size());
      for (size_t h = 0; h < holders; ++h) {
        std::swap(endpoints[h], endpoints[h + random_.Below(endpoints.size() - h)]);
        const uint32_t endpoint = endpoints[h];
        const uint32_t wanted = random_.Below(4) == 0
                                    ? kSessionBlocks
                                    : static_cast<uint32_t>(1 + random_.Below(kSessionBlocks));
        auto& mine = depth[endpoint];
        uint32_t& common = mine[0];
        uint32_t& group = mine[1 + s / kGroupSessions];
        uint32_t held = common;
        if (held >= kCommonBlocks) held = std::max(held, group);
        common = std::max(common, std::min(wanted, kCommonBlocks));
        group = std::max(group, std::min(wanted, kGroupBlocks));
        if (wanted > held) Store(endpoint, 1, std::span(chain).first(wanted), held);
      }
    }
  }

  // 30 % of the trace's store events that nothing continues on the same endpoint.
  void ChooseRemovals(size_t trace_events) {
    std::vector<std::unordered_map<uint64_t, bool>> parents(options_.endpoints);
    for (size_t i = 0; i < trace_events; ++i) {
      if (events_[i].has_parent) parents[events_[i].endpoint][events_[i].parent] = true;
    }
    for (size_t i = 0; i < trace_events; ++i) {
      const Event& e = events_[i];
      const auto first = hashes_.begin() + static_cast<ptrdiff_t>(e.begin);
      const bool leaf = std::none_of(first, first + e.count,
                                     [&](uint64_t h) { return parents[e.endpoint].contains(h); });
      if (leaf && random_.Below(10) < 3) removals_.push_back(i);
    }
    for (size_t i = removals_.size(); i > 1; --i)
      std::swap(removals_[i - 1], removals_[random_.Below(i)]);
  }

  void Ask(QuerySet set, std::span<const Block> chain, size_t own_from, size_t more) {
    queries_.push_back({set, static_cast<uint32_t>(chain.size() + more), query_keys_.size()});
    Block last = kRoot;
    for (size_t i = 0; i < chain.size() + more; ++i) {
      last = i < own_from && i < chain.size() ? chain[i] : Extend(last, random_.Next());
      query_keys_.push_back(last.key);
      query_contents_.push_back(last.content);
    }
  }

  // Half go all the way, half part from the chain somewhere in their second half.
  void AskPrefix(QuerySet set, std::span<const Block> chain, size_t length) {
    const bool full = random_.Below(2) == 0;
    Ask(set, chain.first(length), full ? length : length / 2 + random_.Below(length - length / 2),
        0);
  }

  void MakeQueries(size_t count) {
    for (const auto& [set, length] : {std::pair{kQ64, 64U}, std::pair{kQ512, 512U}}) {
      std::vector<const Ids*> long_enough;
      for (const Ids& ids : trace_) {
        if (ids.size() * kBlocksPerId >= length) long_enough.push_back(&ids);
      }
      for (size_t i = 0; i < count; ++i) {
        AskPrefix(set, TraceChain(*long_enough[random_.Below(long_enough.size())]), length);
      }
    }
    for (size_t i = 0; i < count / 4; ++i) {
      AskPrefix(kQ6250, SessionChain(static_cast<uint32_t>(random_.Below(sessions_))),
                kSessionBlocks);
    }
    for (size_t i = 0; i < count; ++i) {
      const std::vector<Block> chain = TraceChain(trace_[random_.Below(trace_.size())]);
      Ask(kQTrace, chain, chain.size(), kBlocksPerId);
    }
  }

  bool Write(const std::string& path) const {
    std::FILE* file = std::fopen((path + ".part").c_str(), "wb");
    if (file == nullptr) {
      std::perror(path.c_str());
      return false;
    }
    Header header{kCorpusMagic, options_.endpoints, options_.trace.empty(),
                  distinct_t_,  kRootKey,           {}};
    uint64_t offset = sizeof(Header);
    const auto place = [&](Section section, const auto& data) {
      header.sections[section] = {offset, data.size()};
      offset += data.size() * sizeof(data[0]);
    };
    bool good = true;
    const auto put = [&](const auto& data) {
      good = good && std::fwrite(data.data(), sizeof(data[0]), data.size(), file) == data.size();
    };
    place(kHashes, hashes_), place(kKeys, keys_), place(kContents, contents_),
        place(kEvents, events_);
    place(kRemovals, removals_), place(kQueries, queries_), place(kQueryKeys, query_keys_);
    place(kQueryContents, query_contents_);
    good = std::fwrite(&header, sizeof(header), 1, file) == 1;
    put(hashes_), put(keys_), put(contents_), put(events_);
    put(removals_), put(queries_), put(query_keys_), put(query_contents_);
    good =
        std::fclose(file) == 0 && good && std::rename((path + ".part").c_str(), path.c_str()) == 0;
    if (!good)
      std::fprintf(stderr, "index_bench: cannot write %s: is the disk full?\n", path.c_str());
    return good;
  }

  const CorpusOptions options_;
  Random random_;
  std::vector<Ids> trace_;
  uint32_t sessions_ = 0;
  std::vector<Node> nodes_;
  std::unordered_map<uint64_t, uint32_t> children_;
  uint64_t distinct_t_ = 0;
  std::vector<uint64_t> hashes_, keys_, contents_, removals_, query_keys_, query_contents_;
  std::vector<Event> events_;
  std::vector<Query> queries_;
};

}  // namespace

bool MakeCorpus(const CorpusOptions& options, const std::string& path) {
  return Writer(options).Run(path);
}

Corpus::Corpus(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status = {};
  if (fd < 0 || fstat(fd, &status) != 0) {
    std::perror(path.c_str());
    std::exit(2);
  }
  const auto size = static_cast<size_t>(status.st_size);
  void* base = mmap(nullptr, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
  close(fd);
  if (base == MAP_FAILED || size < sizeof(Header) ||
      static_cast<const Header*>(base)->magic != kCorpusMagic) {
    std::fprintf(
        stderr,
        "index_bench: %s is not a corpus of this version: delete it and run ./dev bench index\n",
        path.c_str());
    std::exit(2);
  }
  base_ = static_cast<const char*>(base);
  header_ = static_cast<const Header*>(base);
}

}  // namespace warmpath::bench
