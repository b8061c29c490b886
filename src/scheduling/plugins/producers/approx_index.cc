#include "scheduling/plugins/producers/approx_index.h"

#include <algorithm>

namespace warmpath::scheduling {
namespace {

constexpr size_t kFirstTable = 1024;  // a power of two

}  // namespace

ApproxIndex::ApproxIndex(size_t max_entries)
    : max_entries_(std::max<size_t>(1, max_entries)), table_(kFirstTable, kNone) {}

// Where the key is, or where it would go.
size_t ApproxIndex::SlotOf(uint64_t key) const {
  const size_t mask = table_.size() - 1;
  size_t slot = key & mask;
  while (table_[slot] != kNone && nodes_[table_[slot]].key != key) slot = (slot + 1) & mask;
  return slot;
}

void ApproxIndex::EraseSlot(size_t slot) {
  const size_t mask = table_.size() - 1;
  table_[slot] = kNone;
  --keys_;
  // Whoever was pushed past the hole moves back into it.
  for (size_t next = (slot + 1) & mask; table_[next] != kNone; next = (next + 1) & mask) {
    const size_t home = nodes_[table_[next]].key & mask;
    if (((next - home) & mask) < ((next - slot) & mask)) continue;
    table_[slot] = table_[next];
    table_[next] = kNone;
    slot = next;
  }
}

void ApproxIndex::Grow() {
  std::vector<uint32_t> old(table_.size() * 2, kNone);
  old.swap(table_);
  for (const uint32_t head : old) {
    if (head != kNone) table_[SlotOf(nodes_[head].key)] = head;
  }
}

void ApproxIndex::LinkNewest(uint32_t node) {
  Server& server = *servers_[nodes_[node].server];
  nodes_[node].newer = kNone;
  nodes_[node].older = server.newest;
  if (server.newest != kNone) nodes_[server.newest].newer = node;
  server.newest = node;
  if (server.oldest == kNone) server.oldest = node;
  ++server.size;
}

void ApproxIndex::UnlinkAge(uint32_t node) {
  const Node& n = nodes_[node];
  Server& server = *servers_[n.server];
  (n.newer != kNone ? nodes_[n.newer].older : server.newest) = n.older;
  (n.older != kNone ? nodes_[n.older].newer : server.oldest) = n.newer;
  --server.size;
}

void ApproxIndex::Drop(uint32_t node) {
  UnlinkAge(node);
  const size_t slot = SlotOf(nodes_[node].key);
  if (table_[slot] == node && nodes_[node].next_holder == kNone) {
    EraseSlot(slot);
  } else if (table_[slot] == node) {
    table_[slot] = nodes_[node].next_holder;
  } else {
    uint32_t before = table_[slot];
    while (nodes_[before].next_holder != node) before = nodes_[before].next_holder;
    nodes_[before].next_holder = nodes_[node].next_holder;
  }
  free_nodes_.push_back(node);
  --entries_;
}

uint32_t ApproxIndex::ServerOf(fleet::EndpointId endpoint) {
  if (const auto it = server_of_.find(endpoint); it != server_of_.end()) return it->second;
  const auto free = std::find(servers_.begin(), servers_.end(), nullptr);
  const auto index = static_cast<uint32_t>(free - servers_.begin());
  if (free == servers_.end()) servers_.emplace_back();
  servers_[index] = std::make_unique<Server>();
  servers_[index]->endpoint = endpoint;
  server_of_[endpoint] = index;
  return index;
}

void ApproxIndex::Touch(uint32_t server, uint64_t key, size_t capacity) {
  for (uint32_t node = table_[SlotOf(key)]; node != kNone; node = nodes_[node].next_holder) {
    if (nodes_[node].server != server) continue;
    UnlinkAge(node);
    LinkNewest(node);
    return;
  }
  while (servers_[server]->size >= capacity) Drop(servers_[server]->oldest);
  if (entries_ >= max_entries_) {
    const auto largest =
        std::max_element(servers_.begin(), servers_.end(), [](const auto& a, const auto& b) {
          return (a == nullptr ? 0 : a->size) < (b == nullptr ? 0 : b->size);
        });
    Drop((*largest)->oldest);
  }
  if ((keys_ + 1) * 2 > table_.size()) Grow();
  uint32_t node;
  if (free_nodes_.empty()) {
    node = static_cast<uint32_t>(nodes_.size());
    nodes_.emplace_back();
  } else {
    node = free_nodes_.back();
    free_nodes_.pop_back();
  }
  const size_t slot = SlotOf(key);
  if (table_[slot] == kNone) ++keys_;
  nodes_[node] = {key, server, kNone, kNone, table_[slot]};
  table_[slot] = node;
  LinkNewest(node);
  ++entries_;
}

std::vector<uint32_t> ApproxIndex::Match(std::span<const uint64_t> chain,
                                         std::span<const fleet::EndpointId> endpoints,
                                         TimePoint now) const {
  std::vector<uint32_t> matched(endpoints.size(), 0);
  ReaderLock lock(mutex_);
  std::vector<uint32_t> place(servers_.size(), kNone);  // of a server in `endpoints`
  for (size_t i = 0; i < endpoints.size(); ++i) {
    const auto it = server_of_.find(endpoints[i]);
    if (it == server_of_.end()) continue;
    servers_[it->second]->seen.store(now.time_since_epoch().count(), std::memory_order_relaxed);
    place[it->second] = static_cast<uint32_t>(i);
  }
  for (size_t block = 0; block < chain.size(); ++block) {
    bool any = false;
    for (uint32_t node = table_[SlotOf(chain[block])]; node != kNone;
         node = nodes_[node].next_holder) {
      const uint32_t i = place[nodes_[node].server];
      if (i == kNone || matched[i] != block) continue;
      ++matched[i];
      any = true;
    }
    if (!any) break;
  }
  return matched;
}

void ApproxIndex::Store(fleet::EndpointId endpoint, std::span<const uint64_t> chain,
                        size_t capacity, TimePoint now) {
  capacity = std::max<size_t>(1, capacity);
  // The tail goes in first: it is the first to give way.
  std::span<const uint64_t> left = chain.first(std::min(capacity, chain.size()));
  while (!left.empty()) {
    const std::span<const uint64_t> batch = left.last(std::min(kBatch, left.size()));
    left = left.first(left.size() - batch.size());
    WriterLock lock(mutex_);
    const uint32_t server = ServerOf(endpoint);
    servers_[server]->seen.store(now.time_since_epoch().count(), std::memory_order_relaxed);
    while (servers_[server]->size > capacity) Drop(servers_[server]->oldest);
    for (size_t i = batch.size(); i-- > 0;) Touch(server, batch[i], capacity);
  }
}

void ApproxIndex::Sweep(TimePoint since) {
  WriterLock lock(mutex_);
  for (auto& server : servers_) {
    if (server == nullptr) continue;
    if (server->seen.load(std::memory_order_relaxed) >= since.time_since_epoch().count()) continue;
    while (server->oldest != kNone) Drop(server->oldest);
    server_of_.erase(server->endpoint);
    server.reset();
  }
}

size_t ApproxIndex::size() const {
  ReaderLock lock(mutex_);
  return entries_;
}

}  // namespace warmpath::scheduling
