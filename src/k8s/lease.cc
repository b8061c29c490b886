#include "k8s/lease.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "base/log.h"
#include "codec/json.h"
#include "net/percent.h"

namespace warmpath::k8s {
namespace {

using codec::Json;
using codec::JsonObject;

constexpr size_t kMaxLeaseBytes = size_t{1} << 20;  // annotations may be a quarter of that
constexpr Duration kReleaseDeadline = std::chrono::seconds(2);
// Whatever a lease says of its duration, it is judged by at least and at most this.
constexpr int64_t kMinDurationSeconds = 1;
constexpr int64_t kMaxDurationSeconds = 3600;

// RFC 3339, UTC, microseconds: what the API's MicroTime reads.
std::string MicroTime(WallTime at) {
  using namespace std::chrono;
  const auto day = floor<days>(at);
  const year_month_day date(day);
  const hh_mm_ss time(floor<microseconds>(at - day));
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     time.hours().count(), time.minutes().count(), time.seconds().count(),
                     time.subseconds().count());
}

// A lease as the server last gave it.
struct Lease {
  Json object;
  std::string spec;  // as text: what tells a change
  std::string holder, acquired;
  int64_t transitions = 0;
  Duration duration{};
  TimePoint since{};  // our clock, when `spec` was first seen
};

Result<Lease> ReadLease(const std::string& body, Duration default_duration) {
  Lease lease;
  WP_TRY(lease.object, codec::ParseJson(body, {.max_bytes = kMaxLeaseBytes}));
  const Json* meta = codec::Find(lease.object, "metadata");
  if (meta == nullptr || !codec::FindString(*meta, "resourceVersion")) {
    return Fail(Code::kInvalidArgument, "not a lease: metadata.resourceVersion is missing");
  }
  lease.duration = default_duration;
  const Json* spec = codec::Find(lease.object, "spec");
  if (spec == nullptr || !spec->is_object()) return lease;  // nobody's
  lease.spec = codec::DumpJson(*spec);
  lease.holder = codec::FindString(*spec, "holderIdentity").value_or("");
  lease.acquired = codec::FindString(*spec, "acquireTime").value_or("");
  lease.transitions = codec::FindInt(*spec, "leaseTransitions").value_or(0);
  if (const auto seconds = codec::FindInt(*spec, "leaseDurationSeconds")) {
    lease.duration =
        std::chrono::seconds(std::clamp(*seconds, kMinDurationSeconds, kMaxDurationSeconds));
  }
  return lease;
}

class LeaderElectorImpl final : public LeaderElector {
 public:
  LeaderElectorImpl(Api& api, Timers& timers, const Clock& clock, Registry& metrics,
                    LeaderOptions options, std::function<void(bool)> changed)
      : api_(api),
        timers_(timers),
        clock_(clock),
        options_(std::move(options)),
        changed_(std::move(changed)),
        collection_(fmt::format("/apis/coordination.k8s.io/v1/namespaces/{}/leases",
                                net::PercentEncode(options_.ns))),
        path_(collection_ + "/" + net::PercentEncode(options_.lease_name)),
        gauge_(
            metrics.AddGauge("warmpath_leader", "Whether this replica leads (1) or follows (0).")),
        errors_(metrics.AddCounter("warmpath_leader_election_errors_total",
                                   "Attempts to read or to write the lease that failed.")) {
    gauge_.Set(0);
  }
  ~LeaderElectorImpl() override { gauge_.Set(0); }

  void Start() override { Attempt(); }

  void Release(std::function<void()> done) override {
    if (released_) return done();
    waiting_for_release_.push_back(std::move(done));
    if (std::exchange(releasing_, true)) return;
    reread_ = false;
    retry_.reset();
    deadline_ = timers_.After(kReleaseDeadline, [this] { Released(); });
    SetLeading(false, "shutting down");
    // A request under way may yet make the lease ours: its answer is awaited and continues.
    if (call_ == nullptr) GiveBack();
  }

  bool leading() const override { return leading_until_.load() > Ticks(clock_.Now()); }
  std::string holder() const override { return seen_ ? seen_->holder : ""; }

 private:
  static int64_t Ticks(TimePoint at) { return at.time_since_epoch().count(); }

  // ---- one attempt: what is known to be ours is renewed without being read first

  void Attempt() {
    reread_ = false;
    if (seen_ && seen_->holder == options_.identity) return Put(Held());
    Get();
  }

