#include "events/manager.h"

#include <fmt/format.h>
#include <zmq.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/log.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "base/units.h"
#include "events/endpoint_watch.h"
#include "events/metrics.h"
#include "events/worker.h"

namespace warmpath::events {

namespace {

// tcp://host:port of rank 0 -> that of `rank`; other transports have one rank.
std::string AddressOfRank(const std::string& address, uint16_t rank) {
  if (address.empty() || rank == 0) return address;
  const size_t colon = address.rfind(':');
  const auto port = ParseInt(std::string_view(address).substr(colon + 1));
  if (colon == std::string::npos || !port) return address;
  return fmt::format("{}:{}", address.substr(0, colon), *port + rank);
}

class ManagerImpl final : public EventsManager {
 public:
  ManagerImpl(EventsOptions options, index::KvIndex& index, Registry& registry, const Clock& clock)
      : options_(std::move(options)),
        index_(index),
        metrics_(registry),
        clock_(clock),
        context_(zmq_ctx_new()) {
    zmq_ctx_set(context_, ZMQ_MAX_SOCKETS, 65535);
    zmq_ctx_set(context_, ZMQ_THREAD_SCHED_POLICY, BackgroundPolicy());
    metrics_.queue_capacity.Set(static_cast<double>(options_.max_queued_messages));
    for (size_t i = 0; i < std::max<size_t>(1, options_.threads); ++i) {
      workers_.push_back(std::make_unique<Worker>(context_, options_, metrics_, clock_,
                                                  fmt::format("events-{}", i)));
    }
  }
  ~ManagerImpl() override {
    Stop();
    {
      WriterLock lock(mutex_);
      endpoints_.clear();
    }
    workers_.clear();
    zmq_ctx_term(context_);
  }

  Status Bind() { return options_.bind.empty() ? Status() : workers_[0]->Bind(options_.bind); }

  void SetEndpoints(const fleet::Snapshot& snapshot) override;
  void NoteTraffic(fleet::EndpointId endpoint, uint64_t prompt_tokens) override;
  std::vector<PublisherStatus> status() const override;
  std::vector<fleet::EndpointId> flowing() const override;
  uint32_t block_size(fleet::EndpointId endpoint) const override;
  uint16_t bound_port() const override {
    return options_.bind.empty() ? 0 : workers_[0]->bound_port();
  }
  void Unbind() override {
    if (!options_.bind.empty()) workers_[0]->Unbind();
  }
  void Start() override {
    for (const auto& worker : workers_) worker->Start();
  }
  void Stop() override {
    for (const auto& worker : workers_) worker->Stop();
  }

 private:
  struct Entry {
    std::shared_ptr<EndpointWatch> watch;
    std::vector<std::shared_ptr<Slot>> slots;  // by rank
    std::string events, replay;
    uint16_t ranks = 1;
    BoundIdentity::Candidate candidate;  // with addresses only in bind mode
  };

  using Addresses = std::map<fleet::EndpointId, std::vector<std::string>>;

  // Of the endpoints whose bound publisher has no address yet. May block.
  Addresses Resolve(const fleet::Snapshot& snapshot) const EXCLUDES(mutex_);
  std::shared_ptr<Slot> MakeSlot(const fleet::Endpoint& endpoint, uint16_t rank,
                                 const std::shared_ptr<EndpointWatch>& watch);
  Worker& WorkerOf(const Entry& entry) const {
    // The bound socket is the first worker's, and a publisher belongs to one thread.
    return entry.events.empty() ? *workers_[0]
                                : *workers_[entry.watch->endpoint() % workers_.size()];
  }
  void Drop(const Entry& entry) {
    for (const auto& slot : entry.slots) WorkerOf(entry).Remove(slot);
  }

