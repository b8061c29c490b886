#include "routing/view.h"

#include <fmt/format.h>

#include <algorithm>

#include "routing/attributes.h"

namespace warmpath::routing {
namespace {

using EndpointPtr = std::shared_ptr<const fleet::Endpoint>;

// Names come from clients: more pools than this are made anew for each request.
constexpr size_t kMaxPools = 256;

std::string AdapterOf(const fleet::Endpoint& endpoint, const std::string& model) {
  const fleet::ServedModel* served = endpoint.FindModel(model);
  return served != nullptr && served->is_adapter() ? served->id : std::string();
}

Pool MakePool(const fleet::Snapshot& snapshot, const std::vector<EndpointPtr>& endpoints,
              const std::string& model) {
  Pool pool;
  pool.members.reserve(endpoints.size());
  uint32_t place = 0;
  for (const EndpointPtr& endpoint : endpoints) {
    while (snapshot.endpoints[place] != endpoint) ++place;
    const std::string adapter = AdapterOf(*endpoint, model);
    const auto known = std::find(pool.adapters.begin(), pool.adapters.end(), adapter);
    const auto number = static_cast<uint32_t>(known - pool.adapters.begin());
    if (known == pool.adapters.end()) pool.adapters.push_back(adapter);
    pool.by_id.emplace_back(endpoint->id, static_cast<uint32_t>(pool.members.size()));
    pool.members.push_back({place, number});
  }
  std::sort(pool.by_id.begin(), pool.by_id.end());
  return pool;
}

std::shared_ptr<const Roster> MakeRoster(const fleet::Snapshot& snapshot, const Roster* before) {
  auto roster = std::make_shared<Roster>();
  roster->reserve(snapshot.endpoints.size());
  size_t old = 0;
  for (const EndpointPtr& endpoint : snapshot.endpoints) {
    // Both are in the order the endpoints were given; whoever is passed over has left.
    size_t found = old;
    while (before != nullptr && found < before->size() && (*before)[found]->id != endpoint->id)
      ++found;
    if (before != nullptr && found < before->size()) {
      roster->push_back((*before)[found]);
      old = found + 1;
    } else {
      roster->push_back(std::make_shared<const EndpointName>(
          EndpointName{endpoint->id, endpoint->name(), endpoint->spec.url.ToString()}));
    }
  }
  return roster;
}

bool SameMembers(const Roster& roster, const fleet::Snapshot& snapshot) {
  return std::equal(
      roster.begin(), roster.end(), snapshot.endpoints.begin(), snapshot.endpoints.end(),
      [](const auto& name, const EndpointPtr& endpoint) { return name->id == endpoint->id; });
}

}  // namespace

uint32_t BlockSizeOf(const fleet::Endpoint& endpoint, const events::EventsManager* events) {
  const uint32_t learned = events == nullptr ? 0 : events->block_size(endpoint.id);
  return learned != 0 ? learned : endpoint.load.block_size;
}

Result<std::vector<EndpointPtr>> EligibleEndpoints(
    const fleet::Snapshot& snapshot, const std::string& model,
    const std::vector<fleet::EndpointId>& exclude,
    const std::optional<std::vector<std::string>>& subset) {
  std::optional<Subset> allowed;
  if (subset) allowed.emplace(*subset);
  std::vector<EndpointPtr> healthy;
  std::vector<EndpointPtr> unknown;
  size_t serving = 0;
  size_t within = 0;  // serving, and in the subset
  for (const EndpointPtr& endpoint : snapshot.endpoints) {
    if (!model.empty() && !endpoint->models.empty() && endpoint->FindModel(model) == nullptr)
      continue;
    ++serving;
    if (allowed && !allowed->Contains(*endpoint)) continue;
    ++within;
    if (std::find(exclude.begin(), exclude.end(), endpoint->id) != exclude.end()) continue;
    if (endpoint->health == fleet::Health::kHealthy) healthy.push_back(endpoint);
    // A proxy cannot be sent to a name.
    if (endpoint->health == fleet::Health::kUnknown && endpoint->has_address())
      unknown.push_back(endpoint);
  }
  if (serving == 0 && !snapshot.endpoints.empty()) {
    return Fail(Code::kNotFound, fmt::format("The model `{}` does not exist.", model));
  }
  if (allowed && within == 0) {
    return Fail(Code::kUnavailable, "No engine of the requested subset can serve the request.");
  }
  if (!healthy.empty()) return healthy;
  if (!unknown.empty()) return unknown;
  return Fail(Code::kUnavailable,
              exclude.empty()
                  ? fmt::format("No engine can serve the request: {} configured, none healthy.",
                                snapshot.endpoints.size())
                  : std::string("No other engine can serve the request."));
}

View::View(std::shared_ptr<const fleet::Snapshot> snapshot,
           std::shared_ptr<const FlowingEvents> flowing, const ViewSources& sources, TimePoint now,
           const View* before)
    : snapshot_(std::move(snapshot)), flowing_(std::move(flowing)), read_at_(now) {
  const auto& endpoints = snapshot_->endpoints;
  const bool same_members = before != nullptr && SameMembers(*before->roster_, *snapshot_);
  roster_ = same_members
                ? before->roster_
                : MakeRoster(*snapshot_, before == nullptr ? nullptr : before->roster_.get());
  const bool same_blocks =
      same_members && flowing_ == before->flowing_ && now - before->read_at_ < kViewAge;
  if (same_blocks) read_at_ = before->read_at_;
  if (same_members) {
    entries_ = before->entries_;
  } else {
    std::vector<fleet::EndpointId> ids;
    ids.reserve(endpoints.size());
    for (const EndpointPtr& endpoint : endpoints) ids.push_back(endpoint->id);
    std::vector<fleet::InflightGauge> gauges = sources.inflight.Gauges(ids);
    entries_.resize(endpoints.size());
    for (size_t i = 0; i < endpoints.size(); ++i) entries_[i].inflight = std::move(gauges[i]);
  }
  for (size_t i = 0; i < endpoints.size(); ++i) {
    Entry& entry = entries_[i];
    const fleet::Endpoint& endpoint = *endpoints[i];
    const bool same = entry.endpoint == &endpoint;
    entry.endpoint = &endpoint;
    if (!same) entry.address = endpoint.address();
    if (same && same_blocks) continue;
    entry.block_size = BlockSizeOf(endpoint, sources.events);
    if (same_blocks) continue;
    entry.flowing = std::binary_search(flowing_->begin(), flowing_->end(), endpoint.id);
    entry.resident_blocks = sources.index.EndpointBlocks(endpoint.id);
  }
}

Result<std::shared_ptr<const Pool>> View::PoolOf(
    const std::string& model, bool any_model, const std::vector<fleet::EndpointId>& exclude,
    const std::optional<std::vector<std::string>>& subset) const {
  const bool anywhere = exclude.empty() && !subset;
  if (anywhere) {
    MutexLock lock(mutex_);
    const auto known = pools_.find(model);
    if (known != pools_.end()) return known->second;
  }
  auto endpoints = EligibleEndpoints(*snapshot_, model, exclude, subset);
  if (!endpoints && any_model && endpoints.error().code == Code::kNotFound)
    endpoints = EligibleEndpoints(*snapshot_, "", exclude, subset);
  if (!endpoints) return tl::unexpected(endpoints.error());
  auto pool = std::make_shared<const Pool>(MakePool(*snapshot_, *endpoints, model));
  if (anywhere) {
    MutexLock lock(mutex_);
    if (pools_.size() < kMaxPools) pools_.emplace(model, pool);
  }
  return pool;
}

}  // namespace warmpath::routing