  void Get() {
    Send("GET", path_, "", [this](Result<ApiAnswer> answer, TimePoint) {
      if (answer && answer->status == 404) {
        seen_.reset();
        return releasing_ ? Released() : Post();
      }
      if (!answer || answer->status != 200) return Failed("reading the lease", answer);
      if (Observe(answer->body)) Decide();
    });
  }

  void Decide() {
    if (releasing_) return GiveBack();
    const Duration left = seen_->since + seen_->duration - clock_.Now();
    const bool ours_or_free = seen_->holder == options_.identity || seen_->holder.empty();
    if (ours_or_free || left <= Duration::zero()) return Put(Held());
    Schedule(std::min(Jittered(), left));
    SetLeading(false, "the lease is another's");
  }

  void GiveBack() {
    if (!seen_ || seen_->holder != options_.identity) return Released();
    const std::string now = MicroTime(clock_.WallNow());
    JsonObject spec = SpecSeen();
    spec["holderIdentity"] = "";
    spec["leaseDurationSeconds"] = 1;
    spec["acquireTime"] = now;
    spec["renewTime"] = now;
    Put(std::move(spec));
  }

  void Post() {
    JsonObject spec = Held();
    const JsonObject lease{
        {"apiVersion", "coordination.k8s.io/v1"},
        {"kind", "Lease"},
        {"metadata", JsonObject{{"name", options_.lease_name}, {"namespace", options_.ns}}},
        {"spec", std::move(spec)}};
    Write("POST", collection_, codec::DumpJson(lease));
  }

  // Everything of the lease but its spec goes back as it came, its resourceVersion above all: a
  // write since then is a conflict.
  void Put(JsonObject spec) {
    Json lease = seen_->object;
    lease.as_object()["spec"] = std::move(spec);
    Write("PUT", path_, codec::DumpJson(lease));
  }

  void Write(const char* method, const std::string& path, std::string body) {
    Send(method, path, std::move(body), [this](Result<ApiAnswer> answer, TimePoint sent) {
      const int status = answer ? answer->status : 0;
      // Written by another, or deleted, since it was read; once per attempt, so as not to race on.
      if ((status == 409 || status == 404) && !std::exchange(reread_, true)) return Get();
      if (status != 200 && status != 201) return Failed("writing the lease", answer);
      if (!Observe(answer->body)) return;
      if (releasing_) return GiveBack();
      if (seen_->holder == options_.identity) return Renewed(sent);
      Schedule(Jittered());
    });
  }

  JsonObject SpecSeen() const {
    const Json* spec = seen_ ? codec::Find(seen_->object, "spec") : nullptr;
    return spec != nullptr && spec->is_object() ? spec->get_object() : JsonObject();
  }

  // The spec that makes the lease ours, or keeps it so.
  JsonObject Held() const {
    const std::string now = MicroTime(clock_.WallNow());
    const bool ours = seen_ && seen_->holder == options_.identity;
    JsonObject spec = SpecSeen();
    spec["holderIdentity"] = options_.identity;
    spec["leaseDurationSeconds"] =
        std::chrono::duration_cast<std::chrono::seconds>(options_.lease_duration).count();
    spec["acquireTime"] = ours && !seen_->acquired.empty() ? seen_->acquired : now;
    spec["renewTime"] = now;
    spec["leaseTransitions"] = !seen_ ? 0 : seen_->transitions + (ours ? 0 : 1);
    return spec;
  }

  // ---- what comes of it

  // False: it failed, and that has been dealt with.
  bool Observe(const std::string& body) {
    auto lease = ReadLease(body, options_.lease_duration);
    if (!lease) {
      Failed("reading the answer", tl::unexpected(lease.error()));
      return false;
    }
    if (!std::exchange(error_, "").empty()) {
      WP_LOG(kInfo, "leader", "The lease is to be had again", {"lease", options_.lease_name});
    }
    lease->since = seen_ && seen_->spec == lease->spec ? seen_->since : clock_.Now();
    if ((!seen_ || seen_->holder != lease->holder) && lease->holder != options_.identity) {
      WP_LOG(kInfo, "leader", "The lease changed hands", {"lease", options_.lease_name},
             {"holder", lease->holder});
    }
    seen_ = std::move(*lease);
    return true;
  }