  const EventsOptions options_;
  index::KvIndex& index_;
  EventsMetrics metrics_;
  const Clock& clock_;
  void* const context_;
  std::vector<std::unique_ptr<Worker>> workers_;
  Mutex changing_;  // one SetEndpoints at a time; taken before mutex_
  mutable SharedMutex mutex_;
  std::map<fleet::EndpointId, Entry> endpoints_ GUARDED_BY(mutex_);
};

std::shared_ptr<Slot> ManagerImpl::MakeSlot(const fleet::Endpoint& endpoint, uint16_t rank,
                                            const std::shared_ptr<EndpointWatch>& watch) {
  auto slot = std::make_shared<Slot>();
  slot->events_address = AddressOfRank(endpoint.spec.events, rank);
  slot->replay_address = AddressOfRank(endpoint.spec.replay, rank);
  Publisher::Options options;
  options.holder = {endpoint.id, rank};
  options.address = slot->events_address.empty() ? "bind" : slot->events_address;
  options.replay_offered = !slot->replay_address.empty();
  options.applier = {options_.max_orphan_blocks, options_.max_orphan_age};
  slot->publisher = std::make_unique<Publisher>(
      std::move(options), index_, watch, metrics_.ForPublisher(watch->name()), metrics_,
      [raw = slot.get()](uint64_t first) { raw->wanted_replay = first; });
  return slot;
}

ManagerImpl::Addresses ManagerImpl::Resolve(const fleet::Snapshot& snapshot) const {
  Addresses found;
  {
    ReaderLock lock(mutex_);
    for (const auto& endpoint : snapshot.endpoints) {
      const auto known = endpoints_.find(endpoint->id);
      const bool resolved = known != endpoints_.end() && !known->second.candidate.addresses.empty();
      if (endpoint->spec.events.empty() && !resolved) found[endpoint->id];
    }
  }
  for (const auto& endpoint : snapshot.endpoints) {
    const auto wanted = found.find(endpoint->id);
    if (wanted == found.end()) continue;
    const std::string& host = endpoint->spec.url.address.host;
    wanted->second = options_.resolve ? options_.resolve(host) : AddressesOf(host);
  }
  return found;
}

void ManagerImpl::SetEndpoints(const fleet::Snapshot& snapshot) {
  MutexLock changing(changing_);
  const bool bind = !options_.bind.empty();
  // Before the lock that every request takes.
  Addresses resolved = bind ? Resolve(snapshot) : Addresses();
  std::unordered_map<fleet::EndpointId, const fleet::EndpointSpec*> specs;
  for (const auto& endpoint : snapshot.endpoints) specs.emplace(endpoint->id, &endpoint->spec);
  WriterLock lock(mutex_);
  bool other_candidates = false;
  std::erase_if(endpoints_, [&](const auto& entry) {
    const auto spec = specs.find(entry.first);
    const bool stays = spec != specs.end() && spec->second->events == entry.second.events &&
                       spec->second->replay == entry.second.replay &&
                       std::max<uint16_t>(1, spec->second->data_parallel) == entry.second.ranks;
    if (!stays) Drop(entry.second);
    other_candidates |= !stays;
    return !stays;
  });
  std::vector<BoundIdentity::Candidate> candidates;
  for (const auto& endpoint : snapshot.endpoints) {
    auto [it, added] = endpoints_.try_emplace(endpoint->id);
    Entry& entry = it->second;
    if (added) {
      entry.watch = std::make_shared<EndpointWatch>(endpoint->id, endpoint->name());
      entry.events = endpoint->spec.events;
      entry.replay = endpoint->spec.replay;
      entry.ranks = std::max<uint16_t>(1, endpoint->spec.data_parallel);
      const bool bound = bind && entry.events.empty();
      entry.candidate = {
          endpoint->id, {}, endpoint->spec.url.address.port, endpoint->spec.incarnation};
      other_candidates = true;
      for (uint16_t rank = 0; rank < entry.ranks && (bound || !entry.events.empty()); ++rank) {
        entry.slots.push_back(MakeSlot(*endpoint, rank, entry.watch));
        WorkerOf(entry).Add(entry.slots.back());
      }
    }
    entry.watch->HintBlockSize(endpoint->load.block_size);
    entry.watch->NoteHealth(endpoint->health == fleet::Health::kUnhealthy);
    const auto found = resolved.find(endpoint->id);
    if (found != resolved.end() && !found->second.empty()) {
      entry.candidate.addresses = std::move(found->second);
      other_candidates = true;
    }
    if (!entry.candidate.addresses.empty()) candidates.push_back(entry.candidate);
  }
  if (bind && other_candidates) workers_[0]->SetCandidates(std::move(candidates));
}

void ManagerImpl::NoteTraffic(fleet::EndpointId endpoint, uint64_t prompt_tokens) {
  ReaderLock lock(mutex_);
  const auto it = endpoints_.find(endpoint);
  if (it != endpoints_.end()) it->second.watch->NoteTraffic(prompt_tokens, clock_.Now());
}

std::vector<PublisherStatus> ManagerImpl::status() const {
  std::vector<PublisherStatus> all;
  ReaderLock lock(mutex_);
  for (const auto& [id, entry] : endpoints_) {
    for (const auto& slot : entry.slots)
      all.push_back(slot->publisher->status(clock_.Now(), options_.silent_after));
  }
  return all;
}

std::vector<fleet::EndpointId> ManagerImpl::flowing() const {
  std::vector<fleet::EndpointId> flowing;
  const TimePoint now = clock_.Now();
  ReaderLock lock(mutex_);
  flowing.reserve(endpoints_.size());
  for (const auto& [id, entry] : endpoints_) {
    const bool flows = std::any_of(entry.slots.begin(), entry.slots.end(), [&](const auto& slot) {
      return slot->publisher->flows(now, options_.silent_after);
    });
    if (flows) flowing.push_back(id);
  }
  return flowing;
}

uint32_t ManagerImpl::block_size(fleet::EndpointId endpoint) const {
  ReaderLock lock(mutex_);
  const auto it = endpoints_.find(endpoint);
  return it == endpoints_.end() ? 0 : it->second.watch->block_size();
}

}  // namespace

Result<std::unique_ptr<EventsManager>> EventsManager::Create(EventsOptions options,
                                                             index::KvIndex& index,
                                                             Registry& metrics,
                                                             const Clock& clock) {
  auto manager = std::make_unique<ManagerImpl>(std::move(options), index, metrics, clock);
  WP_RETURN_IF_ERROR(manager->Bind());
  return manager;
}

}  // namespace warmpath::events