  // Counted from when the renewal was sent: the others may count from then.
  void Renewed(TimePoint sent) {
    Schedule(options_.retry_period);
    const TimePoint until = sent + options_.renew_deadline;
    const Duration left = until - clock_.Now();
    if (left <= Duration::zero()) return SetLeading(false, "the renewal came too late");
    deadline_ = timers_.After(left, [this] { OnDeadline(); });
    leading_until_ = Ticks(until);
    SetLeading(true, "the lease is ours");
  }

  void OnDeadline() {
    if (leading()) {  // the timer's clock is ahead of ours
      deadline_ = timers_.After(std::chrono::milliseconds(10), [this] { OnDeadline(); });
      return;
    }
    SetLeading(false, "the lease could not be renewed in time");
  }

  void Failed(std::string_view doing, const Result<ApiAnswer>& answer) {
    errors_.Add();
    if (releasing_) return Released();
    const std::string error =
        fmt::format("{}: {}", doing, answer ? AnswerError(*answer) : answer.error().message);
    if (std::exchange(error_, error) != error) {
      WP_LOG(kWarn, "leader", "Leader election fails", {"lease", options_.lease_name},
             {"namespace", options_.ns}, {"error", error});
    }
    const Duration asked = answer ? answer->retry_after : Duration::zero();
    Schedule(std::max(Jittered(), std::min(asked, options_.renew_deadline / 2)));
  }

  void SetLeading(bool leading, const char* why) {
    if (!leading) leading_until_ = 0;
    if (std::exchange(leads_, leading) == leading) return;
    gauge_.Set(leading ? 1 : 0);
    WP_LOG(kInfo, "leader", leading ? "This replica leads" : "This replica no longer leads",
           {"lease", options_.lease_name}, {"identity", options_.identity}, {"why", why});
    changed_(leading);
  }

  void Released() {
    released_ = true;
    call_.reset();
    deadline_.reset();
    for (auto& done : std::exchange(waiting_for_release_, {})) done();
  }

  void Schedule(Duration delay) {
    retry_ = timers_.After(delay, [this] { Attempt(); });
  }

  // Up to a quarter longer, so that replicas started together do not stay in step.
  Duration Jittered() {
    const uint64_t draw = Xxh3(options_.identity, ++draws_) % 1000;
    return options_.retry_period + options_.retry_period * static_cast<int64_t>(draw) / 4000;
  }

  // `then` is told when the request was sent. It may send the next one.
  template <typename Then>
  void Send(const char* method, const std::string& path, std::string body, Then then) {
    ApiRequest request;
    request.method = method;
    request.path = path;
    request.body = std::move(body);
    request.head_timeout = request.idle_timeout = options_.renew_deadline / 2;
    request.max_body = kMaxLeaseBytes;
    call_ = api_.Send(std::move(request),
                      [this, then, sent = clock_.Now()](Result<ApiAnswer> answer) mutable {
                        const auto finished = std::move(call_);
                        then(std::move(answer), sent);
                      });
  }

  Api& api_;
  Timers& timers_;
  const Clock& clock_;
  const LeaderOptions options_;
  const std::function<void(bool)> changed_;
  const std::string collection_, path_;
  const Gauge gauge_;
  const Counter errors_;

  std::optional<Lease> seen_;
  bool reread_ = false;  // in this attempt
  bool leads_ = false;   // as last told
  std::atomic<int64_t> leading_until_{0};
  std::string error_;  // as last logged; "" = none since the last success
  uint64_t draws_ = 0;
  bool releasing_ = false, released_ = false;
  std::vector<std::function<void()>> waiting_for_release_;

  std::shared_ptr<void> retry_, deadline_;
  std::unique_ptr<ApiCall> call_;
};

}  // namespace

std::string LeaseName(const std::string& ns, const std::string& pool) {
  return fmt::format("epp-{}-{}.llm-d.ai", ns, pool);
}

std::string LeaderIdentity(const std::string& pod) {
  return pod + "_" + RandomUuid();
}

std::unique_ptr<LeaderElector> LeaderElector::Create(Api& api, Timers& timers, const Clock& clock,
                                                     Registry& metrics, LeaderOptions options,
                                                     std::function<void(bool)> changed) {
  return std::make_unique<LeaderElectorImpl>(api, timers, clock, metrics, std::move(options),
                                             std::move(changed));
}

}  // namespace warmpath::k8s
